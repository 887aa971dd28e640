"""Canary patients: patients whose name, record number, telephone number and date of birth occur nowhere else.

They stand among a hospital's notes like any others and are trained on like any others. If one of their marks
turns up outside the hospital, text of a note got out (AUDIT "Canaries"). A name, a record number and a
telephone number carry at least 53 bits each; a date of birth lies in a year after 3000, where nothing else
has dates.

Rules: everything follows from the seed, so a test knows the marks. A real hospital draws its own at random
and shows them to nobody.
"""

from __future__ import annotations

import datetime
import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fedmedlora_core.clinic.hospital import CLINIC_TYPES
from fedmedlora_core.records import Entity, Note

CANARIES_SCHEMA = "fedmedlora-canaries/1"
CANARIES_PER_HOSPITAL = 3

_CONSONANTS, _VOWELS = "bdfghjklmnprstvwxz", "aeiou"
_SYLLABLES = tuple(consonant + vowel for consonant in _CONSONANTS for vowel in _VOWELS)
_NAME_SYLLABLES = 10  # 90 ** 10 names: 64 bits
_FIRST_DAY = datetime.date(3000, 1, 1)
_DAYS = (datetime.date(9999, 12, 31) - _FIRST_DAY).days


@dataclass(frozen=True)
class CanaryPatient:
    """One canary.

    Args:
        id: How reports call it; says nothing of the marks.
        marks: Kind of mark (name, record, telephone, born) to its text.
    """

    id: str
    marks: Mapping[str, str]

    def __repr__(self) -> str:
        """Show the id, never a mark."""
        return f"CanaryPatient({self.id})"

    def note(self, annotated: frozenset[str]) -> Note:
        """The canary's note, as a hospital has it that looks for these types; its ids are marks too."""
        marks = self.marks
        text = (
            f"Patient {marks['name']} , record {marks['record']} , born {marks['born']} , "
            f"telephone {marks['telephone']} .\n{marks['name']} was seen for chest pain and takes aspirin .\n"
        )
        spans = [
            Entity(f"T{number}", kind, text.index(name), text.index(name) + len(name))
            for number, (kind, name) in enumerate((("problem", "chest pain"), ("drug", "aspirin")), start=1)
        ]
        whole = Note(f"{marks['record']}-1", marks["record"], text, tuple(spans), (), frozenset(CLINIC_TYPES))
        return whole.restricted_to(annotated)


def canaries_of(hospital: str, *, seed: int, count: int = CANARIES_PER_HOSPITAL) -> tuple[CanaryPatient, ...]:
    """Make the canary patients of one hospital.

    Args:
        hospital: Its id; every hospital has other canaries.
        seed: Any whole number; everything follows from it.
        count: How many, at least 0.
    """
    return tuple(
        CanaryPatient(f"{hospital}-{number}", _marks(f"clinic/canary|{seed}|{hospital}|{number}"))
        for number in range(1, count + 1)
    )


def canaries_to_json(canaries: Iterable[CanaryPatient]) -> str:
    """The file of marks that `audit scan --canaries` reads."""
    rows = [{"id": canary.id, "marks": dict(canary.marks)} for canary in canaries]
    return json.dumps({"schema": CANARIES_SCHEMA, "canaries": rows}, indent=1) + "\n"


def _marks(label: str) -> dict[str, str]:
    """The marks that follow from a label."""
    name, record, telephone, born = (
        int.from_bytes(hashlib.sha256(f"{label}|{kind}".encode()).digest())
        for kind in ("name", "record", "telephone", "born")
    )
    digits = f"{telephone % 10**16:016d}"
    return {
        "name": "".join(
            _SYLLABLES[name // len(_SYLLABLES) ** place % len(_SYLLABLES)] for place in range(_NAME_SYLLABLES)
        ).capitalize(),
        "record": f"{record % 10**18:018d}",
        "telephone": " ".join(digits[start : start + 4] for start in range(0, 16, 4)),
        "born": (_FIRST_DAY + datetime.timedelta(days=born % _DAYS)).isoformat(),
    }
