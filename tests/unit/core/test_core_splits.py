"""Splits by patient: disjoint, complete, seeded, independent of the order of the notes."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.errors import DataError
from fedmedlora_core.records import Note
from fedmedlora_core.splits import Splits, split_by_patient


def _notes(sizes: list[int]) -> list[Note]:
    return [
        Note(f"d{patient}-{number}", f"p{patient}", "x")
        for patient, size in enumerate(sizes)
        for number in range(size)
    ]


def _ids(notes: tuple[Note, ...]) -> set[str]:
    return {note.document_id for note in notes}


def _patients(notes: tuple[Note, ...]) -> set[str]:
    return {note.patient_key for note in notes}


@given(st.lists(st.integers(1, 5), min_size=3, max_size=40), st.integers(0, 2**32))
def test_no_patient_is_in_two_parts_and_no_note_is_lost(sizes: list[int], seed: int) -> None:
    notes = _notes(sizes)
    parts = split_by_patient(notes, seed=seed, validation_fraction=0.1, test_fraction=0.2)
    groups = [parts.train, parts.validation, parts.test]
    assert all(groups)
    assert sum(len(group) for group in groups) == len(notes)
    assert len(set().union(*map(_ids, groups))) == len(notes)
    assert sum(len(_patients(group)) for group in groups) == len(sizes)


def test_split_depends_on_the_seed_and_not_on_the_order_of_notes() -> None:
    notes = _notes([2] * 30)
    one = split_by_patient(notes, seed=1, validation_fraction=0.1, test_fraction=0.2)
    again = split_by_patient(notes[::-1], seed=1, validation_fraction=0.1, test_fraction=0.2)
    other = split_by_patient(notes, seed=2, validation_fraction=0.1, test_fraction=0.2)
    assert one == again
    assert _ids(one.test) != _ids(other.test)


def test_sizes_are_the_shares_within_one_patient() -> None:
    parts = split_by_patient(_notes([4] * 25), seed=3, validation_fraction=0.1, test_fraction=0.2)
    assert abs(len(parts.test) - 20) <= 4
    assert abs(len(parts.validation) - 10) <= 4


def test_documents_without_patient_are_patients_of_their_own() -> None:
    notes = [Note(f"d{k}", None, "x") for k in range(10)]
    parts = split_by_patient(notes, seed=1, validation_fraction=0.2, test_fraction=0.3)
    assert (len(parts.train), len(parts.validation), len(parts.test)) == (5, 2, 3)


def test_document_named_like_a_patient_is_not_that_patient() -> None:
    assert Note("a", None, "x").patient_key != Note("b", "a", "x").patient_key


def test_share_of_zero_gives_an_empty_part() -> None:
    parts = split_by_patient(_notes([1] * 5), seed=1, validation_fraction=0.0, test_fraction=0.4)
    assert parts.validation == ()
    assert isinstance(parts, Splits) and len(parts.test) == 2


def test_too_few_patients_are_refused() -> None:
    with pytest.raises(DataError, match="2 patient"):
        split_by_patient(_notes([9, 9]), seed=1, validation_fraction=0.1, test_fraction=0.1)


@pytest.mark.parametrize(("validation", "test"), [(-0.1, 0.2), (0.5, 0.5)])
def test_shares_out_of_range_are_the_callers_mistake(validation: float, test: float) -> None:
    with pytest.raises(ValueError, match="shares"):
        split_by_patient(_notes([1] * 9), seed=1, validation_fraction=validation, test_fraction=test)
