"""What noise inside the masks costs: the accountant of site-level differential privacy (PROTOCOL §4.14).

Every site adds discrete Gaussian noise to its encoded update, and T - c honest ones are in every sum. Such a
sum is concentrated differentially private (Kairouz, Liu, Steinke 2021, theorem 1): with m contributors of
standard deviation sigma each, sensitivity D and d values, all in quanta,

    rho = eps^2 / 2,   eps^2 = D^2 / (m sigma^2) + tau d / 2,
    tau = 10 sum_{k<m} exp(-2 pi^2 sigma^2 k / (k + 1))

Rounds add up. rho costs a rho at the Renyi order a, which is converted like any other mechanism's
(`fedmedlora_audit.accountant`). What the sampler's values differ from discrete Gaussians by is charged to
delta.

Everything follows from the charter, so nothing has to be logged: a round costs the same constant whoever was
in it, and the rounds that opened a sum are in the log. Neighbours: the same sums with one site's update
replaced by zero. Replaced by another update the sensitivity is twice as much (`SiteNoise.replaced_milli`).

What this leaves out: noise that honest sites beyond T - c add as well, and accountants that are tighter.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, Final, Self

from fedmedlora_audit.accountant import converted, delta_of, milli_of
from fedmedlora_audit.errors import CharterError

__all__ = ["DISTANCE", "ORDERS", "SiteNoise", "noise_finder"]

ORDERS: Final = (*range(2, 65), 72, 80, 96, 128, 192, 256, 512, 1024)
"""Integer Renyi orders that are minimised over (R4.14.6)."""
DISTANCE: Final = Fraction(1, 1 << 100)
"""Total variation between one value of a site's noise and a discrete Gaussian, at most (R4.14.4)."""
LEAST_MILLI: Final = 4000
_MOST_MILLI: Final = (1 << 22) * 1000
_ROUNDING: Final = Fraction(
    1_000_001, 1_000_000
)  # float32 may carry a clipped update that far beyond its clip


@dataclass(frozen=True, slots=True)
class SiteNoise:
    """The constants of one charter.

    Attributes:
        noise_milli: Standard deviation of one site's noise, in thousandths of a quantum.
        epsilon_milli: What all rounds together may cost.
        delta: As the charter writes it.
        sensitivity: D, in quanta, rounding included.
        contributors: m = T - c, the honest sites that are in every sum.
        members: n; each of them draws noise.
        values: d, the most values that travel in a round.
        rounds: Rounds of the study.
    """

    noise_milli: int
    epsilon_milli: int
    delta: str
    sensitivity: int
    contributors: int
    members: int
    values: int
    rounds: int

    @classmethod
    def from_charter(cls, charter: Mapping[str, Any]) -> "Self | None":
        """Read the constants; None if the charter has no such noise.

        Raises:
            CharterError: A number is missing, or the noise would not be what the charter says.
        """
        table = charter.get("site_noise")
        if table is None:
            return None
        try:
            return cls._read(table, charter)
        except (KeyError, TypeError, AttributeError, ValueError):
            raise CharterError("charter.site_noise lacks a number, or one beside it is missing") from None

    @classmethod
    def _read(cls, table: Mapping[str, Any], charter: Mapping[str, Any]) -> Self:
        rules, weights = charter["secure_aggregation"], charter["aggregation"]
        delta = table["delta"]
        if not isinstance(delta, str) or not 0 < delta_of(delta) < 1:
            raise CharterError("charter.site_noise.delta is a probability as text")
        noise, bits = _whole(table, "noise_milli", LEAST_MILLI), _whole(table, "value_bits", 1)
        if noise > _MOST_MILLI or bits > 30:
            raise CharterError("charter.site_noise has numbers that no ring holds")
        if rules["mode"] != "masks" or _whole(rules, "colluding_sites", 0) < 1:  # R4.14.1
            raise CharterError(
                "site_noise needs masks, and at least one colluding site: each knows its noise"
            )
        exact = rules.get("vote") or rules.get("validation")
        told = weights["size_exponent_milli"] != 0 or weights["tau_milli"] != 0
        if told or exact or weights.get("type_weights") is not None:
            raise CharterError("site_noise: weights are constants, and there are no votes and no counts")
        top = _whole(weights, "weight_max", 1)
        weight = min(_whole(weights, "weight_scale", 1), top)
        clip = Fraction(_whole(rules, "clip_norm_micro", 1), _whole(rules, "clip_value_micro", 1))
        values = _whole(charter["adapter"], "dimension", 1)
        longest = clip * weight / top * _ROUNDING * (1 << bits)  # R4.14.3: as the site computes it
        return cls(
            noise_milli=noise,
            epsilon_milli=_whole(table, "epsilon_milli", 1),
            delta=delta,
            sensitivity=math.ceil(longest) + math.isqrt(values - 1) + 1,
            contributors=rules["threshold"] - rules["colluding_sites"],
            members=len(charter["members"]),
            values=values,
            rounds=_whole(charter["training"], "rounds", 1),
        )

    @property
    def rho(self) -> float:
        """Concentrated differential privacy of one round (R4.14.6)."""
        sigma = self.noise_milli / 1000
        ratio = Fraction(1000 * self.sensitivity, self.noise_milli) ** 2 / self.contributors
        tau = 10 * math.fsum(
            math.exp(-2 * math.pi**2 * sigma**2 * k / (k + 1)) for k in range(1, self.contributors)
        )
        return float(ratio) / 2 + tau * self.values / 4

    @property
    def left_delta(self) -> float:
        """What is left of delta for the mechanism once the sampler is charged, over all rounds (R4.14.6)."""
        distance = float(DISTANCE * self.values * self.members * self.rounds)
        try:
            return delta_of(self.delta) - (1 + math.exp(self.epsilon_milli / 1000)) * distance
        except OverflowError:
            return 0.0

    def epsilon(self, rounds: int) -> float:
        """Epsilon of so many rounds at the charter's delta; infinity if the sampler alone uses that up."""
        if rounds == 0:
            return 0.0
        delta, rho = self.left_delta, self.rho
        if delta <= 0:
            return math.inf
        return min(converted(rounds * rho * order, order, delta) for order in ORDERS)

    def cost_milli(self, rounds: int) -> int | None:
        """Epsilon of so many rounds in thousandths, rounded up; None for infinity."""
        epsilon = self.epsilon(rounds)
        return milli_of(epsilon) if math.isfinite(epsilon) else None

    def need_budget(self) -> None:
        """Refuse a charter whose planned rounds cost more than it allows (R4.14.6).

        Raises:
            CharterError: D6, with both figures.
        """
        if not self.is_within(self.rounds):
            raise CharterError(f"site_noise: {self.said(self.rounds)}", check="D6")

    def is_within(self, rounds: int) -> bool:
        """Say whether so many rounds cost no more than the charter allows."""
        cost = self.cost_milli(rounds)
        return cost is not None and cost <= self.epsilon_milli

    def said(self, rounds: int) -> str:
        """Say what so many rounds cost a site, and what the charter allows."""
        cost = self.cost_milli(rounds)
        spent = "no finite epsilon" if cost is None else f"epsilon {cost / 1000:.3f}"
        return (
            f"{rounds} of {self.rounds} rounds cost a site {spent} at delta {self.delta}; "
            f"the charter allows {self.epsilon_milli / 1000:.3f}"
        )

    def replaced_milli(self, rounds: int) -> int | None:
        """Epsilon of so many rounds against a site with another update instead of none; None for infinity."""
        twice = replace(self, sensitivity=2 * self.sensitivity, epsilon_milli=1)
        guess = twice.cost_milli(rounds)
        if guess is None:
            return None
        twice = replace(twice, epsilon_milli=guess + 1)  # what the sampler costs grows with epsilon
        return guess + 1 if twice.is_within(rounds) else None


def noise_finder(charter: Mapping[str, Any], *, epsilon_milli: int, delta: str) -> Callable[[int], int]:
    """Say what noise a charter needs for a budget over all its rounds.

    Args:
        charter: The charter, its own noise aside.
        epsilon_milli: Of the budget, in thousandths.
        delta: Of the budget.

    Returns:
        A function from the sensitivity in quanta to the least noise of a site in thousandths of a quantum: at
        least 4000; above 2**22 * 1000 if no noise that tables hold is enough.
    """
    table = {"noise_milli": LEAST_MILLI, "value_bits": 1, "epsilon_milli": epsilon_milli, "delta": delta}
    known = SiteNoise.from_charter({**charter, "site_noise": table})
    if known is None:
        raise ValueError("a charter with the table has noise")

    def find(sensitivity: int) -> int:
        def fits(noise_milli: int) -> bool:
            noise = replace(known, noise_milli=noise_milli, sensitivity=sensitivity)
            return noise.is_within(known.rounds)

        low, high = LEAST_MILLI - 1, LEAST_MILLI
        while not fits(high):
            low, high = high, 2 * high
            if high > 2 * _MOST_MILLI:
                return high
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (low, middle) if fits(middle) else (middle, high)
        return high

    return find


def _whole(table: Mapping[str, Any], name: str, least: int) -> int:
    value = table[name]
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value < 2**53:
        raise CharterError(f"{name} of the charter is a whole number from {least}")
    return value
