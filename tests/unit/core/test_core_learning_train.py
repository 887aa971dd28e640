"""Training, decoding and prediction: reproducible, on the answer only, never on what was not annotated."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn import functional

from fedmedlora_core.codec import FloatVector
from fedmedlora_core.errors import ConfigError, NonFiniteError
from fedmedlora_core.labels import label_set
from fedmedlora_core.learning.base import load_base, reproducible
from fedmedlora_core.learning.decode import greedy
from fedmedlora_core.learning.evaluate import (
    predict,
    predict_entities,
    predict_relations,
    validation_loss,
)
from fedmedlora_core.learning.generative import GenerativeLearner
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import LoraTerms, load_vector, read_adapter, read_vector
from fedmedlora_core.learning.site_round import learner_for, make_learner, train_round
from fedmedlora_core.learning.tagging import TaggingLearner, TagSample
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import bucketed_batches, epoch_samples, train_local
from fedmedlora_core.study import Study
from fedmedlora_core.tasks.tagging import tag_names
from fedmedlora_testkit.models import make_notes, write_causal, write_encoder
from fedmedlora_testkit.studies import changed, make_study

LABELS = label_set(["problem", "drug"], ["negation", "strength"])
TERMS = LoraTerms(rank=4, alpha=8, targets=("all-linear",), mode="ab")
ENCODER_TERMS = LoraTerms(rank=8, alpha=16, targets=("query", "value"), mode="ffa")
SHORT = TrainTerms(local_epochs=1, batch_size=8, learning_rate=5e-3, warmup_steps=2)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("causal"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_causal(tmp_path_factory.mktemp("plain"), control_tokens=False)


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


def generative(folder: Path, *, max_tokens: int = 400) -> GenerativeLearner:
    learner = make_learner(load_base(folder, kind="causal"), TERMS, LABELS, seed=1, max_tokens=max_tokens)
    assert isinstance(learner, GenerativeLearner)
    return learner


def tagging(folder: Path) -> TaggingLearner:
    base = load_base(folder, kind="token_classification", tags=tag_names(LABELS))
    learner = make_learner(base, ENCODER_TERMS, LABELS, seed=1, max_tokens=128)
    assert isinstance(learner, TaggingLearner)
    return learner


def make(kind: str, causal: Path, encoder: Path) -> Learner:
    return generative(causal) if kind == "causal" else tagging(encoder)


@pytest.mark.parametrize("kind", ["causal", "token_classification"])
def test_same_seed_gives_the_same_bytes(causal: Path, encoder: Path, kind: str) -> None:
    vectors: list[FloatVector] = []
    for seed in (5, 5, 6):
        learner = make(kind, causal, encoder)
        torch.manual_seed(seed * len(vectors))  # the caller's random state must not matter
        train_local(learner, learner.samples(make_notes(12), ["ner", "re"]), SHORT, seed=seed)
        vectors.append(read_vector(learner.model))
    assert np.array_equal(vectors[0], vectors[1])
    assert not np.array_equal(vectors[0], vectors[2])


def test_training_leaves_the_callers_threads_and_random_state(causal: Path) -> None:
    learner = generative(causal)
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    train_local(learner, learner.samples(make_notes(4), ["ner"]), SHORT, seed=1)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("kind", ["causal", "token_classification"])
def test_only_the_adapter_changes(causal: Path, encoder: Path, kind: str) -> None:
    learner = make(kind, causal, encoder)
    before = {name: p.clone() for name, p in learner.model.named_parameters()}
    train_local(learner, learner.samples(make_notes(8), ["ner", "re"]), SHORT, seed=1)
    moved = {name for name, p in learner.model.named_parameters() if not torch.equal(p, before[name])}
    assert moved == {name for name, p in learner.model.named_parameters() if p.requires_grad}


@pytest.mark.parametrize("template", ["tiny", "plain"])
def test_loss_is_that_of_the_answer_tokens_alone(causal: Path, plain: Path, template: str) -> None:
    learner = generative(causal if template == "tiny" else plain)
    samples = learner.samples(make_notes(3), ["ner", "re"])
    with torch.no_grad():
        total, count = learner.loss(samples)
        expected, tokens = 0.0, 0
        for sample in samples:
            ids = torch.tensor([sample.ids])
            logits = learner.model(input_ids=ids).logits[0, sample.answer_start - 1 : -1]
            expected += float(
                functional.cross_entropy(logits, ids[0, sample.answer_start :], reduction="sum")
            )
            tokens += len(sample.ids) - sample.answer_start
    assert count == tokens
    assert float(total) == pytest.approx(expected, rel=1e-4)


def test_answer_is_what_the_template_wrote(causal: Path) -> None:
    learner = generative(causal)
    sample = learner.samples(make_notes(1), ["ner"])[0]
    text = learner.tokenizer.decode(sample.ids, skip_special_tokens=False)
    answer = learner.tokenizer.decode(sample.ids[sample.answer_start :], skip_special_tokens=False)
    assert text.startswith("<|html|> problem drug<|in|> No fever .<|out|>")
    assert answer == ' No <span class="problem"> fever </span> .<|end|>'


def test_examples_longer_than_the_limit_are_left_out(causal: Path) -> None:
    everything = generative(causal).samples(make_notes(6), ["ner", "re"])
    limit = sorted(sample.length for sample in everything)[len(everything) // 2]
    kept = generative(causal, max_tokens=limit).samples(make_notes(6), ["ner", "re"])
    assert [s.ids for s in kept] == [s.ids for s in everything if s.length <= limit]


def test_left_out_examples_are_counted(causal: Path) -> None:
    learner = generative(causal, max_tokens=60)
    kept = learner.samples(make_notes(6), ["ner", "re"])
    assert learner.left_out > 0
    assert len(kept) + learner.left_out == len(generative(causal).samples(make_notes(6), ["ner", "re"]))


def test_special_tokens_in_a_note_stay_text_for_ordinary_models(plain: Path) -> None:
    learner = generative(plain)
    note = replace(make_notes(1)[0], text="No fever <|end|> [INST] . Takes aspirin 1 mg daily .", entities=())
    sample = learner.samples([replace(note, relations=())], ["ner"])[0]
    assert list(sample.ids).count(learner.tokenizer.eos_token_id) == 1
    assert sample.ids[-1] == learner.tokenizer.eos_token_id


def test_training_lowers_the_loss(causal: Path) -> None:
    learner = generative(causal)
    notes = make_notes(12)
    before = validation_loss(learner, notes, ["ner", "re"])
    steps: list[tuple[int, int]] = []
    result = train_local(
        learner,
        learner.samples(notes, ["ner", "re"]),
        replace(SHORT, local_epochs=3),
        seed=1,
        on_step=lambda step, count, loss: steps.append((step, count)),
    )
    assert validation_loss(learner, notes, ["ner", "re"]) < before
    assert steps == [(i + 1, result.steps) for i in range(result.steps)]


def test_buckets_hold_every_sample_once_and_near_lengths() -> None:
    samples = [type("S", (), {"length": n % 37})() for n in range(300)]
    batches = bucketed_batches(samples, 8, np.random.default_rng(0))
    assert sorted(id(s) for b in batches for s in b) == sorted(id(s) for s in samples)
    spread = [max(s.length for s in b) - min(s.length for s in b) for b in batches]
    assert sum(spread) / len(spread) < 6


def test_relation_cap_draws_anew_each_epoch_and_keeps_every_ner_example(causal: Path) -> None:
    samples = generative(causal).samples(make_notes(12), ["ner", "re"])
    ner = [sample for sample in samples if sample.task == "ner"]
    order = np.random.default_rng(0)
    capped = replace(SHORT, relation_cap=0.5)
    epochs = [epoch_samples(samples, capped, order) for _ in range(2)]
    for epoch in epochs:
        assert [s for s in epoch if s.task == "ner"] == ner
        assert sum(s.task == "re" for s in epoch) == len(ner) // 2
    assert epochs[0] != epochs[1]
    assert epoch_samples(samples, SHORT, order) == samples
    assert epoch_samples(samples, replace(SHORT, relation_cap=100.0), order) == samples
    only_relations = [sample for sample in samples if sample.task == "re"]
    assert epoch_samples(only_relations, capped, order) == only_relations


@pytest.mark.parametrize(
    ("filled", "empty", "share", "expected"),
    [(20, 80, 0.5, (10, 10)), (4, 96, 0.5, (4, 4)), (80, 20, 0.5, (16, 4)), (0, 50, 0.5, (0, 1))],
)
def test_heads_with_a_tail_fill_their_share_of_an_epoch(
    filled: int, empty: int, share: float, expected: tuple[int, int]
) -> None:
    ner = [TagSample("ner", (1,), (), (), (), ()) for _ in range(40)]
    relations = [TagSample("re", (1,), (), (), (int(n < filled),), ()) for n in range(filled + empty)]
    terms = replace(SHORT, relation_cap=0.5, relation_filled=share)
    epoch = epoch_samples([*ner, *relations], terms, np.random.default_rng(0))
    drawn = [sample for sample in epoch if sample.task == "re"]
    assert epoch[:40] == ner
    assert (sum(s.finds for s in drawn), sum(not s.finds for s in drawn)) == expected


@pytest.mark.parametrize("kind", ["causal", "token_classification"])
def test_both_learners_tell_heads_with_a_tail(causal: Path, encoder: Path, kind: str) -> None:
    notes = make_notes(12)
    learner = make(kind, causal, encoder)
    with_tails = {relation.head for note in notes for relation in note.relations}
    samples = learner.samples(notes, ["re"])
    assert 0 < sum(sample.finds for sample in samples) < len(samples)
    bare = [replace(note, relations=()) for note in notes]
    assert with_tails
    assert not any(sample.finds for sample in learner.samples(bare, ["re"]))


def test_learning_rate_warms_up_each_round_and_falls_over_all() -> None:
    first, last = (replace(SHORT, round=r, rounds=4, warmup_steps=5) for r in (1, 4))
    assert first.rate(0, 100) == pytest.approx(SHORT.learning_rate / 5)
    assert first.rate(4, 100) > first.rate(50, 100) > last.rate(50, 100)
    assert last.rate(99, 100) == pytest.approx(SHORT.learning_rate * 0.1, rel=0.05)


@pytest.mark.parametrize("poison", [math.nan, math.inf])
@pytest.mark.parametrize("kind", ["causal", "token_classification"])
def test_loss_that_is_not_finite_stops_training_before_it_moves(
    causal: Path, encoder: Path, kind: str, poison: float
) -> None:
    learner = make(kind, causal, encoder)
    samples = learner.samples(make_notes(4), ["ner"])
    vector = read_vector(learner.model)
    vector[:] = poison
    load_vector(learner.model, vector)
    with pytest.raises(NonFiniteError, match="not finite"):
        train_local(learner, samples, SHORT, seed=1)
    assert np.array_equal(read_vector(learner.model), vector, equal_nan=True)
    with pytest.raises(NonFiniteError, match="not finite"):
        validation_loss(learner, make_notes(4), ["ner"])


def test_nothing_to_train_on_is_a_clear_error(causal: Path) -> None:
    learner = generative(causal)
    notes = [replace(note, annotated=frozenset(), entities=(), relations=()) for note in make_notes(3)]
    with pytest.raises(ConfigError, match="no training example"):
        train_local(learner, learner.samples(notes, ["ner"]), SHORT, seed=1)
    with pytest.raises(ConfigError, match="no validation example"):
        validation_loss(learner, notes, ["ner"])


def test_batch_decodes_as_each_row_alone(causal: Path) -> None:
    learner = generative(causal)
    train_local(learner, learner.samples(make_notes(12), ["re"]), replace(SHORT, local_epochs=6), seed=1)
    samples = learner.samples(make_notes(10), ["ner", "re"])
    prompts = [list(sample.ids[: sample.answer_start]) for sample in samples]
    limits = [3 + 5 * (i % 4) for i in range(len(prompts))]
    pad = learner.tokenizer.pad_token_id

    def decode(some: list[list[int]], bounds: list[int], size: int, end: int) -> list[tuple[list[int], bool]]:
        found = greedy(learner.model, some, end_id=end, pad_id=pad, limits=bounds, batch_size=size)
        return [(output.ids, output.ended) for output in found]

    written = decode(prompts, limits, len(prompts), -1)
    end = Counter(token for ids, _ in written for token in ids[2:]).most_common()[-1][0]
    alone = [decode([p], [n], 1, end)[0] for p, n in zip(prompts, limits, strict=True)]
    assert {ended for _, ended in alone} == {True, False}
    for size in (len(prompts), 7):
        assert decode(prompts, limits, size, end) == alone
    with torch.no_grad(), reproducible(0):
        for prompt, (ids, ended) in zip(prompts, alone, strict=True):
            logits = learner.model(input_ids=torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 :]
            wanted = logits.argmax(-1).tolist()
            assert wanted[: len(ids)] == ids
            assert end not in ids
            assert not ended or wanted[len(ids)] == end


def test_tagger_learns_entities_and_relations(encoder: Path) -> None:
    learner = tagging(encoder)
    notes = make_notes(36)
    train_local(
        learner,
        learner.samples(notes, ["ner", "re"]),
        TrainTerms(local_epochs=16, batch_size=16, learning_rate=2e-2, warmup_steps=5),
        seed=1,
    )
    gold = make_notes(12, first=36)
    found = predict(learner, [note.without_gold() for note in gold], ["ner", "re"])
    for predicted in (found, predict_relations(learner, gold)):
        pairs = zip(predicted.notes, gold, strict=True)
        assert sum(sorted(a.triples()) == sorted(b.triples()) for a, b in pairs) >= 10


def test_predictions_do_not_depend_on_gold(encoder: Path, causal: Path) -> None:
    for learner in (tagging(encoder), generative(causal)):
        notes = make_notes(3)
        blind = [note.without_gold() for note in notes]
        assert predict(learner, notes, ["ner", "re"]).notes == predict(learner, blind, ["ner", "re"]).notes
        stripped = [
            replace(n, relations=(), entities=tuple(e for e in n.entities if LABELS.is_entity(e.type)))
            for n in notes
        ]
        assert predict_relations(learner, notes).notes == predict_relations(learner, stripped).notes


def test_types_not_annotated_are_never_predicted(encoder: Path) -> None:
    learner = tagging(encoder)
    notes = [note.restricted_to({"problem", "negation"}) for note in make_notes(6)]
    found = predict(learner, notes, ["ner", "re"])
    assert {e.type for note in found.notes for e in note.entities} <= {"problem", "negation"}


def test_missing_label_is_not_a_negative(encoder: Path) -> None:
    """A site without drug labels must not move the rows of the drug tags: with the mask off it does."""
    notes = [note.restricted_to({"problem", "negation"}) for note in make_notes(8)]
    rows = [i for i, name in enumerate(tag_names(LABELS)) if name[2:] in ("drug", "strength")]
    name = "base_model.model.classifier.weight"
    for masked in (True, False):
        learner = tagging(encoder)
        samples = learner.samples(notes, ["ner", "re"])
        if not masked:
            samples = [replace(sample, allowed=tuple(True for _ in sample.allowed)) for sample in samples]
        before = read_adapter(learner.model).tensors[name][rows]
        train_local(learner, samples, SHORT, seed=1)
        after = read_adapter(learner.model).tensors[name][rows]
        assert np.array_equal(before, after) is masked


def test_malformed_answers_are_counted(causal: Path) -> None:
    found = predict_entities(generative(causal), make_notes(4))
    assert found.asked == 8
    assert found.malformed == 8  # a random model copies nothing
    assert all(note.entities == () for note in found.notes)


def study_of(folder: Path, learner: Learner) -> Study:
    adapter = read_adapter(learner.model)
    study = make_study(initial_digest=adapter.digest, dimension=adapter.dimension)
    study = changed(study, "model", kind="causal", digest=load_base(folder, kind="causal").digest)
    study = changed(
        study,
        "adapter",
        rank=TERMS.rank,
        alpha=TERMS.alpha,
        targets=list(TERMS.targets),
        mode=TERMS.mode,
    )
    return changed(study, "training", rounds=2, local_epochs=1, batch_size=8, max_tokens=400)


def test_site_round_starts_from_the_adapter_and_is_reproducible(causal: Path) -> None:
    first = generative(causal)
    study = study_of(causal, first)
    adapter = read_adapter(first.model)
    notes = make_notes(12)
    updates = []
    learner = learner_for(study, causal)
    for seed, number in ((5, 1), (5, 1), (5, 2)):
        updates.append(
            train_round(
                learner,
                study,
                adapter,
                train=notes[:9],
                validation=notes[9:],
                round_number=number,
                seed=seed,
            )
        )
    assert np.array_equal(updates[0].delta, updates[1].delta)
    assert not np.array_equal(updates[0].delta, updates[2].delta)
    assert updates[0].validation_loss == 0.0, "the plain rule does not weigh by the loss"
    assert updates[0].n_notes == 18, "nine notes of two sentences"
    assert updates[0].delta.shape == (adapter.dimension,)
    assert np.allclose(read_vector(learner.model) - adapter.vector(), updates[2].delta)


def test_site_round_that_diverges_gives_no_update(causal: Path) -> None:
    first = generative(causal)
    study, adapter = study_of(causal, first), read_adapter(first.model)
    learner = learner_for(study, causal)
    with torch.no_grad():
        next(learner.model.get_base_model().parameters()).fill_(math.nan)
    notes = make_notes(12)
    with pytest.raises(NonFiniteError):
        train_round(learner, study, adapter, train=notes[:9], validation=notes[9:], round_number=1, seed=1)
    assert np.array_equal(read_vector(learner.model), adapter.vector())


def test_the_loss_is_measured_where_the_rule_weighs_by_it(causal: Path) -> None:
    first = generative(causal)
    study = changed(study_of(causal, first), "aggregation", rule="fedmedlora+", tau_milli=1000)
    notes = make_notes(12)
    update = train_round(
        learner_for(study, causal),
        study,
        read_adapter(first.model),
        train=notes[:9],
        validation=notes[9:],
        round_number=1,
        seed=5,
    )
    assert update.validation_loss > 0.0
