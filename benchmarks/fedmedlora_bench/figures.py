"""Means and spreads of nested figures over seeds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean, stdev
from typing import Any

__all__ = ["mean_over_seeds"]

_WITH_SPREAD = ("strict_f1", "lenient_f1")


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
