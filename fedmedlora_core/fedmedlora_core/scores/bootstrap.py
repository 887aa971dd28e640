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
    return paired_bootstrap_over_groups([first], [[second]], seed=seed, resamples=resamples, level=level)


def paired_bootstrap_over_groups(
    first: Sequence[Sequence[Counts]],
    others: Sequence[Sequence[Sequence[Counts]]],
    *,
    seed: int,
    resamples: int = 2000,
    level: float = 0.95,
) -> BootstrapInterval:
    """Estimate the interval of one system's F1 minus the mean of others', macro over groups such as sites.

    Patients are drawn with replacement inside each group, so every draw holds every group at its size; all
    systems are compared on the same draw. F1 is micro inside a group, and its mean over groups is compared.

    Args:
        first: By group, counts of one system, one entry per patient; no group is empty.
        others: The same of each other system, on the same patients in the same order; at least one.
        seed: Seed of the draws.
        resamples: How many draws.
        level: Share of draws inside the interval, 0 < level < 1.

    Raises:
        ValueError: The systems differ in shape, are empty, or a number is out of range.
    """
    shape = [len(group) for group in first]
    if not shape or not others or any([len(group) for group in other] != shape for other in others):
        raise ValueError("expected counts of the same patients in the same groups for all systems")
    if not all(shape):
        raise ValueError("a group holds no patient")
    if not 0 < level < 1 or resamples < 1:
        raise ValueError("level must lie between 0 and 1 and resamples must be positive")
    source = np.random.default_rng(seed)
    exact, drawn = 0.0, np.zeros(resamples)
    for index, size in enumerate(shape):
        draws = source.integers(0, size, size=(resamples, size))
        for counts, share in [(first, 1.0), *((other, -1.0 / len(others)) for other in others)]:
            rows = _as_array(counts[index])
            drawn += share * _f1(rows[draws].sum(axis=1)) / len(shape)
            exact += share * float(_f1(rows.sum(axis=0))) / len(shape)
    tail = (1 - level) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return BootstrapInterval(
        difference=exact,
        low=float(low),
        high=float(high),
        level=level,
        share_not_better=float(np.mean(drawn <= 0)),
    )


def _as_array(counts: Sequence[Counts]) -> NDArray[np.int64]:
    """Counts as rows (tp, fp, fn)."""
    return np.array([[entry.tp, entry.fp, entry.fn] for entry in counts], dtype=np.int64)


def _f1(counts: NDArray[np.int64]) -> NDArray[np.float64]:
    """Micro F1 of summed rows (…, 3); 0 where undefined."""
    tp, fp, fn = counts[..., 0], counts[..., 1], counts[..., 2]
    whole = 2 * tp + fp + fn
    found: NDArray[np.float64] = np.divide(2 * tp, whole, out=np.zeros(whole.shape), where=tp > 0)
    return found
