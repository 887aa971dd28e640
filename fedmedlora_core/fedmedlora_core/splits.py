"""Splitting a site's notes into training, validation and test, patient by patient.

All notes of a patient lie in one part; a document without a patient id is a patient of its own. Patients
with near duplicates of each other's notes (`near_duplicates`, found at import) are dealt out together, so
that no near duplicate of a training note is in the test set. The order in which they are dealt out depends
on the seed and the patients alone, not on the order of the notes.

Under differential privacy that would not do: who is dealt out first decides where another one goes. There
each patient, or document, goes where a hash of its name says, whoever else is there (R4.13.3); the sizes of
the parts are near the shares, and near duplicates may lie in two parts.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fedmedlora_core.errors import DataError
from fedmedlora_core.near_duplicates import Groups
from fedmedlora_core.privacy_terms import Unit
from fedmedlora_core.records import Note

if TYPE_CHECKING:
    from fedmedlora_core.study import Study


@dataclass(frozen=True, slots=True)
class Splits:
    """The three parts of a site's notes; no patient, and no group of near duplicates, is in two of them."""

    train: tuple[Note, ...]
    validation: tuple[Note, ...]
    test: tuple[Note, ...]


def split_by_patient(
    notes: Iterable[Note], *, seed: int, validation_fraction: float, test_fraction: float
) -> Splits:
    """Deal patients into training, validation and test parts.

    Args:
        notes: Notes of one site, in any order.
        seed: Seed of the study; the same seed and notes give the same parts.
        validation_fraction: Share of notes for validation, 0 <= share < 1.
        test_fraction: Share of notes for the test, 0 <= share < 1; the two sum to less than 1.

    Returns:
        The parts. A part with a share above 0 gets at least one patient and the training part at least one;
        sizes are within the notes of one patient, or of one group of patients, of the shares.

    Raises:
        DataError: There are too few patients to fill the parts.
        ValueError: The shares are out of range (the caller's mistake).
    """
    if min(validation_fraction, test_fraction) < 0 or validation_fraction + test_fraction >= 1:
        raise ValueError("shares must not be negative and must sum to less than 1")
    patients, people = _together(list(notes))
    wanted = 1 + (validation_fraction > 0) + (test_fraction > 0)
    if len(patients) < wanted:
        joined = "" if people == len(patients) else f", in {len(patients)} group(s) by near duplicates,"
        raise DataError(f"{people} patient(s){joined} cannot be split into {wanted} parts")
    order = sorted(patients, key=lambda key: _rank(seed, key))
    total = sum(len(group) for group in patients.values())
    sizes = [(test_fraction, wanted - 1), (validation_fraction, 1)]
    parts: list[tuple[Note, ...]] = []
    for fraction, reserved in sizes:
        parts.append(_deal(order, patients, fraction * total, reserved))
    test, validation = parts
    train = tuple(note for key in order for note in _in_order(patients[key]))
    return Splits(train=train, validation=validation, test=test)


def split_as_study(notes: Iterable[Note], study: Study) -> Splits:
    """Split a site's notes as a study fixes it: by unit under differential privacy, else by patient.

    Raises:
        DataError: There are too few patients, or under privacy by patient a note does not say whose it is.
    """
    shares = study.splits
    if study.privacy is not None:
        return split_by_unit(
            notes,
            study.privacy.unit,
            seed=shares.seed,
            validation_percent=shares.validation_percent,
            test_percent=shares.test_percent,
        )
    return split_by_patient(
        notes,
        seed=shares.seed,
        validation_fraction=shares.validation_percent / 100,
        test_fraction=shares.test_percent / 100,
    )


def split_by_unit(
    notes: Iterable[Note], unit: Unit, *, seed: int, validation_percent: int, test_percent: int
) -> Splits:
    """Put each unit where its own name says, whoever else is there (R4.13.3); a part may be empty.

    Args:
        notes: Notes of one site, in any order.
        unit: Patient or document.
        seed: Seed of the study.
        validation_percent: Share of units for validation.
        test_percent: Share of units for the test.

    Raises:
        DataError: The unit is the patient, and a note does not say whose it is.
    """
    units: defaultdict[str, list[Note]] = defaultdict(list)
    for note in notes:
        units[unit_key(note, unit)].append(note)
    parts: tuple[list[Note], list[Note], list[Note]] = ([], [], [])
    for key in sorted(units, key=lambda key: _rank(seed, key)):
        place = int.from_bytes(_rank(seed, key)[:8], "big") * 100 >> 64  # 0 to 99
        part = 2 if place < test_percent else 1 if place < test_percent + validation_percent else 0
        parts[part].extend(_in_order(units[key]))
    train, validation, test = map(tuple, parts)
    return Splits(train=train, validation=validation, test=test)


def unit_key(note: Note, unit: Unit) -> str:
    """The unit of protection that a note belongs to: its patient, or the whole document it is of.

    Raises:
        DataError: The unit is the patient, and the note does not say whose it is (R4.13.3).
    """
    if unit == "document":
        return f"document:{note.document_id if note.part_of is None else note.part_of.document_id}"
    if note.patient_id is None:
        raise DataError(
            "privacy by patient needs a patient id in every note; import the notes with patient ids, "
            'or agree on a study with privacy.unit = "document"'
        )
    return f"patient:{note.patient_id}"


def _together(notes: list[Note]) -> tuple[dict[str, list[Note]], int]:
    """The notes of each group of patients, by the smallest key in it, and how many patients there are."""
    groups: Groups[str] = Groups()
    for note in notes:
        if note.near is not None:
            groups.join(f"near:{note.near}", note.patient_key)
    keys: defaultdict[str, set[str]] = defaultdict(set)
    found: defaultdict[str, list[Note]] = defaultdict(list)
    for note in notes:
        root = groups.root(note.patient_key)
        keys[root].add(note.patient_key)
        found[root].append(note)
    named = {min(keys[root]): group for root, group in found.items()}
    return named, sum(map(len, keys.values()))


def _deal(
    order: list[str], patients: dict[str, list[Note]], target: float, reserved: int
) -> tuple[Note, ...]:
    """Take patients from the front of `order` until the target is met, leaving at least `reserved`."""
    taken: list[Note] = []
    if target <= 0:
        return ()
    while len(order) > reserved:
        following = patients[order[0]]
        if taken and abs(len(taken) + len(following) - target) >= abs(len(taken) - target):
            break
        taken.extend(_in_order(following))
        del order[0]
    return tuple(taken)


def _in_order(notes: list[Note]) -> list[Note]:
    """A patient's notes by document id, so that the order of reading does not matter."""
    return sorted(notes, key=lambda note: note.document_id)


def _rank(seed: int, key: str) -> bytes:
    """Where a patient stands in the dealing order."""
    return hashlib.sha256(f"split|{seed}|{key}".encode("utf-8", "surrogatepass")).digest()
