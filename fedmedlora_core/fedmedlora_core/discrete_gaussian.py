"""Discrete Gaussian noise from a keystream: inverse tables of 128 bits, integers throughout (PROTOCOL §4.14).

The distribution is N_Z(0, sigma^2): an integer x has probability in proportion to exp(-x^2 / (2 sigma^2)).
The exact sampler of Canonne, Kamath, Steinke 2020 rejects in arithmetic of big integers and takes tens of
microseconds a value; a hospital needs tens of millions of values a round. Here a uniform number of 128 bits
is looked up in the cumulative distribution, which is computed with integers of 320 bits and cut at 12 sigma.

A table for a large sigma would not stay in the cache, so above 1024 quanta the noise is A + k B with

    k = floor(sqrt(sigma / 4)),   A ~ N_Z(0, (4k)^2),   B ~ N_Z(0, (sigma^2 - (4k)^2) / k^2)

Completing the square, P[A + k B = x] is exp(-x^2 / (2 sigma^2)) times a sum over shifts of a Gaussian of
variance s^2 = 16 b^2 / (16 + b^2), b the standard deviation of B. For sigma > 1024, b > 63 and s^2 > 15.9,
and that sum is the same for all x but for a factor within 1 +- 2 exp(-2 pi^2 s^2) < 1 +- 2^-400.

What a value differs from N_Z(0, sigma^2) by, as total variation: a table cut at 12 sigma loses at most
2 exp(-72) < 2^-102; thresholds rounded to 128 bits cost 2^-129 for each of at most 2^18 bins; there are at
most two tables. Together less than `DISTANCE` = 2^-100, which accountants charge to delta for every value.

Timing: looking up is a binary search, so which cache lines are touched depends on the noise. Who can watch
the caches of this machine is a process of this hospital, beside the notes themselves; over the network only
the end of the whole round can be seen.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from fedmedlora_core.codec import RingVector, Words
from fedmedlora_core.ranges import over_ranges

__all__ = ["DISTANCE", "LARGEST_MILLI", "TAIL_SIGMAS", "DiscreteGaussian"]

TAIL_SIGMAS = 12
"""Standard deviations at which a table is cut."""
DISTANCE = Fraction(1, 1 << 100)
"""Total variation between one value of the noise and the discrete Gaussian, at most."""
LARGEST_MILLI = (1 << 22) * 1000
"""Largest standard deviation in thousandths: its two tables have 2^18 entries in all."""
_ONE_TABLE_MILLI = 1024 * 1000
_FRACTION_BITS = 320
_THRESHOLD_BITS = 128
_LOW = (1 << 64) - 1
_WORDS = 2  # of 32 bits for one look-up
_CHUNK = 1 << 14  # values; a multiple of four words whatever the number of tables


class Part(NamedTuple):
    """One table: noise is the sum of each part's value times its step.

    Attributes:
        variance: Of the part.
        step: What its value is multiplied with.
        tail: Largest magnitude of its value.
    """

    variance: Fraction
    step: int
    tail: int


@dataclass(frozen=True)
class DiscreteGaussian:
    """Noise of one standard deviation.

    Args:
        noise_milli: Standard deviation in thousandths of a quantum; 1000 .. `LARGEST_MILLI`.

    Raises:
        ValueError: It lies outside (the caller's mistake).
    """

    noise_milli: int

    def __post_init__(self) -> None:
        """Refuse what the tables are not made for."""
        if not 1000 <= self.noise_milli <= LARGEST_MILLI:
            raise ValueError(f"a standard deviation lies in 1000..{LARGEST_MILLI} thousandths")

    @property
    def parts(self) -> tuple[Part, ...]:
        """Split the noise into what one table each gives (R4.14.4)."""
        variance = Fraction(self.noise_milli, 1000) ** 2
        if self.noise_milli <= _ONE_TABLE_MILLI:
            return (_part(variance, 1),)
        step = math.isqrt(self.noise_milli // 4000)
        fine = Fraction(16 * step * step)
        return (_part(fine, 1), _part((variance - fine) / (step * step), step))

    @property
    def tail(self) -> int:
        """Largest magnitude that the noise ever has, in quanta."""
        return sum(part.step * part.tail for part in self.parts)

    def add_into(self, vector: RingVector, words: Words, *, ring_bits: int, threads: int = 1) -> None:
        """Add noise to every word in place, modulo 2**ring_bits.

        Args:
            vector: uint32 of shape `(d,)`.
            words: A uniform stream that serves nothing else; the same stream gives the same noise.
            ring_bits: Width of the ring.
            threads: Worker threads; the result does not depend on it.
        """
        total, mask = vector.shape[0], np.uint32((1 << ring_bits) - 1)

        def add(first: int, last: int) -> None:
            for start in range(first, last, _CHUNK):
                stop = min(start + _CHUNK, last)
                noise = self._values(words, start, stop - start, total).astype(np.uint32)
                chunk = vector[start:stop]
                np.add(chunk, noise, out=chunk)
                np.bitwise_and(chunk, mask, out=chunk)

        over_ranges(add, total, threads)

    def sample(self, count: int, words: Words) -> NDArray[np.int64]:
        """Give the first values of a stream: what `add_into` adds to a vector of this length."""
        ranges = range(0, count, _CHUNK)
        parts = [self._values(words, at, min(_CHUNK, count - at), count) for at in ranges]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _values(self, words: Words, start: int, count: int, total: int) -> NDArray[np.int64]:
        """Values start .. start+count-1 of a vector of `total`."""
        parts = self.parts
        per_value = _WORDS * len(parts)
        drawn = np.ascontiguousarray(words(start * per_value, count * per_value), dtype="<u4")
        uniform = drawn.view("<u8").reshape(count, len(parts))
        noise = np.zeros(count, dtype=np.int64)
        for column, part in enumerate(parts):
            high = np.ascontiguousarray(uniform[:, column], dtype=np.uint64)
            table = _table(part.variance, part.tail)
            places = table.look_up(high)
            for place in table.ties(high, places):  # one in 2^46 values at most: the lower 64 bits decide
                at = total * per_value + (start + int(place)) * per_value + _WORDS * column
                low = int.from_bytes(words(at, _WORDS).astype("<u4").tobytes(), "little")
                places[place] = table.exact(int(high[place]), low)
            noise += part.step * (places - part.tail)
        return noise


@dataclass(frozen=True, eq=False)
class _Table:
    """Thresholds of 128 bits: a uniform number below the i-th and no earlier one is the i-th value."""

    thresholds: tuple[int, ...]
    high: NDArray[np.uint64]

    def look_up(self, high: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Places by the upper 64 bits; right wherever no threshold has the same ones."""
        return np.searchsorted(self.high, high, side="right").astype(np.int64, copy=False)

    def ties(self, high: NDArray[np.uint64], places: NDArray[np.int64]) -> NDArray[np.int64]:
        """Where the upper 64 bits are those of a threshold, so that the lower ones decide."""
        before = self.high[np.maximum(places - 1, 0)]
        return np.flatnonzero((before == high) & (places > 0)).astype(np.int64, copy=False)

    def exact(self, high: int, low: int) -> int:
        """Place of a number of 128 bits."""
        return bisect_right(self.thresholds, high << 64 | low)


def _part(variance: Fraction, step: int) -> Part:
    """A table's part, cut at 12 standard deviations, rounded up."""
    squared = TAIL_SIGMAS * TAIL_SIGMAS * variance
    tail = math.isqrt(squared.numerator // squared.denominator) + 1
    return Part(variance, step, tail)


@cache
def _table(variance: Fraction, tail: int) -> _Table:
    """Compute the thresholds of one part with integers alone, so that every machine has the same ones."""
    weights = _weights(variance, tail)
    total = weights[0] + 2 * sum(weights[1:])
    thresholds, below = [], 0
    for value in range(-tail, tail):  # the last value takes what is left
        below += weights[abs(value)]
        thresholds.append((below << _THRESHOLD_BITS) // total)
    high = np.array([threshold >> 64 for threshold in thresholds], dtype=np.uint64)
    return _Table(tuple(thresholds), high)


def _weights(variance: Fraction, tail: int) -> list[int]:
    """exp(-x^2 / (2 variance)) for x = 0 .. tail, times 2**320, each off by less than 2**40 at most."""
    ratio = _exp_minus(1 / (2 * variance))
    square = ratio * ratio >> _FRACTION_BITS
    weights = [1 << _FRACTION_BITS]
    for _ in range(tail):
        weights.append(weights[-1] * ratio >> _FRACTION_BITS)
        ratio = ratio * square >> _FRACTION_BITS
    return weights


def _exp_minus(x: Fraction) -> int:
    """exp(-x) times 2**320 for 0 <= x <= 1, by its series."""
    term = total = 1 << _FRACTION_BITS
    place = 0
    while term:
        place += 1
        term = term * x.numerator // (x.denominator * place)
        total += -term if place % 2 else term
    return total
