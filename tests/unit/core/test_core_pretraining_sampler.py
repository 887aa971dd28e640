import re
from collections import Counter

import pytest

from fedmedlora_core.labels import ENTITY_TYPES, MODIFIER_TYPES
from fedmedlora_core.pretraining import words
from fedmedlora_core.pretraining.nonsense import copyable_pieces
from fedmedlora_core.pretraining.sampler import SHARES, Sample, Sampler
from fedmedlora_core.pretraining.tokenizer import train_tokenizer

PIECES = copyable_pieces(list(train_tokenizer(1).get_vocab()))
LABELS = {*ENTITY_TYPES, *MODIFIER_TYPES}


def draws(seed: int, count: int) -> list[Sample]:
    sampler = Sampler(seed, PIECES)
    return [sampler.draw() for _ in range(count)]


def kinds_trained(sample: Sample) -> set[str]:
    """Kinds that an exercise names in its prompt or asks for in its answer."""
    listing = sample.prompt.split("<|in|>")[0]
    if "<|copy|>" in listing or "<|txt|>" in listing:
        return set()
    named = {part.split(":")[0] for part in listing.split()[1:]} if ":" not in listing else set()
    defined = set(re.findall(r"(\S+):", listing))
    answered = set(re.findall(r'class="([^"]*)"', sample.target)) | set(
        re.findall(r"(?:^ | ; )(\S+): ", sample.target)
    )
    return named | defined | answered


def test_the_same_seed_draws_the_same_exercises() -> None:
    assert draws(7, 200) == draws(7, 200)
    assert draws(7, 200) != draws(8, 200)


def test_no_clinical_label_is_ever_a_kind() -> None:
    for sample in draws(11, 4000):
        assert not kinds_trained(sample) & LABELS, sample


def test_the_check_for_clinical_labels_would_find_one() -> None:
    marked = Sample("spans", "<|html|> drug <|in|> x <|out|>", ' <span class="drug"> x </span> <|end|>')
    listed = Sample("relations", "<|re|> zib <|in|> no [ x ] <|out|>", " negation: no <|end|>")
    assert kinds_trained(marked) & LABELS
    assert kinds_trained(listed) & LABELS


def test_the_label_words_are_the_schema() -> None:
    assert {*words.LABEL_WORDS} - {"none"} == LABELS


def test_no_phrase_of_the_exercises_is_a_clinical_term() -> None:
    terms = {"aspirin", "hypertension", "dyspnea", "metformin", "mri", "seizure", "problem", "drug"}
    phrases = [
        p for table in (words.FILLERS, words.CONTEXTS, words.MODIFIERS) for v in table.values() for p in v
    ]
    for phrase in (*phrases, *words.PLAIN, *words.NEUTRAL):
        assert not terms & set(phrase.lower().split())


@pytest.mark.parametrize("task", ["copy", "unmarked", "spans", "defined"])
def test_an_answer_without_its_tags_is_the_sentence(task: str) -> None:
    sampler = Sampler(3, PIECES)
    for _ in range(300):
        sample = sampler.of_task(task)
        if "<|list|>" in sample.prompt:
            continue
        sentence = sample.prompt.split("<|in|>")[1].removesuffix(" <|out|>")
        answer = re.sub(r' <span class="[^"]*">| </span>', "", sample.target).removesuffix(" <|end|>")
        assert answer == sentence


def test_an_unmarked_sentence_has_no_tag_and_lists_only_unknown_kinds() -> None:
    sampler = Sampler(5, PIECES)
    for _ in range(300):
        sample = sampler.of_task("unmarked")
        assert "<span" not in sample.target
        assert not {*sample.prompt.split("<|in|>")[0].split()[1:]} & {*words.KINDS}


def test_only_listed_kinds_are_answered() -> None:
    sampler = Sampler(6, PIECES)
    for task in ("spans", "relations"):
        for _ in range(300):
            sample = sampler.of_task(task)
            answered = set(re.findall(r'class="([^"]*)"|(\w+): ', sample.target))
            assert {a or b for a, b in answered} <= {*sample.prompt.split("<|in|>")[0].split()[1:]}


def test_a_head_stands_in_brackets_once() -> None:
    sampler = Sampler(9, PIECES)
    for _ in range(300):
        sentence = sampler.of_task("relations").prompt.split("<|in|>")[1].split()
        assert (sentence.count("["), sentence.count("]")) == (1, 1)


def test_tasks_are_drawn_by_their_shares_and_the_start_copies_more() -> None:
    sampler = Sampler(13, PIECES)
    plain = Counter(sampler.draw().task for _ in range(3000))
    early = Counter(sampler.draw(extra_copy=0.35, length=0.25).task for _ in range(1000))
    for task, share in SHARES.items():
        assert abs(plain[task] / 3000 - share) < 0.03
    assert early["copy"] + early["unmarked"] > 400


def test_exercises_grow_with_the_curriculum() -> None:
    sampler = Sampler(17, PIECES)
    short = sum(len(sampler.draw(length=0.25).target) for _ in range(500))
    full = sum(len(sampler.draw(length=1.0).target) for _ in range(500))
    assert short < 0.7 * full
