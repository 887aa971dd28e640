"""How well scores tell two groups apart, and how far up a secret stands among its alternatives.

A higher score speaks for the first group ("positives": members, tokens that were there). Intervals are
bootstraps over units, because the sentences of one patient are no independent evidence.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Interval",
    "auc",
    "bootstrap",
    "chance_exposure",
    "exposure",
    "mean_interval",
    "recall_at_precision",
    "true_positives_at",
]

Floats = NDArray[np.float64]
Measure = Callable[[Floats, Floats], float]
"""A figure from the scores of positives and of negatives."""


@dataclass(frozen=True)
class Interval:
    """A figure with the bounds of its interval."""

    value: float
    low: float
    high: float

    def covers(self, chance: float) -> bool:
        """Whether a value lies inside."""
        return self.low <= chance <= self.high

    def as_table(self) -> dict[str, float]:
        """JSON values."""
        return {"value": self.value, "low": self.low, "high": self.high}


def auc(positives: Floats, negatives: Floats) -> float:
    """Chance that a positive scores above a negative, ties counting half; 0.5 says nothing was learned.

    Raises:
        ValueError: A group is empty (the caller's mistake).
    """
    if not positives.size or not negatives.size:
        raise ValueError("both groups need scores")
    ordered = np.sort(negatives)
    below = np.searchsorted(ordered, positives, side="left")
    upto = np.searchsorted(ordered, positives, side="right")
    return float((below + upto).sum() / (2 * positives.size * negatives.size))


def true_positives_at(positives: Floats, negatives: Floats, false_positives: float) -> float:
    """Share of positives above a threshold that at most this share of negatives passes.

    With fewer negatives than 1 / share no negative may pass: the figure is then on the safe side.
    """
    if not positives.size or not negatives.size:
        raise ValueError("both groups need scores")
    allowed = math.floor(false_positives * negatives.size + 1e-9)
    threshold = np.sort(negatives)[::-1][min(allowed, negatives.size - 1)]
    return float((positives > threshold).mean()) if allowed < negatives.size else 1.0


def recall_at_precision(scores: Floats, present: NDArray[np.bool_], precision: float) -> float:
    """Largest share of what was there in a list from the top of the scores that is right this often.

    Equal scores are taken together or not at all: who cannot tell two tokens apart cannot name one of them.
    """
    if not present.any():
        return 0.0
    order = np.argsort(-scores, kind="stable")
    hits = np.cumsum(present[order])
    ends = np.flatnonzero(np.append(np.diff(scores[order]) != 0, True))
    good = [int(hits[end]) for end in ends if hits[end] >= precision * (end + 1)]
    return max(good, default=0) / int(present.sum())


def bootstrap(
    measure: Measure,
    positives: Sequence[Floats],
    negatives: Sequence[Floats],
    *,
    seed: int,
    resamples: int = 1000,
) -> Interval:
    """A figure with its 95 % interval.

    Args:
        measure: The figure.
        positives: Scores of each unit of the first group.
        negatives: Scores of each unit of the second.
        seed: Of the draws.
        resamples: Draws.
    """
    draws = np.random.default_rng(seed)

    def drawn(units: Sequence[Floats]) -> Floats:
        return np.concatenate([units[index] for index in draws.integers(len(units), size=len(units))])

    found = [measure(drawn(positives), drawn(negatives)) for _ in range(resamples)]
    low, high = np.quantile(found, (0.025, 0.975))
    value = measure(np.concatenate(list(positives)), np.concatenate(list(negatives)))
    return Interval(value, float(low), float(high))


def exposure(secret_loss: float, other_losses: Floats) -> float:
    """Exposure of a secret in bits (Carlini et al. 2019): log2 of the alternatives over its rank.

    Args:
        secret_loss: Loss of what was planted.
        other_losses: Losses of the alternatives that were not.

    Returns:
        log2(n + 1) for the likeliest of all, 0 for the least; a tie is the middle of the ranks it spans.
    """
    below = int((other_losses < secret_loss).sum())
    ties = int((other_losses == secret_loss).sum())
    return math.log2(other_losses.size + 1) - math.log2(1 + below + ties / 2)


def chance_exposure(alternatives: int) -> float:
    """Mean exposure of a secret that was never seen, among so many alternatives beside it."""
    count = alternatives + 1
    return math.log2(count) - sum(math.log2(rank) for rank in range(1, count + 1)) / count


def mean_interval(values: Sequence[float]) -> Interval:
    """Mean of independent runs with its 95 % interval by Student's t.

    Raises:
        ValueError: There are fewer than two values (the caller's mistake).
    """
    if len(values) < 2:
        raise ValueError("an interval needs at least two runs")
    mean = float(np.mean(values))
    half = _t_quantile(len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(mean, mean - half, mean + half)


def _t_quantile(degrees: int) -> float:
    """97.5 % quantile of Student's t; from 10 degrees of freedom on by Abramowitz and Stegun 26.7.5."""
    exact = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262)
    if degrees <= len(exact):
        return exact[degrees - 1]
    z = 1.959964
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return float(sum(term / degrees**power for power, term in enumerate(terms)))
