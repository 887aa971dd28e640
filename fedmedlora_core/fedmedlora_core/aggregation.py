"""Aggregation rules as ratios of two sums, and the server's step (PROTOCOL §4, arXiv 2601.22124).

Site k declares an integer weight w_k; the aggregate is sum(w_k delta_k) / sum(w_k), so neither the
coordinator nor another site sees a weight. One rule covers both methods of the paper:

    w_k ~ n_k**a * exp(tau * (1 - l_k)),   (a, tau) = (1, 0) Fed-MedLoRA, (1, 1) Fed-MedLoRA+

with n_k training sentences and l_k the validation loss measured at the site. Published sums of weights can be
differenced over rounds, so on the default "ladder" the size enters as a power of two and the loss factor on
eight steps: what differencing shows is a bucket, never a count. "exact" keeps the plain product and is
meant for comparisons with the paper.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from fedmedlora_core.codec import CHUNK_VALUES, FloatVector
from fedmedlora_core.errors import NonFiniteError

LOSS_STEPS = 8
"""Steps of the loss ladder; the factor falls by exp(-tau/4) from one step to the next."""
LOSS_STEP_WIDTH = 0.25
"""Validation loss, in nats, between two steps of the ladder."""


@dataclass(frozen=True)
class WeightRule:
    """How a site turns its size and loss into an integer weight (PROTOCOL §4.3).

    Args:
        size_exponent: a >= 0; 1 weighs by size, 0 ignores it.
        tau: Sharpness >= 0 of the loss factor exp(tau * (1 - loss)); 0 ignores the loss.
        weights: "ladder" (power-of-two sizes, eight loss steps) or "exact".
        weight_scale: Integer units of weight for one note at loss 1; >= 1.
        weight_max: Largest weight the ring allows.
    """

    size_exponent: float
    tau: float
    weights: Literal["ladder", "exact"]
    weight_scale: int
    weight_max: int

    def weight_of(self, *, n_notes: int, loss: float) -> int:
        """Compute this site's weight for one round.

        Args:
            n_notes: Size of the site, its training notes counted by their sentences; >= 1.
            loss: Mean validation loss in nats; finite, >= 0.

        Returns:
            Integer in [1, weight_max].

        Raises:
            NonFiniteError: The loss is not finite.
        """
        if not math.isfinite(loss):
            raise NonFiniteError("the validation loss is not finite")
        # R4.3.1: published sums of exact weights could be differenced over rounds.
        if self.weights == "ladder":
            size = 2.0 ** round(math.log2(max(1, n_notes)))
            step = min(LOSS_STEPS - 1, max(0, round(loss / LOSS_STEP_WIDTH)))
            loss = step * LOSS_STEP_WIDTH
        else:
            size = float(max(1, n_notes))
        weight: float = self.weight_scale * size**self.size_exponent * math.exp(self.tau * (1.0 - loss))
        return max(1, min(self.weight_max, round(weight)))

    def type_weight_of(self, *, n_mentions: int) -> int:
        """Compute this site's weight for the output rows of a label type that it annotates (R4.12.2).

        Args:
            n_mentions: Mentions of the type in the site's training notes; >= 0.

        Returns:
            Integer in [1, weight_max]; a site that found no mention still says that it looked.
        """
        size = float(max(1, n_mentions))
        if self.weights == "ladder":
            size = 2.0 ** round(math.log2(size))
        return max(1, min(self.weight_max, round(self.weight_scale * size)))


def server_step(
    base: FloatVector, average: FloatVector, *, learning_rate: float = 1.0, out: FloatVector | None = None
) -> FloatVector:
    """Move the global adapter by the averaged update: next = base + learning_rate * average.

    Args:
        base: float32 `(d,)`, the adapter the round started from.
        average: float32 `(d,)`, the decoded aggregate.
        learning_rate: Server learning rate; 1 is plain averaging.
        out: float32 `(d,)` that takes the result; it may be `average` or `base`. A new vector when left out.

    Returns:
        float32 `(d,)`; the same bytes at every site, the coordinator and the verifier.

    Raises:
        ValueError: The shapes differ (the caller's mistake).
    """
    if base.shape != average.shape:
        raise ValueError(f"expected an average of shape {base.shape}, got {average.shape}")
    moved = np.empty(base.shape, dtype=np.float32) if out is None else out
    rate = np.float32(learning_rate)
    for start in range(0, base.shape[0], CHUNK_VALUES):  # in the cache: no vector of products
        chunk = slice(start, start + CHUNK_VALUES)
        np.add(base[chunk], average[chunk] * rate, out=moved[chunk])
    return moved
