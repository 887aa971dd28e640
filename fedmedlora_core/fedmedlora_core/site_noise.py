"""Site-level differential privacy: noise that every site adds before it masks (PROTOCOL §4.14).

Each site adds discrete Gaussian noise to its encoded update. Only the sum is opened, and it carries the noise
of everybody in it; T - c honest sites are in every sum, so the charter's noise is sized for that many. What
is protected is a whole site: how much the released sums tell about whether its update was its update or zero.

Everything here is an integer number of quanta, the unit of the encoding; what a site sends besides its values
is constant and gets no noise. What the noise costs in epsilon is computed by the reviewer's library
(`fedmedlora_audit.site_noise`), which shares no code with this one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field

from fedmedlora_core.codec import RingVector, Words
from fedmedlora_core.config import Section
from fedmedlora_core.discrete_gaussian import LARGEST_MILLI, DiscreteGaussian
from fedmedlora_core.errors import CodecError, ConfigError
from fedmedlora_core.privacy_terms import Delta
from fedmedlora_core.sum_noise import SumNoise

if TYPE_CHECKING:
    from fedmedlora_core.study import Study

__all__ = [
    "SiteNoiseTerms",
    "add_site_noise",
    "check_site_noise",
    "fitted",
    "sensitivity_of",
    "update_digest",
]

LEAST_MILLI = 4000
"""Least noise of one site: below it a sum of discrete Gaussians is none any more (tau of R4.14.6)."""
ROUNDING_PPM = 1
"""Millionths by which float32 may carry a clipped and scaled update beyond the clip of norms."""
FINE = 64
"""An update at the clip of norms is so many times as long as its rounding error, in a ring wide enough."""
MOST_VALUE_BITS = 30
MOST_EPSILON_MILLI = 32_000
"""Above it nothing is protected, and what the sampler's tables are off by would matter beside delta."""
_CHUNK = 1 << 16


class SiteNoiseTerms(Section):
    """Noise inside the masks; constants of the study, equal at all sites.

    The L2 clip is `secure_aggregation.clip_norm_micro`: one number, so that no two can differ.

    Attributes:
        delta: Of (epsilon, delta), for the study as a whole.
        epsilon_milli: What all rounds of the study together may cost a site, in thousandths; at most 32 000.
        noise_milli: Standard deviation of the noise that each site adds to each value, in thousandths of a
            quantum.
        value_bits: A value at the clip is 2**value_bits quanta; chosen here, since noise takes head-room.
    """

    delta: Delta
    epsilon_milli: Annotated[int, Field(ge=1, le=MOST_EPSILON_MILLI)]
    noise_milli: Annotated[int, Field(ge=LEAST_MILLI, le=LARGEST_MILLI)]
    value_bits: Annotated[int, Field(ge=1, le=MOST_VALUE_BITS)]

    @property
    def in_sums(self) -> SumNoise:
        """What sums have of it, for the encoding and its bounds."""
        tail = DiscreteGaussian(self.noise_milli).tail
        return SumNoise(value_bits=self.value_bits, noise_milli=self.noise_milli, tail=tail)


def check_site_noise(study: Study) -> None:
    """Refuse a charter in which the noise would not be what the charter says (R4.14.1).

    Raises:
        ValueError: One sentence.
    """
    if study.site_noise is None:
        return
    mode = study.secure_aggregation.mode
    if mode == "none":
        raise ValueError(
            "site_noise: without masks the coordinator sees each upload under its own noise alone, which is "
            "sized for a sum; choose mode 'masks'"
        )
    if mode == "ckks":
        raise ValueError(
            "site_noise: whoever holds the CKKS key could open single uploads under their own noise alone, "
            "which is sized for a sum; choose mode 'masks'"
        )
    if study.secure_aggregation.colluding_sites < 1:
        raise ValueError("site_noise: every member knows its own noise; colluding_sites must be at least 1")


def sensitivity_of(study: Study, *, value_bits: int | None = None) -> int:
    """Compute the largest L2 norm of a site's encoded values, in quanta, rounding included (R4.14.3).

    Args:
        study: The charter.
        value_bits: Instead of the charter's.
    """
    bits = value_bits if study.site_noise is None or value_bits is not None else study.site_noise.value_bits
    if bits is None:
        raise ValueError("a study without noise has no value_bits of its own; name them")
    terms, weights = study.secure_aggregation, study.aggregation
    weight = min(weights.weight_scale, weights.weight_max)
    above = terms.clip_norm_micro * weight * (1_000_000 + ROUNDING_PPM) << bits
    below = terms.clip_value_micro * weights.weight_max * 1_000_000
    return -(-above // below) + math.isqrt(study.adapter.dimension - 1) + 1


def fitted(
    study: Study, *, delta: str, epsilon_milli: int, noise_for: Callable[[int], int]
) -> SiteNoiseTerms:
    """Find a study's noise for a budget: fine enough for the rounding, coarse enough for the ring.

    Args:
        study: The charter without noise.
        delta: Of the budget.
        epsilon_milli: Of the budget, over all rounds.
        noise_for: Gives the least noise of a site, in thousandths of a quantum, for a sensitivity in quanta.

    Raises:
        ConfigError: The ring is too narrow for this noise.
    """
    codec, chosen = study.codec(), None
    root = math.isqrt(study.adapter.dimension - 1) + 1
    for bits in range(1, MOST_VALUE_BITS + 1):
        sensitivity = sensitivity_of(study, value_bits=bits)
        noise = max(LEAST_MILLI, noise_for(sensitivity))
        if noise > LARGEST_MILLI:
            break
        tail = DiscreteGaussian(noise).tail
        if codec.n * ((1 << bits) + tail) >= codec.half:
            break
        chosen = SiteNoiseTerms(delta=delta, epsilon_milli=epsilon_milli, noise_milli=noise, value_bits=bits)
        if sensitivity - root >= FINE * root:
            break
    if chosen is None:
        raise ConfigError(
            f"site_noise: a ring of {codec.ring_bits} bits is too narrow for the noise of epsilon "
            f"{epsilon_milli / 1000:g} among {codec.n} members; take more bits, or more epsilon"
        )
    return chosen


def add_site_noise(study: Study, encoded: RingVector, words: Words, *, threads: int = 1) -> None:
    """Add this site's noise to every value of an encoded update in place (R4.14.5).

    The weight and the exact integers at the end of the vector are constants of the study and stay as they
    are.

    Args:
        study: A charter with noise.
        encoded: From `GlobalStep.encode`.
        words: A stream under a key that this very vector has and no other: see `update_digest`.
        threads: Worker threads; the result does not depend on it.

    Raises:
        CodecError: The values are longer than the noise is sized for; nothing was added.
    """
    terms = study.site_noise
    if terms is None:
        raise ValueError("the study has no noise inside the masks")
    values = encoded[: -1 - study.extras]
    codec = study.codec()
    if squares_of(values, codec.ring_bits) > sensitivity_of(study) ** 2:  # R4.14.3: seen, not assumed
        raise CodecError("the encoded update is longer than the noise of the study is sized for")
    DiscreteGaussian(terms.noise_milli).add_into(values, words, ring_bits=codec.ring_bits, threads=threads)


def squares_of(values: RingVector, ring_bits: int) -> int:
    """Sum the squares of signed ring elements, exactly."""
    half, mask = 1 << (ring_bits - 1), (1 << ring_bits) - 1
    total = 0
    for start in range(0, values.shape[0], _CHUNK):
        signed = ((values[start : start + _CHUNK].astype(np.int64) + half) & mask) - half
        high, low = signed >> 16, signed & 0xFFFF
        # Below 2^15, 2^16 and 2^16 values: no partial sum leaves 63 bits.
        total += (int(np.dot(high, high)) << 32) + (int(np.dot(high, low)) << 17) + int(np.dot(low, low))
    return total


def update_digest(encoded: RingVector, *, charter: str, round_number: int, base: str) -> bytes:
    """Digest of everything that decides a round's encoded update, before noise (R4.14.5).

    The noise's key follows from it and a secret of the site. Encoded again, the same update gets the same
    noise, so a repetition tells nothing anew; another update gets noise of its own.

    Args:
        encoded: The encoded update.
        charter: Digest of the charter, 64 hex.
        round_number: The round.
        base: Digest of the adapter that the round started from, 64 hex.
    """
    content = hashlib.sha256(encoded.astype("<u4", copy=False).data).digest()
    found = hashlib.sha256(b"fedmedlora/site-noise/1\0")
    for field in (bytes.fromhex(charter), str(round_number).encode(), bytes.fromhex(base), content):
        found.update(len(field).to_bytes(4, "big") + field)
    return found.digest()
