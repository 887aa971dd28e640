"""Splits by patient: disjoint, complete, seeded, independent of the order of the notes."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.errors import DataError
from fedmedlora_core.privacy_terms import Unit
from fedmedlora_core.records import Note, PartOf
from fedmedlora_core.splits import Splits, split_as_study, split_by_patient, split_by_unit
from fedmedlora_testkit.private import private_terms
from fedmedlora_testkit.studies import make_study


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


def _part_of_each(notes: list[Note], unit: Unit = "patient", seed: int = 1) -> dict[str, str]:
    parts = split_by_unit(notes, unit, seed=seed, validation_percent=10, test_percent=20)
    named = (("train", parts.train), ("validation", parts.validation), ("test", parts.test))
    return {note.document_id: name for name, found in named for note in found}


@given(st.lists(st.integers(1, 3), min_size=1, max_size=30), st.integers(0, 2**32), st.data())
def test_by_unit_a_patients_part_depends_on_that_patient_alone(
    sizes: list[int], seed: int, data: st.DataObject
) -> None:
    notes = [replace(note, near="alike") for note in _notes(sizes)]
    everybody = _part_of_each(notes, seed=seed)  # R4.13.3
    some = data.draw(st.sets(st.sampled_from([note.patient_id for note in notes])))
    few = _part_of_each([note for note in notes if note.patient_id in some], seed=seed)
    assert few.items() <= everybody.items()
    assert set(everybody) == {note.document_id for note in notes}
    by_patient = {(note.patient_id, everybody[note.document_id]) for note in notes}
    assert len(by_patient) == len(sizes)


def test_without_privacy_a_patients_part_depends_on_the_others() -> None:
    """What the split by unit is for: the check above would find the ordinary split."""

    def parts(notes: list[Note]) -> dict[str, str]:
        found = split_by_patient(notes, seed=1, validation_fraction=0.1, test_fraction=0.2)
        named = (("train", found.train), ("validation", found.validation), ("test", found.test))
        return {note.document_id: name for name, group in named for note in group}

    notes = _notes([1] * 20)
    everybody = parts(notes)
    assert any(not parts(notes[:size]).items() <= everybody.items() for size in range(5, 20))


def test_by_unit_the_shares_are_met_and_the_seed_decides() -> None:
    notes = _notes([1] * 4000)
    counts = Counter(_part_of_each(notes).values())
    assert abs(counts["test"] - 800) < 150
    assert abs(counts["validation"] - 400) < 115
    assert _part_of_each(notes) == _part_of_each(notes[::-1])
    assert _part_of_each(notes) != _part_of_each(notes, seed=2)


def test_by_document_the_parts_of_one_stay_together_and_by_patient_an_id_is_needed() -> None:
    notes = [Note(f"d{n}", None, "x", part_of=PartOf(f"whole{n // 5}", n % 5)) for n in range(200)]
    parts = _part_of_each(notes, "document")
    assert len({(note.part_of.document_id, parts[note.document_id]) for note in notes if note.part_of}) == 40
    assert set(parts.values()) == {"train", "validation", "test"}
    with pytest.raises(DataError, match="needs a patient id in every note"):
        _part_of_each(notes)


def test_a_study_splits_by_unit_under_privacy_alone() -> None:
    study, notes = make_study(), _notes([1] * 40)
    private = study.model_copy(update={"privacy": private_terms()})
    share = {"seed": study.splits.seed, "validation_percent": 10, "test_percent": 20}
    assert split_as_study(notes, private) == split_by_unit(notes, "patient", **share)
    assert split_as_study(notes, study) == split_by_patient(
        notes, seed=study.splits.seed, validation_fraction=0.1, test_fraction=0.2
    )
