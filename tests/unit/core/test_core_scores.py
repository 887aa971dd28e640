"""Scores: strict, lenient, triples, subsets; agreement with seqeval; bounds, symmetry, perfection."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from seqeval.metrics import f1_score, precision_score, recall_score
from seqeval.scheme import IOB2

from fedmedlora_core.clinic import generate_hospital
from fedmedlora_core.labels import CLINICAL, ENTITY_TYPES
from fedmedlora_core.records import Entity, Note, Relation
from fedmedlora_core.scores import (
    Counts,
    MatchScore,
    Scores,
    mention_surfaces,
    score_entities,
    score_entities_by_patient,
    score_relations,
    score_relations_by_patient,
    unseen_in,
)

TEXT = "no severe chest pain , aspirin 40 mg daily ; severe headache ."
ALL = frozenset(CLINICAL.types)


def _note(
    *spans: tuple[str, str], links: tuple[tuple[int, int], ...] = (), annotated: frozenset[str] = ALL
) -> Note:
    """A note on TEXT whose spans are given by type and words; links by position of head and tail."""
    entities = []
    for index, (kind, words) in enumerate(spans):
        start = TEXT.rindex(words) if kind.endswith("!") else TEXT.index(words)
        entities.append(Entity(f"T{index}", kind.rstrip("!"), start, start + len(words)))
    relations = tuple(Relation(f"T{head}", entities[tail].type, f"T{tail}") for head, tail in links)
    return Note("d", "p", TEXT, tuple(entities), relations, annotated)


GOLD = _note(
    ("problem", "chest pain"),
    ("drug", "aspirin"),
    ("problem", "headache"),
    ("severity", "severe"),
    ("severity!", "severe"),
    ("dosage", "40 mg"),
    links=((0, 3), (2, 4), (1, 5)),
)


def test_strict_wants_type_and_both_ends_and_lenient_a_shared_token() -> None:
    predicted = _note(("problem", "pain"), ("problem", "aspirin"), ("problem", "headache"))
    scores = score_entities([GOLD], [predicted])
    assert scores.strict.micro == Counts(tp=1, fp=2, fn=2)
    assert scores.lenient.micro == Counts(tp=2, fp=1, fn=1)
    assert scores.strict.per_type == {"problem": Counts(1, 2, 1), "drug": Counts(0, 0, 1)}
    assert scores.strict.macro_f1 == pytest.approx((0.4 + 0.0) / 2)


def test_one_prediction_is_credited_once() -> None:
    gold = _note(("problem", "severe chest"), ("problem", "pain"))
    long = _note(("problem", "severe chest pain"))
    assert score_entities([gold], [long]).lenient.micro == Counts(tp=1, fp=0, fn=1)
    assert score_entities([long], [gold]).lenient.micro == Counts(tp=1, fp=1, fn=0)


def test_same_span_said_twice_counts_once() -> None:
    twice = _note(("problem", "chest pain"), ("problem", "chest pain"))
    assert score_entities([twice], [twice]).strict.micro == Counts(tp=1)


def test_type_blind_score_forgives_types_only() -> None:
    predicted = _note(("treatment", "aspirin"), ("problem", "chest pain"), ("test", "40"))
    scores = score_entities([GOLD], [predicted], type_blind=True)
    assert scores.strict.per_type == {"any": Counts(tp=2, fp=1, fn=1)}


def test_relation_is_a_triple_and_the_authors_variant_forgets_the_head() -> None:
    predicted = _note(
        ("problem", "chest pain"),
        ("problem", "headache"),
        ("severity", "severe"),
        ("drug", "aspirin"),
        ("dosage", "40"),
        links=((1, 2), (3, 4)),
    )
    typed = score_relations([GOLD], [predicted])
    assert typed.strict.micro == Counts(tp=0, fp=2, fn=3)
    assert typed.lenient.per_type["dosage"] == Counts(tp=1)
    blind_to_head = score_relations([GOLD], [predicted], check_head=False)
    assert blind_to_head.strict.per_type["severity"] == Counts(tp=1, fp=0, fn=1)


def test_relation_types_are_ignored_only_by_the_type_blind_variant() -> None:
    predicted = _note(("drug", "aspirin"), ("strength", "40 mg"), links=((0, 1),))
    assert score_relations([GOLD], [predicted]).strict.micro.tp == 0
    assert score_relations([GOLD], [predicted], type_blind=True).strict.micro == Counts(tp=1, fp=0, fn=2)


def test_only_annotated_types_are_scored() -> None:
    gold = GOLD.restricted_to({"problem", "severity"})
    scores = score_entities([gold], [GOLD])
    assert scores.strict.micro == Counts(tp=2)
    assert score_relations([gold], [GOLD]).strict.micro == Counts(tp=2)
    # with the restriction taken away the prediction of an unannotated type is an error
    claimed = replace(gold, annotated=ALL)
    assert score_entities([claimed], [GOLD]).strict.micro == Counts(tp=2, fp=1)


def test_subset_of_types_that_one_site_annotated() -> None:
    assert set(score_entities([GOLD], [GOLD], types={"drug", "dosage"}).strict.per_type) == {"drug"}
    relations = score_relations([GOLD], [GOLD], types={"drug", "dosage"})
    assert relations.strict.micro == Counts(tp=1)
    assert score_relations([GOLD], [GOLD], types={"drug"}).strict.micro == Counts()


def test_unseen_mentions_are_scored_apart() -> None:
    training = [_note(("problem", "headache"))]
    predicted = _note(("problem", "headache"), ("problem", "pain"), ("drug", "daily"))
    scores = score_entities([GOLD], [predicted], only=unseen_in(training))
    assert scores.strict.micro == Counts(tp=0, fp=2, fn=2)
    assert scores.lenient.micro == Counts(tp=1, fp=1, fn=1)
    relations = score_relations([GOLD], [GOLD], only=unseen_in(training))
    assert relations.strict.micro == Counts(tp=2)
    assert mention_surfaces([GOLD], {"drug"}) == {"aspirin"}


def test_undefined_scores_are_zero() -> None:
    empty = Counts()
    assert (empty.precision, empty.recall, empty.f1) == (0.0, 0.0, 0.0)
    assert Counts(fp=3).f1 == Counts(fn=3).f1 == 0.0
    assert MatchScore().macro_f1 == 0.0
    assert score_entities([], []).strict.f1 == 0.0


def test_documents_must_be_the_same_on_both_sides() -> None:
    other = replace(GOLD, document_id="e")
    for gold, predicted in (([GOLD], []), ([GOLD], [other]), ([GOLD, GOLD], [GOLD, other])):
        with pytest.raises(ValueError, match="document"):
            score_entities(gold, predicted)
    with pytest.raises(ValueError, match="text"):
        score_entities([GOLD], [replace(GOLD, text=TEXT + " ")])


def test_documents_are_matched_by_id_in_any_order() -> None:
    notes = [GOLD, replace(GOLD, document_id="e", entities=(), relations=())]
    assert score_entities(notes, notes[::-1]).strict.micro == Counts(tp=3)


def test_scores_by_patient_add_up_to_the_whole() -> None:
    gold = generate_hospital("cardiology", seed=1, sentences=60)
    predicted = [replace(note, entities=note.entities[1:], relations=()) for note in gold]
    parts = score_entities_by_patient(gold, predicted)
    assert len(parts) == len({note.patient_key for note in gold})
    assert Scores.total(parts) == score_entities(gold, predicted)
    assert Scores.total(score_relations_by_patient(gold, predicted)) == score_relations(gold, predicted)


def test_report_of_scores_holds_the_named_figures() -> None:
    report = score_entities([GOLD], [GOLD]).as_dict()["strict"]
    assert isinstance(report, dict)
    assert {"f1", "precision", "recall", "macro_f1", "tp", "fp", "fn", "per_type"} == set(report)


spans = st.lists(
    st.tuples(
        st.sampled_from(("problem", "drug", "test", "severity", "dosage")),
        st.integers(0, 60),
        st.integers(1, 12),
    ),
    max_size=8,
)


def _random_note(rows: list[tuple[str, int, int]]) -> Note:
    entities = tuple(
        Entity(f"T{index}", kind, start, min(start + length, len(TEXT)))
        for index, (kind, start, length) in enumerate(rows)
    )
    relations = tuple(
        Relation(head.id, tail.type, tail.id)
        for head in entities
        for tail in entities
        if tail.type in CLINICAL.modifiers_of(head.type)
    )
    return Note("d", None, TEXT, entities, relations, ALL)


@given(spans, spans, st.booleans(), st.booleans())
def test_scores_are_bounded_symmetric_and_lenient_is_never_below_strict(
    gold_rows: list[tuple[str, int, int]],
    predicted_rows: list[tuple[str, int, int]],
    type_blind: bool,
    relations: bool,
) -> None:
    gold, predicted = _random_note(gold_rows), _random_note(predicted_rows)
    score = score_relations if relations else score_entities
    there = score([gold], [predicted], type_blind=type_blind)
    back = score([predicted], [gold], type_blind=type_blind)
    for one, other in ((there.strict, back.strict), (there.lenient, back.lenient)):
        assert 0.0 <= one.f1 <= 1.0 and 0.0 <= one.macro_f1 <= 1.0
        assert one.micro == Counts(other.micro.tp, other.micro.fn, other.micro.fp)
        assert one.f1 == other.f1
    assert there.lenient.micro.tp >= there.strict.micro.tp
    perfect = score([gold], [gold], type_blind=type_blind)
    assert perfect.strict == perfect.lenient
    assert perfect.strict.f1 == (1.0 if perfect.strict.micro.tp else 0.0)
    assert perfect.strict.micro.fp == perfect.strict.micro.fn == 0


def _spans_of_words(words: list[str], stream: random.Random) -> list[tuple[int, int, str]]:
    found, place = [], 0
    while place < len(words):
        length = stream.randint(1, 3)
        if stream.random() < 0.5 and place + length <= len(words):
            found.append((place, place + length, stream.choice(ENTITY_TYPES)))
            place += length
        else:
            place += 1
    return found


def _as_tags(spans_of_words: list[tuple[int, int, str]], n_words: int) -> list[str]:
    tags = ["O"] * n_words
    for first, last, kind in spans_of_words:
        tags[first:last] = [f"B-{kind}", *[f"I-{kind}"] * (last - first - 1)]
    return tags


def _as_note(name: str, spans_of_words: list[tuple[int, int, str]], words: list[str]) -> Note:
    starts = [sum(len(word) + 1 for word in words[:k]) for k in range(len(words))]
    entities = tuple(
        Entity(f"T{k}", kind, starts[first], starts[last - 1] + len(words[last - 1]))
        for k, (first, last, kind) in enumerate(spans_of_words)
    )
    return Note(name, None, " ".join(words), entities, (), ALL)


@pytest.mark.parametrize("seed", range(5))
def test_strict_score_agrees_with_seqeval_where_spans_do_not_overlap(seed: int) -> None:
    stream = random.Random(seed)  # noqa: S311 - test data
    gold_notes, predicted_notes, gold_tags, predicted_tags = [], [], [], []
    for name in range(20):
        words = [
            stream.choice(("chest", "pain", "aspirin", "no", "mg")) for _ in range(stream.randint(1, 15))
        ]
        gold = _spans_of_words(words, stream)
        predicted = (
            [span for span in gold if stream.random() < 0.6] if name % 2 else _spans_of_words(words, stream)
        )
        gold_notes.append(_as_note(str(name), gold, words))
        predicted_notes.append(_as_note(str(name), predicted, words))
        gold_tags.append(_as_tags(gold, len(words)))
        predicted_tags.append(_as_tags(predicted, len(words)))
    ours = score_entities(gold_notes, predicted_notes).strict
    settings = {"mode": "strict", "scheme": IOB2, "zero_division": 0}
    assert ours.f1 == pytest.approx(f1_score(gold_tags, predicted_tags, **settings))
    assert ours.micro.precision == pytest.approx(precision_score(gold_tags, predicted_tags, **settings))
    assert ours.micro.recall == pytest.approx(recall_score(gold_tags, predicted_tags, **settings))
    assert ours.macro_f1 == pytest.approx(f1_score(gold_tags, predicted_tags, average="macro", **settings))
