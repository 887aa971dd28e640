"""The verifier's own privacy accountant: Renyi DP of the Poisson-subsampled Gaussian at integer orders.

Sites charge what dp-accounting computes; an auditor recomputes it here, from what is in the log, with another
program and the standard library alone (decision 23; AUDIT checks D1 to D5). At an integer order a the Renyi
divergence of one step, adding or removing one unit, is

    log( sum over k of C(a, k) q^k (1 - q)^(a - k) exp((k^2 - k) / (2 sigma^2)) ) / (a - 1)

(Mironov, Talwar, Zhang 2019, theorem 5 and section 3.3). Steps add up. The conversion to (epsilon, delta) is
proposition 12 of Canonne, Kamath, Steinke 2020.

What this leaves out: orders that are not integers, and accountants that are tighter (PLD): a site may print
their figures, and nobody charges them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache

__all__ = ["Mechanism", "calibrated_noise_milli", "converted", "delta_of", "epsilon_of", "milli_of"]

_MOST_NOISE_MILLI = 1_000_000


@dataclass(frozen=True, order=True, slots=True)
class Mechanism:
    """Equal steps of one mechanism.

    Args:
        noise_milli: Noise multiplier in thousandths; >= 1.
        sampling_micro: Poisson rate in millionths; 1 .. 1 000 000 (then it is a plain Gaussian).
        steps: How many; >= 1.
    """

    noise_milli: int
    sampling_micro: int
    steps: int


def delta_of(text: str) -> float:
    """Read a delta as a charter writes it, for example "1e-5"."""
    return float(text)


def epsilon_of(mechanisms: Iterable[Mechanism], *, delta: float, orders: Sequence[int]) -> float:
    """Compose mechanisms and convert (AUDIT D1).

    Args:
        mechanisms: All that was spent on one unit's data; none costs nothing.
        delta: 0 < delta < 1.
        orders: Integers of 2 or more that are minimised over; not empty.

    Returns:
        epsilon >= 0; infinity if no order gives a finite one.
    """
    totals = [0.0] * len(orders)
    for mechanism in mechanisms:
        curve = _curve(mechanism.noise_milli, mechanism.sampling_micro, tuple(orders))
        totals = [total + mechanism.steps * step for total, step in zip(totals, curve, strict=True)]
    if not any(totals):
        return 0.0
    return min(converted(total, order, delta) for total, order in zip(totals, orders, strict=True))


def milli_of(epsilon: float) -> int:
    """Round an epsilon up to thousandths: what is written down is never less than what was spent."""
    # A billionth is forgiven: two accountants may differ by that much at a whole number.
    return math.ceil(epsilon * 1000 - 1e-6)


def calibrated_noise_milli(
    *, epsilon: float, delta: float, sampling_micro: int, steps: int, orders: Sequence[int]
) -> int:
    """Find the least noise multiplier, in thousandths, whose cost over all steps is within epsilon.

    Raises:
        ValueError: epsilon is not above 0, or no noise multiplier up to 1000 is enough.
    """

    def fits(noise_milli: int) -> bool:
        spent = epsilon_of([Mechanism(noise_milli, sampling_micro, steps)], delta=delta, orders=orders)
        return spent <= epsilon

    low, high = 0, 1000
    while not fits(high):
        low, high = high, 2 * high
        if high > _MOST_NOISE_MILLI:
            raise ValueError(f"no noise is enough for epsilon {epsilon:g} over {steps} steps")
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if fits(middle) else (middle, high)
    return high


@lru_cache(maxsize=2048)
def _curve(noise_milli: int, sampling_micro: int, orders: tuple[int, ...]) -> tuple[float, ...]:
    """Renyi divergence of one step at each order; what costs time here, and the same for every charge."""
    return tuple(_divergence(noise_milli / 1000, sampling_micro / 1_000_000, order) for order in orders)


def _divergence(sigma: float, rate: float, order: int) -> float:
    """Renyi divergence of one step."""
    if rate >= 1.0:
        return order / (2 * sigma * sigma)
    terms = [
        _log_choose(order, k)
        + k * math.log(rate)
        + (order - k) * math.log1p(-rate)
        + (k * k - k) / (2 * sigma * sigma)
        for k in range(order + 1)
    ]
    most = max(terms)
    total = most + math.log(math.fsum(math.exp(term - most) for term in terms))
    return max(0.0, total / (order - 1))


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)


def converted(divergence: float, order: int, delta: float) -> float:
    """Convert one order's total to epsilon.

    Args:
        divergence: Renyi divergence of everything spent.
        order: 2 or more.
        delta: 0 < delta < 1.
    """
    if delta * delta + math.expm1(-divergence) > 0:  # the total variation bound alone is below delta
        return 0.0
    bound = divergence + math.log1p(-1 / order) - math.log(delta * order) / (order - 1)
    return max(0.0, bound)
