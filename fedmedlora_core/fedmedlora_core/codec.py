"""Fixed-point encoding of weighted updates into the ring of integers modulo 2**ring_bits (PROTOCOL §4).

A site holds an update x (float32, length d) and an integer weight w in [0, weight_max]. It sends

    q_i = SR(S * (w / weight_max) * x_i)  for i < d,   then w itself, then further exact integers,

all modulo 2**ring_bits, with S = 2**value_bits / clip and SR stochastic rounding. The sum over m sites
decodes to the weighted mean `sum(w x) / sum(w)`.

Head-room: every |q_i| <= 2**value_bits and value_bits = floor(log2((2**(ring_bits-1) - 1) / n)) for the n
members of the charter, so a sum over any m <= n sites stays inside the signed ring and never wraps. Exact
integers need n * weight_max < 2**(ring_bits-1).

Error: each coordinate is rounded to one of the two integers beside it, so with W = sum(w)

    |decoded - exact| < m * weight_max / (S * W) + half an ulp of the float32 result.

This module is pure arithmetic; where the rounding bits come from (a keystream keyed by the site's round
secret, so that every attempt of a round encodes the same bytes) is the caller's business.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmedlora_core.errors import CodecError, NonFiniteError

FloatVector = NDArray[np.float32]
RingVector = NDArray[np.uint32]
Words = Callable[[int, int], RingVector]
"""(start, count) -> `count` uniform 32-bit words of one fixed stream, beginning at word `start`."""

CHUNK_VALUES = 1 << 16  # 256 KiB of float32: the work on one chunk stays in the L2 cache


@dataclass(frozen=True)
class Codec:
    """The encoding that one charter fixes for all its rounds (PROTOCOL §4).

    Args:
        clip: Largest magnitude C of a value of an update; > 0.
        n: Members of the charter's full roster, never only those of one session; >= 1.
        weight_max: Largest weight a site may declare; >= 1.
        ring_bits: Width of the ring in bits; 32.

    Raises:
        CodecError: The parameters leave no head-room (the charter's fault).
    """

    clip: float
    n: int
    weight_max: int
    ring_bits: int = 32
    value_bits: int = field(init=False)

    def __post_init__(self) -> None:
        """Derive `value_bits` and refuse parameters without head-room."""
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise CodecError("the clip must be a positive number")
        if self.n < 1 or self.weight_max < 1 or self.ring_bits != 32:
            raise CodecError("n and weight_max must be positive and the ring 32 bits wide")
        half = 2 ** (self.ring_bits - 1)
        # R4.2.2
        if self.n * self.weight_max >= half:
            raise CodecError(
                f"n * weight_max = {self.n * self.weight_max} does not fit the ring (must stay below {half})"
            )
        # R4.2.1: the charter's n, so that no sum of members can wrap.
        object.__setattr__(self, "value_bits", math.floor(math.log2((half - 1) / self.n)))

    @property
    def scale(self) -> float:
        """Quanta per unit of value, S = 2**value_bits / clip."""
        return float(2**self.value_bits) / self.clip

    def encode(
        self, update: FloatVector, *, weight: int, words: Words, extras: Sequence[int] = ()
    ) -> RingVector:
        """Encode a clipped update with its weight (PROTOCOL §4).

        Args:
            update: float32 of shape `(d,)`, every |value| <= clip (see `clip_update`).
            weight: Integer in [0, weight_max].
            words: Uniform stream for the stochastic rounding; the same stream gives the same bytes.
            extras: Further exact non-negative integers with n * value < 2**(ring_bits-1).

        Returns:
            uint32 of shape `(d + 1 + len(extras),)`.

        Raises:
            NonFiniteError: The update holds NaN or infinity.
            CodecError: A value exceeds the clip or an integer its range (the caller's mistake).
        """
        if not 0 <= weight <= self.weight_max:
            raise CodecError(f"the weight must lie in 0..{self.weight_max}")
        d = update.shape[0]
        out = np.empty(d + 1 + len(extras), dtype=np.uint32)
        factor = self.scale * (weight / self.weight_max)
        for start in range(0, d, CHUNK_VALUES):
            chunk = update[start : start + CHUNK_VALUES]
            self._check(chunk)
            scaled = chunk.astype(np.float64) * factor
            uniform = words(start, chunk.shape[0]).astype(np.float64) * 2.0**-32
            # floor(v + u) with u uniform in [0, 1) is v rounded up with probability frac(v): unbiased.
            rounded = np.floor(scaled + uniform).astype(np.int64)
            out[start : start + chunk.shape[0]] = rounded.astype(np.uint64).astype(np.uint32)
        for offset, value in enumerate((weight, *extras)):
            if not 0 <= value * self.n < 2 ** (self.ring_bits - 1):
                raise CodecError("an exact integer does not fit the ring")
            out[d + offset] = value
        return out

    def _check(self, chunk: FloatVector) -> None:
        """Refuse values that the head-room was not computed for."""
        if not np.isfinite(chunk).all():
            raise NonFiniteError("the update holds a value that is not finite; nothing was encoded")
        if chunk.size and float(np.abs(chunk).max()) > self.clip * (1 + 1e-6):
            raise CodecError("the update holds a value beyond the clip")

    def decode(self, total: RingVector, *, extras: int = 0) -> tuple[FloatVector, int, tuple[int, ...]]:
        """Decode a ring sum into the weighted mean, the weight sum and the exact integers (PROTOCOL §4).

        Args:
            total: uint32 of shape `(d + 1 + extras,)`, the sum of encodings of at most n sites.
            extras: How many exact integers follow the weight.

        Returns:
            (mean as float32 `(d,)`, W, extras). Deterministic: every party gets the same bytes.

        Raises:
            CodecError: W is not in 1..n*weight_max, so no set of honest encodings gives this sum.
        """
        d = total.shape[0] - 1 - extras
        if d < 0:
            raise CodecError("the sum is shorter than its exact integers")
        weight_sum = int(total[d])
        if not 0 < weight_sum <= self.n * self.weight_max:
            raise CodecError(f"the weight sum must lie in 1..{self.n * self.weight_max}")
        factor = self.weight_max / (self.scale * weight_sum)
        mean = np.empty(d, dtype=np.float32)
        for start in range(0, d, CHUNK_VALUES):
            signed = total[start : min(start + CHUNK_VALUES, d)].view(np.int32)
            mean[start : start + signed.shape[0]] = (signed.astype(np.float64) * factor).astype(np.float32)
        return mean, weight_sum, tuple(int(v) for v in total[d + 1 :])

    def error_bound(self, *, weight_sum: int, m: int) -> float:
        """Bound |decoded - exact| per value for m sites of total weight W, before float32 rounding."""
        return m * self.weight_max / (self.scale * weight_sum)


def clip_update(update: FloatVector, *, clip_value: float, clip_norm: float) -> tuple[FloatVector, float]:
    """Clip an update first by its L2 norm, then per value (PROTOCOL §4).

    Args:
        update: float32 of shape `(d,)`.
        clip_value: Largest magnitude of one value; > 0.
        clip_norm: Largest L2 norm; > 0.

    Returns:
        (clipped copy, fraction in [0, 1] of values that the per-value clip changed).

    Raises:
        NonFiniteError: The update holds NaN or infinity (a clip would pass NaN through).
    """
    # R4.1.2: a clip would pass NaN through.
    if not np.isfinite(update).all():
        raise NonFiniteError("the update holds a value that is not finite")
    norm = float(np.linalg.norm(update.astype(np.float64)))
    scaled = update.astype(np.float32, copy=True)
    if norm > clip_norm:
        scaled *= np.float32(clip_norm / norm)
    limit = np.float32(clip_value)
    beyond = int((np.abs(scaled) > limit).sum())
    np.clip(scaled, -limit, limit, out=scaled)
    return scaled, beyond / max(1, scaled.size)
