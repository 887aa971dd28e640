"""Validation counts of a federation: summed under masks, so that no site's own score is ever seen.

Which round's adapter is best is decided by validation F1, and F1 needs three counts for each type: found
rightly (tp), found wrongly (fp), missed (fn). Each site counts on its own held-out notes and writes

    (tp, fp, fn) of each entity type, then (tp, fp, fn) of each relation type

as exact integers into a ring vector. The masked sum decodes to the federation's counts, and F1 follows from
those. Rules:

* a count above COUNT_MAX is refused at the site, never cut: n * COUNT_MAX stays under 2**32, so no sum wraps;
* a type that fewer than T members annotate has no place in the vector: its sum would be over fewer sites
  than the threshold promises.

This module is pure: masks, the log and who may open the sum are the callers' business.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from fedmedlora_core.codec import RingVector
from fedmedlora_core.errors import CodecError
from fedmedlora_core.packing import Packing
from fedmedlora_core.scores.counts import Counts, MatchScore
from fedmedlora_core.study import Study
from fedmedlora_core.validation_terms import annotators_of

__all__ = ["COUNT_MAX", "CountLayout", "ValidationCounts"]

COUNT_MAX = (1 << 18) - 1
"""Largest count of one site: 262,143 spans of one type; leaves room for 16,384 members."""
_RING = 1 << 32
_FIELDS = 3


@dataclass(frozen=True)
class ValidationCounts:
    """Strict counts on held-out notes, of one site or of a whole federation.

    Args:
        entities: By entity type.
        relations: By relation type, with the gold heads given.
    """

    entities: MatchScore
    relations: MatchScore

    def __add__(self, other: ValidationCounts) -> ValidationCounts:
        """Counts of both together."""
        return ValidationCounts(self.entities + other.entities, self.relations + other.relations)

    @property
    def f1(self) -> float:
        """What model choice goes by: the mean of the tasks' micro F1, over tasks with any count."""
        return float(self.exact_f1)

    @property
    def exact_f1(self) -> Fraction:
        """The same without rounding: two parties that compare rounds agree on every machine (R4.15.8)."""
        micro = [task.micro for task in (self.entities, self.relations) if not task.micro.is_empty]
        found = [Fraction(2 * counts.tp, 2 * counts.tp + counts.fp + counts.fn) for counts in micro]
        return sum(found, Fraction(0)) / len(found) if found else Fraction(0)


@dataclass(frozen=True)
class CountLayout:
    """Which types have a place in the vector, and for how many members it has room.

    Args:
        entities: Entity types, in schema order.
        relations: Relation types, in schema order.
        n: Members of the charter.
    """

    entities: tuple[str, ...]
    relations: tuple[str, ...]
    n: int

    def __post_init__(self) -> None:
        """Refuse a layout whose sum could wrap."""
        if self.n < 1 or self.n * COUNT_MAX >= _RING:
            raise CodecError(f"counts of {self.n} members could exceed the ring of 32 bits")

    @classmethod
    def of(cls, study: Study, sites: Collection[str] | None = None) -> CountLayout:
        """Layout of a study: its tasks' types that at least T members annotate.

        Args:
            study: The study.
            sites: Count only these members' annotations: those of one session (R4.15.4). None for all.
        """
        there = frozenset(study.member_ids if sites is None else sites)
        support = {
            label: len(annotators_of(study, label) & there)
            for label in (*study.labels.entities, *study.labels.modifiers)
        }

        def supported(labels: tuple[str, ...], task: str) -> tuple[str, ...]:
            asked = task in study.labels.tasks
            return tuple(label for label in labels if asked and support[label] >= study.threshold)

        return cls(
            supported(study.labels.entities, "ner"),
            supported(study.labels.modifiers, "re"),
            len(study.members),
        )

    @property
    def length(self) -> int:
        """Values in the vector."""
        return _FIELDS * (len(self.entities) + len(self.relations))

    @property
    def packing(self) -> Packing:
        """Frames of the vector on the wire."""
        return Packing(32, self.length)

    def encode(self, counts: ValidationCounts) -> RingVector:
        """Write one site's counts; types without a place are left out.

        Returns:
            uint32 `(length,)`.

        Raises:
            CodecError: A count is negative or above COUNT_MAX.
        """
        values = [
            value
            for types, score in ((self.entities, counts.entities), (self.relations, counts.relations))
            for label in types
            for value in _triple(score.per_type.get(label, Counts()))
        ]
        if any(not 0 <= value <= COUNT_MAX for value in values):
            raise CodecError(f"a validation count lies outside 0..{COUNT_MAX}")
        return np.array(values, dtype=np.uint32)

    def decode(self, total: RingVector, *, voters: int) -> ValidationCounts:
        """Read the federation's counts from an opened sum.

        Args:
            total: Ring sum of the sites' vectors, uint32 `(length,)`.
            voters: Sites in the sum.

        Raises:
            CodecError: The length differs, or an entry is more than so many sites can give.
        """
        if total.shape != (self.length,):
            raise CodecError("the opened counts have another length than the study's")
        if not 1 <= voters <= self.n:
            raise CodecError(f"a sum is over 1..{self.n} sites")
        # A negative count is a very large one in the ring.
        if total.size and int(total.max()) > voters * COUNT_MAX:
            raise CodecError("an entry of the opened counts lies outside what the sites can give")
        values = [int(value) for value in total]
        split = _FIELDS * len(self.entities)
        return ValidationCounts(
            MatchScore(_by_type(self.entities, values[:split])),
            MatchScore(_by_type(self.relations, values[split:])),
        )


def _triple(counts: Counts) -> tuple[int, int, int]:
    return counts.tp, counts.fp, counts.fn


def _by_type(types: tuple[str, ...], values: list[int]) -> Mapping[str, Counts]:
    return {
        label: Counts(*values[first : first + _FIELDS])
        for label, first in zip(types, range(0, len(values), _FIELDS), strict=True)
    }
