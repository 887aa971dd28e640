"""Means and spreads of nested figures over seeds, and how sure a difference between systems is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

from fedmedlora_bench.systems import SiteScores
from fedmedlora_core.scores import Counts, paired_bootstrap_over_groups

__all__ = ["differences", "mean_over_seeds"]

_WITH_SPREAD = ("strict_f1", "lenient_f1")
_BOOTSTRAP_SEED = 1


def mean_over_seeds(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Average equal-shaped tables of figures; with several runs each F1 gets its standard deviation.

    A figure that only some runs have (a type that only some test sets hold) is the mean over those.
    """
    found: dict[str, Any] = {}
    for key in dict.fromkeys(key for run in runs for key in run):
        values = [run[key] for run in runs if key in run]
        if isinstance(values[0], Mapping):
            found[key] = mean_over_seeds(values)
        elif isinstance(values[0], bool) or not isinstance(values[0], int | float):
            found[key] = values[0]
        else:
            found[key] = fmean(values)
            if key in _WITH_SPREAD and len(values) > 1:
                found[f"{key}_sd"] = stdev(values)
    return found


def differences(
    runs: Sequence[tuple[Mapping[str, SiteScores], Sequence[Mapping[str, SiteScores]]]],
    *,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Strict F1 of one system minus the mean of others', macro over sites, with its 95 % interval.

    Patients are drawn with replacement inside each site of each seed, so the interval covers the choice of
    test notes, and over several seeds that of the training too. A task that no test note has is left out.

    Args:
        runs: For each seed, scores of one system by site and of the others on the same sites.
        resamples: Draws of the bootstrap.
    """
    found: dict[str, Any] = {}
    for task in ("ner", "re", "re_gold_heads"):
        first: list[list[Counts]] = []
        others: list[list[list[Counts]]] = [[] for _ in runs[0][1]]
        for one, rest in runs:
            for site in one:
                counts = _by_patient(one[site], task)
                if any(patient.tp + patient.fn for patient in counts):
                    first.append(counts)
                    for others_of, scores in zip(others, rest, strict=True):
                        others_of.append(_by_patient(scores[site], task))
        if first:
            found[task] = _interval(first, others, resamples)
    return found


def _interval(
    first: list[list[Counts]], others: list[list[list[Counts]]], resamples: int
) -> dict[str, float]:
    interval = paired_bootstrap_over_groups(first, others, seed=_BOOTSTRAP_SEED, resamples=resamples)
    return {
        "strict_f1_difference": interval.difference,
        "low": interval.low,
        "high": interval.high,
        "share_not_better": interval.share_not_better,
    }


def _by_patient(scores: SiteScores, task: str) -> list[Counts]:
    """Strict counts of one task, patient by patient."""
    return [patient.strict.micro for patient in getattr(scores, f"{task}_by_patient")]
