"""The privacy budget of a charter, and what a site's logged charges cost of it (PROTOCOL §4.13).

Every training of a round costs the same at every site: the charter fixes noise, rate and steps. So what a
site has spent follows from the number of its charges, and anybody with the log can compute it.

What this does not know: what the same patients' notes were charged in other studies. Each site's own ledger
adds that up, and no log shows it.
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final, Self

from fedmedlora_audit.accountant import Mechanism, delta_of, epsilon_of, milli_of
from fedmedlora_audit.charter_fields import Fields
from fedmedlora_audit.errors import CharterError

UNITS: Final = ("patient", "document")
TOLERANCE: Final = 1e-6
"""How far two accountants may differ, relative to the larger of 1 and epsilon.

Each rounds a step's cost to about 1e-16 and multiplies it by the steps: 1e-9 after six million, as measured.
Figures are thousandths, rounded up; so far below them the tolerance only decides which of two neighbours is
right where epsilon is a whole number of thousandths to the sixth digit.
"""
MAX_KINDS: Final = 16
"""Mechanisms of one site that are added up; lawful is one, and a hostile log must not cost hours."""
_DELTA: Final = re.compile(r"[1-9]e-[1-9][0-9]?")
_LARGEST: Final = 1_000_000
_ORDERS: Final = (2, 4096)


@dataclass(frozen=True, slots=True)
class PrivacyPlan:
    """What a charter says about differential privacy.

    Attributes:
        unit: Who is protected: "patient" or "document".
        delta: Of (epsilon, delta), as text.
        epsilon_milli: The budget of the whole study for one unit, in thousandths.
        charge: What one training of a round is: noise, rate and steps.
        orders: Renyi orders that are minimised over, rising.
    """

    unit: str
    delta: str
    epsilon_milli: int
    charge: Mechanism
    orders: tuple[int, ...]

    @classmethod
    def of_charter(cls, study: Fields) -> Self | None:
        """Read the table ``privacy``; None if the charter has none.

        Raises:
            CharterError: A number is out of bounds, or the charter releases something that nobody charges.
        """
        if "privacy" not in study.values:
            return None
        table = study.section("privacy")
        plan = cls(
            unit=table.text("unit"),
            delta=table.text("delta"),
            epsilon_milli=table.number("epsilon_milli"),
            charge=Mechanism(
                table.number("noise_milli"), table.number("sampling_micro"), table.number("steps")
            ),
            orders=table.numbers("orders"),
        )
        plan._check_bounds()
        _check_other_releases(study)
        return plan

    def _check_bounds(self) -> None:
        if self.unit not in UNITS:
            raise CharterError("privacy.unit is 'patient' or 'document'")
        if not _DELTA.fullmatch(self.delta):
            raise CharterError("privacy.delta is a text such as 1e-5")
        charge, (least, most) = self.charge, _ORDERS
        if min(self.epsilon_milli, charge.noise_milli) < 1:
            raise CharterError("privacy.epsilon_milli and privacy.noise_milli are at least 1")
        if not (1 <= charge.sampling_micro <= _LARGEST and 1 <= charge.steps <= _LARGEST):
            raise CharterError(f"privacy.sampling_micro and privacy.steps lie between 1 and {_LARGEST}")
        if (
            list(self.orders) != sorted(set(self.orders))
            or not least <= self.orders[0] <= self.orders[-1] <= most
        ):
            raise CharterError(f"privacy.orders rise from {least} or more to {most} or less")

    def epsilon(self, charges: Mapping[Mechanism, int]) -> float:
        """Compute what charges cost together; infinity if no order gives a figure.

        Args:
            charges: How often each mechanism was charged.
        """
        return _epsilon(frozenset(charges.items()), self.delta, self.orders)

    def figure_of(self, charges: Mapping[Mechanism, int]) -> str:
        """Write what charges cost, rounded up to thousandths, for people."""
        epsilon = self.epsilon(charges)
        return figure(milli_of(epsilon)) if math.isfinite(epsilon) else "infinity"

    def agrees(self, milli: int, charges: Mapping[Mechanism, int]) -> bool:
        """Say whether a figure, in thousandths rounded up, is what charges cost (D1)."""
        low, high = _bounds(self.epsilon(charges))
        return low <= milli <= high

    def overspends(self, charges: Mapping[Mechanism, int]) -> bool:
        """Say whether charges cost more than the budget, by more than accountants may differ (D3)."""
        return _bounds(self.epsilon(charges))[0] > self.epsilon_milli

    def rounds_within(self, rounds: int) -> int:
        """Count how many of so many rounds the budget covers, if each is charged once."""
        costs = range(rounds + 1)
        return (
            bisect_right(costs, 0, key=lambda count: int(count > 0 and self.overspends({self.charge: count})))
            - 1
        )

    def shortage(self, rounds: int) -> str:
        """Say that the budget ends before the charter's rounds do; empty if it does not."""
        covered = self.rounds_within(rounds)
        if covered >= rounds:
            return ""
        budget = figure(self.epsilon_milli)
        return f"The budget, epsilon {budget}, covers {covered} of the charter's {rounds} rounds."


@dataclass(slots=True)
class Spending:
    """What a site has charged in this log.

    Attributes:
        charges: How often each mechanism was charged; one entry, the charter's, unless a rule was broken.
        milli: The cumulative figure of the last charge, as logged.
    """

    charges: dict[Mechanism, int] = field(default_factory=dict)
    milli: int = 0

    def with_one(self, mechanism: Mechanism) -> dict[Mechanism, int]:
        """Return the charges with one more; a site's kinds beyond `MAX_KINDS` add nothing."""
        if mechanism not in self.charges and len(self.charges) >= MAX_KINDS:
            return self.charges
        return {**self.charges, mechanism: self.charges.get(mechanism, 0) + 1}


def figure(milli: int) -> str:
    """Write thousandths for people."""
    return f"{milli // 1000}.{milli % 1000:03d}"


def _bounds(epsilon: float) -> tuple[float, float]:
    """Return the least and the largest figure that an accountant may give for an epsilon."""
    if math.isinf(epsilon):
        return epsilon, epsilon
    slack = TOLERANCE * max(1.0, epsilon)
    return milli_of(max(0.0, epsilon - slack)), milli_of(epsilon + slack)


@lru_cache(maxsize=4096)
def _epsilon(charges: frozenset[tuple[Mechanism, int]], delta: str, orders: tuple[int, ...]) -> float:
    """Compose; sites charge alike, so most answers are known."""
    composed = [Mechanism(m.noise_milli, m.sampling_micro, m.steps * count) for m, count in sorted(charges)]
    return epsilon_of(composed, delta=delta_of(delta), orders=orders)


def _check_other_releases(study: Fields) -> None:
    """R4.13.2: under the table all else that a site releases is a constant, or nobody charges it (D5)."""
    weights = study.section("aggregation").values
    rules = study.section("secure_aggregation").values
    released = {
        "weights that follow size or loss": weights.get("size_exponent_milli") or weights.get("tau_milli"),
        "counts of mentions": weights.get("type_weights") is not None,
        "a vote's losses": rules.get("vote") is not None,
        "validation counts": rules.get("validation") is not None,
        "steps without noise (mode 'sa')": study.section("adapter").values.get("mode") == "sa",
    }
    for what, is_released in released.items():
        if is_released:
            raise CharterError(f"privacy: {what} would be released without being charged", check="D5")
