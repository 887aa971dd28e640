"""Fixed-point encoding of weighted updates into the ring of integers modulo 2**ring_bits (PROTOCOL §4).

A site holds an update x (float32, length d) and an integer weight w in [0, weight_max]. It sends

    q_i = SR(S * (w / weight_max) * x_i)  for i < d,   then w itself, then further exact integers,

all modulo 2**ring_bits, with S = 2**value_bits / clip and SR stochastic rounding. The sum over m sites
decodes to the weighted mean `sum(w x) / sum(w)`.

Head-room: every |q_i| <= 2**value_bits and value_bits = floor(log2((2**(ring_bits-1) - 1) / n)) for the n
members of the charter, so a sum over any m <= n sites stays inside the signed ring and never wraps. Exact
integers need n * max < 2**(ring_bits-1).

Error: each coordinate is rounded to one of the two integers beside it, so with W = sum(w)

    |decoded - exact| < m * weight_max / (S * W) + half an ulp of the float32 result.

This module is pure arithmetic; where the rounding bits come from (a keystream keyed by the site's round
secret, so that every attempt of a round encodes the same bytes) is the caller's business. Everything is done
chunk by chunk in the cache and, where asked for, on several threads; the bytes depend on neither.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from fedmedlora_core import arithmetic
from fedmedlora_core.errors import CodecError, NonFiniteError
from fedmedlora_core.packing import WIRE_BITS, RingVector
from fedmedlora_core.ranges import over_ranges
from fedmedlora_core.sum_noise import SumNoise

__all__ = [
    "CLIPPED_PERMILLE_MAX",
    "EXTRAS",
    "Codec",
    "FloatVector",
    "RingVector",
    "WordStream",
    "Words",
    "choose_wire_bits",
    "clip_update",
    "clipped_permille",
    "pieces",
]

FloatVector = NDArray[np.float32]
Words = Callable[[int, int], RingVector]
"""(start, count) -> `count` uniform 32-bit words of one fixed stream, beginning at word `start`."""


@runtime_checkable
class WordStream(Protocol):
    """A uniform stream that is read on from a place without being set up for every chunk."""

    def reader(self, start: int) -> Callable[[int], RingVector]:
        """Give consecutive words from word `start` on; a call may overwrite what the last one gave."""


CHUNK_VALUES = 1 << 15
"""Values of one chunk of work: 128 KiB of float32 stay in the cache beside what they are worked on with."""
STREAM_WORDS = 1 << 16
"""Words that are read from a stream at a time; a keystream is fastest by this number (PROTOCOL §6.4)."""
CLIPPED_PERMILLE_MAX = 1000
EXTRAS = 1
"""Exact integers after the weight: the share of values that the clip changed, in thousandths."""
LEAST_VALUE_BITS = 16
"""Value bits that a charter has at least when its width on the wire is chosen for it."""
_SLACK = 1e-6  # float32 rounding of a value that lies on the clip


@dataclass(frozen=True)
class Codec:
    """The encoding that one charter fixes for all its rounds (PROTOCOL §4).

    Args:
        clip: Largest magnitude C of a value of an update; > 0.
        n: Members of the charter's full roster, never only those of one session; >= 1.
        weight_max: Largest weight a site may declare; >= 1.
        ring_bits: Width of the ring and of a value on the wire in bits; 16, 24 or 32.
        noise: What every site adds to its values; it takes head-room (R4.14.2). None for nothing.

    Raises:
        CodecError: The parameters leave no head-room (the charter's fault).
    """

    clip: float
    n: int
    weight_max: int
    ring_bits: int = 32
    noise: SumNoise | None = None
    value_bits: int = field(init=False)

    def __post_init__(self) -> None:
        """Derive `value_bits` and refuse parameters without head-room."""
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise CodecError("the clip must be a positive number")
        if self.n < 1 or self.weight_max < 1 or self.ring_bits not in WIRE_BITS:
            raise CodecError("n and weight_max must be positive and the ring 16, 24 or 32 bits wide")
        for name, most in (("weight_max", self.weight_max), ("the clipped share", CLIPPED_PERMILLE_MAX)):
            # R4.2.2: an exact integer that wraps would be another number, and nobody could tell.
            if self.n * most >= self.half:
                raise CodecError(
                    f"{self.n} members * {name} = {self.n * most} does not fit the ring of {self.ring_bits} "
                    f"bits (must stay below {self.half})"
                )
        # R4.2.1, R4.5.4: the charter's n, so that no sum of members can wrap.
        bits = _value_bits(self.n, self.ring_bits) if self.noise is None else self.noise.value_bits
        object.__setattr__(self, "value_bits", bits)
        if self.n * self._most >= self.half:
            raise CodecError(
                f"{self.n} members * (2**{bits} + the noise's tail) does not fit {self.ring_bits} bits"
            )

    @property
    def half(self) -> int:
        """Half the ring, 2**(ring_bits - 1): where negative numbers begin."""
        return 1 << (self.ring_bits - 1)

    @property
    def modulus(self) -> int:
        """Size of the ring, 2**ring_bits."""
        return 1 << self.ring_bits

    @property
    def scale(self) -> float:
        """Quanta per unit of value, S = 2**value_bits / clip."""
        return float(2**self.value_bits) / self.clip

    @property
    def head_room_bits(self) -> float:
        """Bits between the largest sum of all members and the end of the signed ring; >= 0."""
        return math.log2((self.half - 1) / (self.n * self._most))

    @property
    def _most(self) -> int:
        """Largest magnitude of one site's value, in quanta."""
        return (1 << self.value_bits) + (0 if self.noise is None else self.noise.tail)

    def encode(
        self,
        update: FloatVector,
        *,
        weight: int,
        words: Words | WordStream,
        extras: Sequence[int] = (),
        groups: Sequence[tuple[int, int, int]] = (),
        out: RingVector | None = None,
        threads: int = 1,
    ) -> RingVector:
        """Encode a clipped update with its weight (PROTOCOL §4).

        Args:
            update: float32 of shape `(d,)`, every |value| <= clip (see `clip_update`).
            weight: Integer in [0, weight_max].
            words: Uniform stream for the stochastic rounding; the same stream gives the same bytes.
            extras: Further exact non-negative integers with n * value < 2**(ring_bits-1).
            groups: (first, last + 1, weight) of values with a weight of their own, in order.
            out: uint32 of the shape returned, which takes the encoding; the update may lie in its first d
                words and is then encoded in place: nothing is left of it, also after an error.
            threads: Worker threads; the result does not depend on it.

        Returns:
            uint32 of shape `(d + 1 + len(extras),)`, every word below 2**ring_bits.

        Raises:
            NonFiniteError: The update holds NaN or infinity.
            CodecError: A value exceeds the clip, an integer its range, or the update is no contiguous vector
                of float32 (the caller's mistake).
        """
        _require_floats(update)
        if not all(0 <= w <= self.weight_max for w in (weight, *(w for _, _, w in groups))):
            raise CodecError(f"the weight must lie in 0..{self.weight_max}")
        d = update.shape[0]
        encoded = np.empty(d + 1 + len(extras), dtype=np.uint32) if out is None else out
        if encoded.shape != (d + 1 + len(extras),):
            raise CodecError("the encoding has a word for each value, the weight and each exact integer")
        for offset, value in enumerate((weight, *extras)):
            if not 0 <= value * self.n < self.half:
                raise CodecError("an exact integer does not fit the ring")
            encoded[d + offset] = value

        def encode(first: int, last: int) -> None:
            read = _consecutive(
                words, first
            )  # one reader for all pieces: a stream starts at whole blocks only
            for start, stop, own in pieces(first, last, groups):
                chosen = weight if own is None else own
                self._encode_range(update[start:stop], encoded[start:stop], chosen, read)

        over_ranges(encode, d, threads)
        return encoded

    def _encode_range(
        self,
        update: FloatVector,
        out: RingVector,
        weight: int,
        read: Callable[[int], RingVector],
    ) -> None:
        """Encode a part of an update with the next words of the stream."""
        factor = self.scale * (weight / self.weight_max)
        for start in range(0, update.shape[0], STREAM_WORDS):
            stop = min(start + STREAM_WORDS, update.shape[0])
            largest = arithmetic.loops.encode(
                update[start:stop], read(stop - start), out[start:stop], factor, self.modulus - 1
            )
            if not math.isfinite(largest):
                raise NonFiniteError("the update holds a value that is not finite; nothing was encoded")
            if largest > self.clip * (1 + _SLACK):  # the head-room was not computed for it
                raise CodecError("the update holds a value beyond the clip")

    def decode(
        self,
        total: RingVector,
        *,
        extras: int = 0,
        groups: Sequence[tuple[int, int, int]] = (),
        out: FloatVector | None = None,
        threads: int = 1,
    ) -> tuple[FloatVector, int, tuple[int, ...]]:
        """Decode a ring sum into the weighted mean, the weight sum and the exact integers (PROTOCOL §4).

        Args:
            total: uint32 of shape `(d + 1 + extras,)`, the sum of encodings of at most n sites; bits above
                the ring's are ignored.
            extras: How many exact integers follow the weight.
            groups: (first, last + 1, place) of values that are divided by the exact integer at a place
                among the extras instead of by W, in order.
            out: float32 `(d,)` that takes the mean; it may be `total[:d].view(np.float32)`, which is then
                decoded in place.
            threads: Worker threads; the result does not depend on it.

        Returns:
            (mean as float32 `(d,)`, W, extras). Deterministic: every party gets the same bytes.

        Raises:
            CodecError: W, or that of a group, is not in 1..n*weight_max, or an exact integer beyond its
                range, so no set of honest encodings gives this sum; nothing was written to `out`.
        """
        d = total.shape[0] - 1 - extras
        if d < 0:
            raise CodecError("the sum is shorter than its exact integers")
        weight_sum, *others = (int(word) & (self.modulus - 1) for word in total[d:])
        if not 0 < weight_sum <= self.n * self.weight_max:
            raise CodecError(f"the weight sum must lie in 1..{self.n * self.weight_max}")
        if not all(0 < others[place] <= self.n * self.weight_max for _, _, place in groups):
            raise CodecError(f"the weight sum of a group must lie in 1..{self.n * self.weight_max}")
        mean = np.empty(d, dtype=np.float32) if out is None else out

        def decode(first: int, last: int) -> None:
            for start, stop, place in pieces(first, last, groups):
                factor = self.weight_max / (self.scale * (weight_sum if place is None else others[place]))
                arithmetic.loops.decode(total[start:stop], mean[start:stop], factor, self.ring_bits)

        over_ranges(decode, d, threads)
        return mean, weight_sum, tuple(others)

    def error_bound(self, *, weight_sum: int, m: int) -> float:
        """Bound |decoded - exact| per value for m sites of total weight W, before float32 rounding."""
        return m * self.weight_max / (self.scale * weight_sum)


def pieces(
    first: int, last: int, groups: Sequence[tuple[int, int, int]]
) -> Iterator[tuple[int, int, int | None]]:
    """Cut first..last at the bounds of groups in order: (first, last + 1, the group's number or None)."""
    at = first
    for group_first, group_last, number in groups:
        start, stop = max(group_first, at), min(group_last, last)
        if start >= stop:
            continue
        if at < start:
            yield at, start, None
        yield start, stop, number
        at = stop
    if at < last:
        yield at, last, None


def choose_wire_bits(*, n: int, weight_max: int) -> int:
    """Choose the narrowest ring for a charter (PROTOCOL §4.5).

    Args:
        n: Members of the full roster.
        weight_max: Largest weight a site may declare.

    Returns:
        The narrowest width whose exact integers fit and that leaves 16 bits or more to a value; else 32.
    """
    for bits in WIRE_BITS:
        # R4.5.3
        fits = n * max(weight_max, CLIPPED_PERMILLE_MAX) < 1 << (bits - 1)
        if fits and _value_bits(n, bits) >= LEAST_VALUE_BITS:
            return bits
    return WIRE_BITS[-1]


def clip_update(
    update: FloatVector,
    *,
    clip_value: float,
    clip_norm: float,
    out: FloatVector | None = None,
    threads: int = 1,
) -> tuple[FloatVector, float]:
    """Clip an update first by its L2 norm, then per value (PROTOCOL §4).

    Args:
        update: float32 of shape `(d,)`.
        clip_value: Largest magnitude of one value; > 0.
        clip_norm: Largest L2 norm; > 0.
        out: float32 `(d,)` that takes the result; `update` itself is clipped in place. A copy when left out.
        threads: Worker threads; the result does not depend on it.

    Returns:
        (the clipped update, fraction in [0, 1] of values that the per-value clip changed).

    Raises:
        NonFiniteError: The update holds NaN or infinity (a clip would pass NaN through); `out` is unchanged.
        CodecError: The update is no contiguous vector of float32 (the caller's mistake).
    """
    # R4.1.2: by the norm first, then per value; a clip would pass NaN through, so it is refused here.
    norm, largest = _norm(update, threads)
    clipped = np.empty_like(update) if out is None else out
    limit, shrink = np.float32(clip_value), np.float32(clip_norm / norm if norm > clip_norm else 1.0)
    if shrink == 1 and largest <= limit:  # the common case: nothing to change, nothing to write
        if clipped is not update:
            np.copyto(clipped, update)
        return clipped, 0.0
    beyond: list[int] = []  # a sum of counts, in whatever order the threads come to it

    def clip(first: int, last: int) -> None:
        part = update[first:last]
        beyond.append(arithmetic.loops.clip(part, clipped[first:last], float(shrink), float(limit)))

    over_ranges(clip, update.size, threads)
    return clipped, sum(beyond) / max(1, update.size)


def clipped_permille(fraction: float) -> int:
    """Express a fraction of clipped values in thousandths, rounded up: 0 only says that none was clipped.

    Raises:
        CodecError: The fraction lies outside [0, 1] (the caller's mistake).
    """
    if not 0 <= fraction <= 1:
        raise CodecError("a fraction lies in 0..1")
    # R4.5.5: steps of a thousandth, so that no count of values is told.
    return math.ceil(fraction * CLIPPED_PERMILLE_MAX)


def _norm(update: FloatVector, threads: int) -> tuple[float, float]:
    """L2 norm in float64 and largest magnitude; chunk sums are added exactly, whatever the threads."""
    _require_floats(update)
    chunks = -(-update.size // CHUNK_VALUES)
    squares = np.empty((chunks, arithmetic.LANES))
    largest = np.empty(chunks, dtype=np.float32)

    def measure(first: int, last: int) -> None:
        part = slice(first // CHUNK_VALUES, -(-last // CHUNK_VALUES))
        arithmetic.loops.measure(update[first:last], squares[part], largest[part], CHUNK_VALUES)

    over_ranges(measure, update.size, threads)
    if not np.isfinite(largest).all():  # squares of finite float32 values cannot overflow float64
        raise NonFiniteError("the update holds a value that is not finite")
    return math.sqrt(math.fsum(squares.flat)), float(largest.max(initial=0.0))


def _require_floats(update: FloatVector) -> None:
    """Demand a vector that lies in memory as the loops read it."""
    if update.dtype != np.float32 or update.ndim != 1 or not update.flags.c_contiguous:
        raise CodecError("an update is a contiguous vector of float32")


def _consecutive(words: Words | WordStream, first: int) -> Callable[[int], RingVector]:
    """Read a stream on from word `first`."""
    if isinstance(words, WordStream):
        return words.reader(first)
    at = first

    def read(count: int) -> RingVector:
        nonlocal at
        at += count
        return words(at - count, count)

    return read


def _value_bits(n: int, ring_bits: int) -> int:
    """Value bits b with n * 2**b < 2**(ring_bits - 1)."""
    return math.floor(math.log2(((1 << (ring_bits - 1)) - 1) / n))
