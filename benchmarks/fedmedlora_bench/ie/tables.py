"""From the scores of several seeds to the tables of the result file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from fedmedlora_bench.figures import differences, mean_over_seeds
from fedmedlora_bench.systems import SiteScores, mean_figures, system_figures

__all__ = ["ALONE", "Scored", "rounded", "single_site_mean", "spread", "systems_table", "without_types"]

Scored = Mapping[str, Mapping[str, SiteScores]]
"""System to site to scores, of one seed."""

ALONE = "alone:"
"""Before a site's id: the system that trained on that site only."""
_DIGITS = 6


def systems_table(runs: Sequence[Scored]) -> dict[str, Any]:
    """Figures of zero-shot, the mean single site, federated and centralised, and their differences.

    Args:
        runs: One for each seed; every site has a system of its own, named `ALONE` and its id.
    """
    tables = [_systems(run) for run in runs]
    singles = [name for name in runs[0] if name.startswith(ALONE)]
    against = {"single_site": singles} | {
        name.removeprefix(ALONE): [name] for name in runs[0] if name != "federated"
    }
    return {
        "systems": mean_over_seeds(tables),
        "federated_minus": {
            shown: differences([(run["federated"], [run[name] for name in names]) for run in runs])
            for shown, names in against.items()
        },
        "by_seed": {name: [seed_means(table[name]) for table in tables] for name in tables[0]},
    }


def _systems(run: Scored) -> dict[str, Any]:
    """The systems of one seed."""
    return {
        "zero_shot": system_figures(run["zero_shot"]),
        "single_site": single_site_mean(run),
        "federated": system_figures(run["federated"]),
        "centralised": system_figures(run["centralised"]),
    }


def single_site_mean(run: Scored) -> dict[str, Any]:
    """Mean over the sites' own adapters; each on every test, and each on its own where that is among them."""
    adapters = {
        name.removeprefix(ALONE): without_types(system_figures(scores))
        for name, scores in run.items()
        if name.startswith(ALONE)
    }
    found = mean_figures(list(adapters.values())) | {"adapters": adapters}
    own = {site: figures["by_site"][site] for site, figures in adapters.items() if site in figures["by_site"]}
    return found | ({"own_site": own} if own else {})


def seed_means(figures: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """The main figures of one system of one seed, so that a spread can be looked at."""
    tasks = ("ner", "re", "re_gold_heads")
    return {task: {key: figures[task][key] for key in ("strict_f1", "lenient_f1")} for task in tasks}


def spread(runs: Sequence[Scored], read: Callable[[Scored], Mapping[str, Any]]) -> dict[str, Any]:
    """Means and standard deviations over seeds of any table, without the figures of single types."""
    return mean_over_seeds([without_types(read(run)) for run in runs])


def without_types(table: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what each type got: it is most of a file, and the main systems have it."""
    return {
        key: without_types(value) if isinstance(value, Mapping) else value
        for key, value in table.items()
        if key != "per_type"
    }


def rounded(value: Any) -> Any:
    """Round every figure of a result to what means something: a millionth of an F1."""
    if isinstance(value, float):
        return round(value, _DIGITS)
    if isinstance(value, Mapping):
        return {key: rounded(inner) for key, inner in value.items()}
    return [rounded(inner) for inner in value] if isinstance(value, list) else value
