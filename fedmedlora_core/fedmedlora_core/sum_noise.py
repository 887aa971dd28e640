"""What noise inside the masks does to a ring sum: its head-room, and how far it moves a value (R4.14.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass

FAILURE_NATS = 80
"""An honest sum passes a bound of its norm but for probability exp(-80)."""


@dataclass(frozen=True)
class SumNoise:
    """Noise of one site as the encoding knows it.

    Args:
        value_bits: A value at the clip is 2**value_bits quanta.
        noise_milli: Standard deviation of one site's noise in thousandths of a quantum.
        tail: Largest magnitude of one site's noise in quanta: it never exceeds it, so no sum wraps.
    """

    value_bits: int
    noise_milli: int
    tail: int

    def most_in_a_value(self, m: int) -> float:
        """Bound the noise of one value of a sum, in quanta.

        12 standard deviations of the sum, so an honest value is beyond it with probability below 2 exp(-72)
        (a discrete Gaussian of sigma is sigma-subgaussian: Canonne, Kamath, Steinke 2020).
        """
        return math.sqrt(m) * self.tail

    def most_in_a_norm(self, m: int, count: int) -> float:
        """Bound the L2 norm of the noise of `count` values of a sum, in quanta.

        For subgaussian values P[norm^2 > s^2 (d + 2 sqrt(d t) + 2 t)] <= exp(-t) (Hsu, Kakade, Zhang 2012).
        """
        spread = count + 2 * math.sqrt(count * FAILURE_NATS) + 2 * FAILURE_NATS
        return math.sqrt(m * spread) * self.noise_milli / 1000
