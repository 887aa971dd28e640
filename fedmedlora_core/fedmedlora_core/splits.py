"""Splitting a site's notes into training, validation and test, patient by patient.

All notes of a patient lie in one part; a document without a patient id is a patient of its own. Patients
with near duplicates of each other's notes (`near_duplicates`, found at import) are dealt out together, so
that no near duplicate of a training note is in the test set. The order in which they are dealt out depends
on the seed and the patients alone, not on the order of the notes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from fedmedlora_core.errors import DataError
from fedmedlora_core.near_duplicates import Groups
from fedmedlora_core.records import Note


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
