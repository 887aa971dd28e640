"""The paired bootstrap: how sure a difference between two systems on the same test set is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmedlora_core.scores.counts import Counts


@dataclass(frozen=True, slots=True)
class BootstrapInterval:
    """F1 of the first system minus F1 of the second, with a percentile interval.

    Args:
        difference: On the whole test set.
        low: Lower end of the interval.
        high: Upper end of the interval.
        level: Share of resamples inside the interval.
        share_not_better: Share of resamples in which the first system is not better than the second.
    """

    difference: float
    low: float
    high: float
    level: float
    share_not_better: float


def paired_bootstrap(
    first: Sequence[Counts],
    second: Sequence[Counts],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> BootstrapInterval:
    """Estimate the interval of a difference in micro F1 by drawing patients with replacement.

    Args:
        first: Counts of one system, one entry per patient (or other independent unit).
        second: Counts of the other system on the same patients in the same order.
        seed: Seed of the draws.
        resamples: How many draws.
        level: Share of draws inside the interval, 0 < level < 1.

    Raises:
        ValueError: The two differ in length, are empty, or a number is out of range.
    """
    if len(first) != len(second) or not first:
        raise ValueError("expected counts of the same patients for both systems, at least one")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError("level must lie between 0 and 1 and resamples must be positive")
    one_UC, two_UC = _as_array(first), _as_array(second)  # noqa: N806 - U units, C counts
    draws = np.random.default_rng(seed).integers(0, len(first), size=(resamples, len(first)))
    differences = np.array([_f1(one_UC[draw]) - _f1(two_UC[draw]) for draw in draws])
    tail = (1 - level) / 2
    low, high = np.quantile(differences, [tail, 1 - tail])
    return BootstrapInterval(
        difference=_f1(one_UC) - _f1(two_UC),
        low=float(low),
        high=float(high),
        level=level,
        share_not_better=float(np.mean(differences <= 0)),
    )


def _as_array(counts: Sequence[Counts]) -> NDArray[np.int64]:
    """Counts as rows (tp, fp, fn)."""
    return np.array([[entry.tp, entry.fp, entry.fn] for entry in counts], dtype=np.int64)


def _f1(rows: NDArray[np.int64]) -> float:
    """Micro F1 of summed rows; 0 where undefined."""
    tp, fp, fn = (int(value) for value in rows.sum(axis=0))
    return Counts(tp, fp, fn).f1
