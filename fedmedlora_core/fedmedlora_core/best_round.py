"""Which round's adapter is kept: the one with the best validation F1, the earlier one where two are equal."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.validation_counts import ValidationCounts

__all__ = ["BestRound"]


@dataclass
class BestRound:
    """Takes each round's adapter with its validation counts and keeps the best.

    Test notes never come near it; in a federation the counts are the masked sum over all sites.

    Attributes:
        round: Of the best adapter so far; 0 before the first, and for the adapter that training starts from.
        f1: Its validation F1.
        history: Validation F1 by round.
    """

    round: int = 0
    f1: float = -1.0
    history: list[float] = field(default_factory=list)
    _adapter: Adapter | None = None
    _exact: Fraction = Fraction(-1)

    def offer(self, number: int, adapter: Adapter, counts: ValidationCounts) -> None:
        """Consider the adapter of one round; the later of two equal ones is left."""
        self.history.append(counts.f1)
        if counts.exact_f1 > self._exact:
            self.round, self.f1, self._adapter, self._exact = number, counts.f1, adapter, counts.exact_f1

    @property
    def adapter(self) -> Adapter:
        """The best adapter.

        Raises:
            ValueError: No round was offered (the caller's mistake).
        """
        if self._adapter is None:
            raise ValueError("no round was offered")
        return self._adapter
