"""Long notes in parts: nothing of the text is lost, bounds are where they should be, offsets lead back."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.parts import cut_notes, join_parts, part_starts
from fedmedlora_core.records import (
    Entity,
    Note,
    PartOf,
    Relation,
    note_from_json,
    note_to_json,
    validate_note,
)
from fedmedlora_core.splits import split_by_patient

TEXT = (
    "HISTORY OF PRESENT ILLNESS:\nThe patient reports fever. She has no cough today.\n"
    "MEDICATIONS:\nAspirin 40 mg daily. Zinc 5 mg at night.\nPlan\nReturn in a week."
)


def example() -> Note:
    def span(name: str, kind: str, words: str) -> Entity:
        start = TEXT.index(words)
        return Entity(name, kind, start, start + len(words))

    return Note(
        "n1",
        None,
        TEXT,
        (
            span("T1", "problem", "fever"),
            span("T2", "problem", "cough"),
            span("T3", "negation", "no"),
            span("T4", "drug", "Aspirin"),
            span("T5", "dosage", "40 mg"),
            span("T6", "drug", "Zinc"),
            span("T7", "problem", "today.\nMEDICATIONS"),
        ),
        (Relation("T2", "negation", "T3"), Relation("T4", "dosage", "T5"), Relation("T6", "dosage", "T5")),
        frozenset({"problem", "negation", "drug", "dosage"}),
    )


def test_parts_end_before_a_section_else_before_a_sentence_else_between_words() -> None:
    starts = part_starts(TEXT, 15)
    assert [TEXT[start:].split(maxsplit=1)[0] for start in starts] == ["HISTORY", "MEDICATIONS:"]
    starts = part_starts(TEXT, 9)
    assert [TEXT[start:].split(maxsplit=1)[0] for start in starts] == [
        "HISTORY",
        "She",
        "MEDICATIONS:",
        "Zinc",
        "Return",
    ]
    assert part_starts("a b c d e", 2) == [0, 4, 8]
    assert part_starts("a b", 2) == [0]


def test_spans_keep_their_words_and_what_crosses_a_bound_is_counted() -> None:
    parts, cutting = cut_notes([example()], 9)
    for part in parts:
        validate_note(part)
        assert part.part_of is not None and part.part_of.document_id == "n1"
        for entity in part.entities:
            start = part.part_of.start
            assert TEXT[start + entity.start : start + entity.end] == part.text_of(entity)
    assert (cutting.documents, cutting.parts) == (1, len(parts))
    assert cutting.dropped == {
        "span across the bound of two parts": 1,
        "relation between two parts": 1,
    }
    assert sum(len(part.entities) for part in parts) == 6
    assert [part.document_id for part in parts] == [f"n1#{k}" for k in range(1, len(parts) + 1)]


def test_parts_put_together_are_the_note_again() -> None:
    note = replace(example(), entities=example().entities[:6])
    parts, cutting = cut_notes([note], 9)
    assert len(parts) > 2 and cutting.dropped["relation between two parts"] == 1
    other = Note("n2", "p", "Short.")
    whole, again = join_parts([*parts[::-1], other])
    assert again == other
    assert (whole.text, whole.document_id, whole.part_of) == (TEXT, "n1", None)
    assert {(e.type, e.start, e.end) for e in whole.entities} == {
        (e.type, e.start, e.end) for e in note.entities
    }
    assert len(whole.triples()) == 2 and set(whole.triples()) < set(note.triples())


def test_a_part_that_is_missing_leaves_blanks_and_shifts_nothing() -> None:
    parts, _ = cut_notes([example()], 9)
    (whole,) = join_parts([parts[0], *parts[2:]])
    for entity in whole.entities:
        assert TEXT[entity.start : entity.end] == whole.text_of(entity)


def test_a_part_that_is_cut_again_leads_back_to_the_first_document() -> None:
    parts, _ = cut_notes([example()], 20)
    again, _ = cut_notes(parts, 7)
    assert len(again) > len(parts)
    for part in again:
        assert part.part_of is not None and part.part_of.document_id == "n1"
        assert TEXT.startswith(part.text, part.part_of.start)


@given(st.text(alphabet="aA:. \n\t\r\u2028é", max_size=300), st.integers(1, 12))
def test_parts_are_the_whole_text_and_within_the_bound(text: str, max_words: int) -> None:
    parts, _ = cut_notes([Note("n", None, text)], max_words)
    assert "".join(part.text for part in parts) == text
    assert all(len(part.text.split()) <= max_words for part in parts)
    assert join_parts(parts)[0].text == text


def test_where_a_part_comes_from_is_kept_in_its_line() -> None:
    part = replace(cut_notes([example()], 9)[0][1], near="n0")
    assert note_from_json(note_to_json(part)) == part
    assert part.part_of is not None and part.part_of.start > 0


def test_all_parts_of_a_document_lie_in_one_part_of_the_split() -> None:
    notes = [Note(f"d{k}", None, f"word{k} " * 50) for k in range(12)]
    parts, _ = cut_notes(notes, 10)
    split = split_by_patient(parts, seed=2, validation_fraction=0.2, test_fraction=0.2)
    names = [
        {p.part_of.document_id for p in part if p.part_of}
        for part in (split.train, split.validation, split.test)
    ]
    assert all(names) and sum(map(len, names)) == 12


def test_bounds_ask_for_at_least_a_word() -> None:
    with pytest.raises(ValueError, match="hold a word"):
        cut_notes([], 0)
    assert PartOf("a", 1) < PartOf("a", 2)
