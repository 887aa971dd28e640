"""Means and spreads of nested figures over seeds, and how sure a difference between two systems is."""

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
    pairs: Sequence[tuple[Mapping[str, SiteScores], Mapping[str, SiteScores]]],
    *,
    resamples: int = 2000,
) -> dict[str, Any]:
    """Strict F1 of one system minus another's, macro over sites, with its 95 % interval.

    Patients are drawn with replacement inside each site of each seed, so the interval covers the choice of
    test notes, and over several seeds that of the training too.

    Args:
        pairs: For each seed, scores of one system by site and of the other on the same sites.
        resamples: Draws of the bootstrap.
    """
    found: dict[str, Any] = {}
    for task, read in (("ner", _entities), ("re", _relations)):
        groups = [(read(first[site]), read(second[site])) for first, second in pairs for site in first]
        groups = [(one, two) for one, two in groups if any(counts.tp + counts.fn for counts in one)]
        if not groups:
            continue
        interval = paired_bootstrap_over_groups(
            [one for one, _ in groups], [two for _, two in groups], seed=_BOOTSTRAP_SEED, resamples=resamples
        )
        found[task] = {
            "strict_f1_difference": interval.difference,
            "low": interval.low,
            "high": interval.high,
            "share_not_better": interval.share_not_better,
        }
    return found


def _entities(scores: SiteScores) -> list[Counts]:
    """Strict counts of entities, patient by patient."""
    return [patient.strict.micro for patient in scores.ner_by_patient]


def _relations(scores: SiteScores) -> list[Counts]:
    """Strict counts of relation triples, patient by patient."""
    return [patient.strict.micro for patient in scores.re_by_patient]
