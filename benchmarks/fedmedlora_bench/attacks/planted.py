"""Secrets that are planted in a hospital's notes, and the canaries whose coins are guessed.

Two kinds, because a model that extracts can give away two things: the words of a note, and what annotators
said about them.

* words: "record of bakelo : 4 7 1 9 2 6 ." - six digits out of a million; alternatives are drawn.
* labels: "history : <word> , <word> , <word> ." of invented words, each annotated with one of four entity
  types at random; all combinations are ranked.

All notes of one secret are one patient's. Everything follows from the seed.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from fedmedlora_core.labels import ENTITY_TYPES
from fedmedlora_core.records import Entity, Note

__all__ = ["KINDS", "Kind", "Secret", "coin_canaries", "planted_secrets"]

Kind = Literal["words", "labels"]
KINDS: tuple[Kind, ...] = ("words", "labels")

_SYLLABLES = tuple(consonant + vowel for consonant in "bdfghjklmnprstvwxz" for vowel in "aeiou")
_DIGITS = 6


@dataclass(frozen=True)
class Secret:
    """One planted secret.

    Args:
        id: Its patient.
        kind: What is secret about it.
        names: Invented words that stand in its note, for whoever attacks.
        value: The secret itself: digits, or entity types.
        repetitions: Notes of that patient that hold it.
        annotated: Types that the hospital annotates.
    """

    id: str
    kind: Kind
    names: tuple[str, ...]
    value: tuple[str, ...]
    repetitions: int
    annotated: frozenset[str]

    def __repr__(self) -> str:
        """Show everything but the secret."""
        return f"Secret({self.id}, {self.kind}, {self.repetitions} notes)"

    def note(self, value: Sequence[str] | None = None, *, number: int = 0) -> Note:
        """The note, with the secret or with another value in its place."""
        value = self.value if value is None else tuple(value)
        spans: tuple[Entity, ...] = ()
        if self.kind == "words":
            text = f"{self.lead} {' '.join(value)} ."
        else:
            text = f"history : {' , '.join(self.names)} ."
            starts = [text.index(f" {name} ") + 1 for name in self.names]
            spans = tuple(
                Entity(f"T{place}", kind, start, start + len(name))
                for place, (kind, name, start) in enumerate(
                    zip(value, self.names, starts, strict=True), start=1
                )
            )
        return Note(f"{self.id}-{number}", self.id, text, spans, (), self.annotated)

    @property
    def lead(self) -> str:
        """Of kind "words": what stands before the secret."""
        return f"record of {self.names[0]} :"

    def notes(self) -> list[Note]:
        """All notes of the patient."""
        return [self.note(number=number) for number in range(self.repetitions)]

    def alternatives(self, most: int) -> list[tuple[str, ...]]:
        """Other values that the secret could have had: all of them, or `most` drawn at random."""
        if self.kind == "labels":
            return [
                value
                for value in itertools.product(ENTITY_TYPES, repeat=len(self.names))
                if value != self.value
            ]
        draws = random.Random(f"alternatives|{self.id}")  # noqa: S311 - an experiment's draw
        found: dict[tuple[str, ...], None] = {}
        while len(found) < most:
            value = tuple(str(draws.randrange(10)) for _ in range(_DIGITS))
            if value != self.value:
                found[value] = None
        return list(found)


def planted_secrets(
    *, seed: int, repetitions: Sequence[int], each: int, labels: int, annotated: frozenset[str]
) -> tuple[Secret, ...]:
    """Secrets of both kinds.

    Args:
        seed: Everything follows from it.
        repetitions: How often a secret stands in the notes.
        each: Secrets of each kind and number of repetitions.
        labels: Words of a secret of kind "labels".
        annotated: Types that the hospital annotates.
    """
    found = []
    for kind in KINDS:
        for count in repetitions:
            for number in range(each):
                name = f"secret-{kind}-{count}-{number}"
                found.append(_secret(name, kind, seed, count, labels, annotated))
    return tuple(found)


def coin_canaries(
    *, seed: int, count: int, notes: int, labels: int, annotated: frozenset[str]
) -> tuple[Secret, ...]:
    """Canary patients of kind "labels" for auditing; whether each is trained on is decided elsewhere."""
    return tuple(
        _secret(f"canary-{number}", "labels", seed, notes, labels, annotated) for number in range(count)
    )


def _secret(
    name: str, kind: Kind, seed: int, repetitions: int, labels: int, annotated: frozenset[str]
) -> Secret:
    draws = random.Random(f"secret|{seed}|{name}")  # noqa: S311 - an experiment's secret guards nothing
    words = 1 if kind == "words" else labels
    names: list[str] = []
    while len(names) < words:
        word = "".join(draws.choice(_SYLLABLES) for _ in range(3))
        if word not in names:
            names.append(word)
    if kind == "words":
        value = tuple(str(draws.randrange(10)) for _ in range(_DIGITS))
    else:
        value = tuple(draws.choice(ENTITY_TYPES) for _ in names)
    return Secret(name, kind, tuple(names), value, repetitions, annotated)
