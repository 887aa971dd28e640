"""What a published aggregate can be at most: bounds that every party checks (PROTOCOL §4.4, decision G43).

Under masks nobody sees a single update, so nobody can check one. What can be checked is the sum: m sites that
clip their updates and weigh them as the study says cannot give a weight sum outside 1..m * weight_max, an
average with a value beyond the clip, or an average whose L2 norm is beyond the clip of norms. An aggregate
beyond a bound is refused, whoever caused it. R4.4.6: within the bounds one lying site can move the average
anywhere, whatever weight it declares, and only the vote (PROTOCOL §4.7) finds that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from fedmedlora_core.codec import CHUNK_VALUES, CLIPPED_PERMILLE_MAX, Codec, FloatVector, pieces
from fedmedlora_core.errors import AggregateBoundError

RELATIVE_SLACK = 1e-6
"""Rounding of float32 in clipping and decoding, relative to the bound; each rounds by less than 2**-23."""


def check_aggregate(
    average: FloatVector,
    weight_sum: int,
    clipped: int = 0,
    *,
    codec: Codec,
    clip_norm: float,
    m: int,
    groups: Sequence[tuple[int, int, int]] = (),
    group_sums: Sequence[int] = (),
) -> float:
    """Refuse an aggregate that m clipped updates cannot give (R4.4.2, R4.4.4, R4.4.5).

    Args:
        average: Decoded weighted mean, float32 `(d,)`.
        weight_sum: Decoded W.
        clipped: Decoded sum of the clipped shares, in thousandths.
        codec: Encoding of the study; gives the clip C, weight_max and the rounding error of one value.
        clip_norm: Largest L2 norm of one update; > 0.
        m: Sites in the sum; >= 1.
        groups: (first, last + 1, place) of values with a weight sum of their own, in order. The values of a
            place are held to the bounds by themselves: they are a mean of their own (R4.12.4).
        group_sums: The weight sum of each place.

    Returns:
        The L2 norm of the average.

    Raises:
        AggregateBoundError: A bound is broken (the fault of a site or of whoever published the sum).

    Guarantees:
        No aggregate of m honest updates is refused: the slack is the encoding's own error bound e for a value
        and e * sqrt(d) for the norm; where sites add noise, also the most that it comes to but for a
        probability below 2**-70 (R4.14.8).
    """
    if not 0 <= clipped <= m * CLIPPED_PERMILLE_MAX:  # R4.5.6
        raise AggregateBoundError("clipped", f"the clipped shares do not fit {m} sites")
    measured: dict[int | None, tuple[float, float, int]] = {None: (0.0, 0.0, 0)}
    for first, last, place in pieces(0, average.shape[0], groups):
        largest, squares, count = measured.get(place, (0.0, 0.0, 0))
        more = _measure(average[first:last])
        measured[place] = (max(largest, more[0]), squares + more[1], count + last - first)
    for place, (largest, squares, count) in measured.items():
        own = weight_sum if place is None else group_sums[place]
        # R4.4.2: a weight sum of nothing, or of more than m sites can declare
        if not 0 < own <= m * codec.weight_max:
            raise AggregateBoundError("weight_sum", f"the weight sum does not fit {m} sites")
        error = codec.error_bound(weight_sum=own, m=m)
        value_noise, norm_noise = _noise(codec, error / m, m, count)
        # R4.4.4: a mean of values within the clip is within the clip; a wrapped sum almost never is
        if not largest <= codec.clip * (1 + RELATIVE_SLACK) + error + value_noise:
            raise AggregateBoundError("value", "a value of the published average exceeds the clip")
        # R4.4.5: a mean of vectors within a ball is within the ball
        if not math.sqrt(squares) <= clip_norm * (1 + RELATIVE_SLACK) + error * math.sqrt(count) + norm_noise:
            raise AggregateBoundError(
                "norm", "the L2 norm of the published average exceeds the clip of norms"
            )
    return math.sqrt(sum(squares for _, squares, _ in measured.values()))


def _noise(codec: Codec, quantum: float, m: int, count: int) -> tuple[float, float]:
    """What noise may add to a value and to the norm of `count` values, with a quantum of the sum's worth."""
    if codec.noise is None:
        return 0.0, 0.0
    return quantum * codec.noise.most_in_a_value(m), quantum * codec.noise.most_in_a_norm(m, count)


def _measure(values: FloatVector) -> tuple[float, float]:
    """Largest magnitude and sum of squares, in float64, chunk by chunk."""
    largest, squares = 0.0, 0.0
    for start in range(0, values.shape[0], CHUNK_VALUES):
        chunk = values[start : start + CHUNK_VALUES].astype(np.float64)
        largest = max(largest, float(np.abs(chunk).max()))
        squares += float(np.dot(chunk, chunk))
    return largest, squares
