"""Counts of right, wrong and missed items, and the figures that follow from them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Counts:
    """True positives, false positives and false negatives; they add up over documents and sites."""

    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: Counts) -> Counts:
        """Counts of both together."""
        return Counts(self.tp + other.tp, self.fp + other.fp, self.fn + other.fn)

    @property
    def precision(self) -> float:
        """Share of predictions that are right; 0 where nothing was predicted."""
        return self.tp / (self.tp + self.fp) if self.tp else 0.0

    @property
    def recall(self) -> float:
        """Share of gold that was found; 0 where there is no gold."""
        return self.tp / (self.tp + self.fn) if self.tp else 0.0

    @property
    def f1(self) -> float:
        """Harmonic mean of precision and recall; 0 where it is undefined."""
        return 2 * self.tp / (2 * self.tp + self.fp + self.fn) if self.tp else 0.0

    @property
    def is_empty(self) -> bool:
        """Whether there was neither gold nor a prediction."""
        return not (self.tp or self.fp or self.fn)


@dataclass(frozen=True, slots=True)
class MatchScore:
    """Counts by type under one way of matching."""

    per_type: Mapping[str, Counts] = field(default_factory=dict)

    @property
    def micro(self) -> Counts:
        """Counts of all types together."""
        return sum(self.per_type.values(), Counts())

    @property
    def f1(self) -> float:
        """F1 of all types together."""
        return self.micro.f1

    @property
    def macro_f1(self) -> float:
        """Mean F1 of the types that occur in gold or predictions; 0 where none does."""
        found = [counts.f1 for counts in self.per_type.values() if not counts.is_empty]
        return sum(found) / len(found) if found else 0.0

    def __add__(self, other: MatchScore) -> MatchScore:
        """Scores of both together."""
        names = sorted({*self.per_type, *other.per_type})
        return MatchScore(
            {name: self.per_type.get(name, Counts()) + other.per_type.get(name, Counts()) for name in names}
        )

    def as_dict(self) -> dict[str, object]:
        """Figures for a report, ready for JSON."""
        micro = self.micro
        return {
            "f1": micro.f1,
            "precision": micro.precision,
            "recall": micro.recall,
            "macro_f1": self.macro_f1,
            "tp": micro.tp,
            "fp": micro.fp,
            "fn": micro.fn,
            "per_type": {
                name: {"f1": counts.f1, "tp": counts.tp, "fp": counts.fp, "fn": counts.fn}
                for name, counts in sorted(self.per_type.items())
            },
        }


@dataclass(frozen=True, slots=True)
class Scores:
    """Strict and lenient scores of the same predictions."""

    strict: MatchScore = field(default_factory=MatchScore)
    lenient: MatchScore = field(default_factory=MatchScore)

    def __add__(self, other: Scores) -> Scores:
        """Scores of both together: micro over documents, sites or patients."""
        return Scores(self.strict + other.strict, self.lenient + other.lenient)

    @staticmethod
    def total(scores: Iterable[Scores]) -> Scores:
        """Micro score over several; all zero for none."""
        return sum(scores, Scores())

    def as_dict(self) -> dict[str, object]:
        """Figures for a report, ready for JSON."""
        return {"strict": self.strict.as_dict(), "lenient": self.lenient.as_dict()}
