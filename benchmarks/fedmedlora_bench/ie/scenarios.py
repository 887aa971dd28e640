"""The scenarios of `bench ie`: which adapters each needs scored on which tests, and the figures from that.

| scenario | asks |
|---|---|
| main | how far are zero-shot, single-site, federated and centralised apart? |
| strategies | does another aggregation strategy do better than weighing by size? |
| external | how do they do on a site that nobody trained on? |
| new_site | what does a new site with few labelled notes gain from the federation? |
| uneven | what if each site annotates only some of the types? |
| sites | how does the federation compare with centralised training as sites are added? |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from fedmedlora_bench.cohorts import SizeLimits
from fedmedlora_bench.figures import differences
from fedmedlora_bench.ie.jobs import Scoring, Training
from fedmedlora_bench.ie.options import IeOptions
from fedmedlora_bench.ie.setting import Setting
from fedmedlora_bench.ie.strategies import LOSS_AWARE, REFERENCE, STRATEGIES, TYPE_AWARE
from fedmedlora_bench.ie.tables import ALONE, Scored, single_site_mean, spread, systems_table, without_types
from fedmedlora_bench.systems import system_figures
from fedmedlora_core.clinic import HOSPITAL_IDS
from fedmedlora_core.learning.base import BaseKind

__all__ = ["SCENARIOS", "Layout", "Scenario"]

_FEWEST = 3
"""Hospitals of the smallest federation."""
_VALIDATION, _TEST = 12, 40
"""Sentences of each hospital that are held out in scenario sites."""

Systems = dict[str, dict[str, Scoring]]
"""System to site to the job that scores it there."""


@dataclass(frozen=True)
class Layout:
    """One seed of a grid, as far as it is known before anything runs.

    Args:
        setting: The federation of scenario main.
        sites: Ids of the sites that train.
        outside: Names of the sites that do not.
        options: Size of the run.
        kind: Of the base model.
    """

    setting: Setting
    sites: tuple[str, ...]
    outside: tuple[str, ...]
    options: IeOptions
    kind: BaseKind

    def training(self, way: Any, setting: Setting | None = None, **more: Any) -> Training:
        """Name the job that trains an adapter."""
        return Training(setting or self.setting, way, choose_round=self.options.choose_round, **more)

    def federated(self, setting: Setting | None = None) -> Training:
        """Name the job that trains the federation."""
        return self.training("federated", setting)


@dataclass(frozen=True)
class Scenario:
    """A question and how it is answered.

    Args:
        plan: From one seed's layout to the jobs that score systems; a sentence says why there are none.
        table: From the scores of all seeds to figures.
        may_fail: Systems that the table does without where their training diverged.
    """

    plan: Callable[[Layout], Systems | str]
    table: Callable[[Sequence[Scored], Layout], dict[str, Any]]
    may_fail: frozenset[str] = frozenset()


def _on(adapter: Training | None, setting: Setting, sites: Sequence[str]) -> dict[str, Scoring]:
    """Score one adapter on some sites."""
    return {site: Scoring(setting, adapter, site) for site in sites}


def _all_systems(layout: Layout, tests: Sequence[str], setting: Setting | None = None) -> Systems:
    """Zero-shot, every single site, federated and centralised on some tests."""
    where = setting or layout.setting
    adapters: dict[str, Training | None] = {"zero_shot": None, "federated": layout.federated(where)}
    adapters["centralised"] = layout.training("centralised", where)
    adapters |= {ALONE + site: layout.training("single", where, site=site) for site in layout.sites}
    return {name: _on(adapter, where, tests) for name, adapter in adapters.items()}


def _main(layout: Layout) -> Systems:
    return _all_systems(layout, layout.sites)


def _main_table(runs: Sequence[Scored], layout: Layout) -> dict[str, Any]:
    found = systems_table(runs)
    for name in ("federated", "centralised"):
        found["systems"][name]["own_site"] = found["systems"][name]["by_site"]
    return found


def _possible(layout: Layout) -> Mapping[str, Mapping[str, object]]:
    """The strategies that this kind of model can have: a causal one has no rows by label type."""
    return {name: c for name, c in STRATEGIES.items() if layout.kind != "causal" or name != TYPE_AWARE}


def _strategies(layout: Layout) -> Systems:
    found = {}
    for name, changes in _possible(layout).items():
        setting = layout.setting if name == REFERENCE else layout.setting.with_profile(**changes)
        found[name] = _on(layout.federated(setting), setting, layout.sites)
    return found


def _strategies_table(runs: Sequence[Scored], layout: Layout) -> dict[str, Any]:
    found = spread(runs, lambda run: {name: system_figures(scores) for name, scores in run.items()})
    for name in found:
        if name != REFERENCE:
            found[name]["minus_fedmedlora"] = differences([(run[name], [run[REFERENCE]]) for run in runs])
    return found


def _external(layout: Layout) -> Systems | str:
    if not layout.outside:
        return "this cohort has no site outside the federation"
    return _all_systems(layout, layout.outside)


def _external_table(runs: Sequence[Scored], layout: Layout) -> dict[str, Any]:
    found = without_types(systems_table(runs))
    adapters = found["systems"]["single_site"]["adapters"].values()
    found["best_single_site"] = {
        "ner": {"strict_f1": max(figures["ner"]["strict_f1"] for figures in adapters)}
    }
    return found


def _new_site(layout: Layout) -> Systems | str:
    if not layout.outside:
        return "this cohort has no site outside the federation"
    site, found = layout.outside[-1], {}
    found["federated"] = _on(layout.federated(), layout.setting, [site])
    for count in layout.options.few_notes:
        for name, start in (("from_scratch", None), ("adapted", layout.federated())):
            few = layout.training(
                "few", site=site, notes=count, start=start, even_steps_notes=layout.options.even_steps_notes
            )
            found[f"{name}:{count}"] = _on(few, layout.setting, [site])
    return found


def _new_site_table(runs: Sequence[Scored], layout: Layout) -> dict[str, Any]:
    figures = spread(runs, lambda run: {name: system_figures(scores) for name, scores in run.items()})
    return {
        "site": layout.outside[-1],
        "federated": figures["federated"],
        "curve": {
            str(count): {
                "from_scratch": figures[f"from_scratch:{count}"],
                "adapted": figures[f"adapted:{count}"],
                "adapted_minus_from_scratch": differences(
                    [(run[f"adapted:{count}"], [run[f"from_scratch:{count}"]]) for run in runs]
                ),
            }
            for count in layout.options.few_notes
        },
    }


def _uneven(layout: Layout) -> Systems:
    setting = replace(layout.setting, uneven=True)
    found = {
        ALONE + s: _on(layout.training("single", setting, site=s), setting, layout.sites)
        for s in layout.sites
    }
    found["federated"] = _on(layout.federated(setting), setting, layout.sites)
    for name in _rules(layout):
        ruled = setting.with_profile(**STRATEGIES[name])
        found[name] = _on(layout.federated(ruled), ruled, layout.sites)
    found["evenly_annotated"] = _on(layout.federated(), layout.setting, layout.sites)
    return found


def _rules(layout: Layout) -> tuple[str, ...]:
    """Data-aware weights to compare where sites differ most."""
    return tuple(name for name in (LOSS_AWARE, TYPE_AWARE) if name in _possible(layout))


def _uneven_table(runs: Sequence[Scored], layout: Layout) -> dict[str, Any]:
    rules = _rules(layout)

    def read(run: Scored) -> Mapping[str, Any]:
        found = {name: system_figures(run[name]) for name in ("federated", *rules, "evenly_annotated")}
        return {"single_site": single_site_mean(run), **found}

    def gain(system: str, over: str) -> dict[str, Any]:
        return differences([(run[system], [run[over]]) for run in runs])

    return {
        "systems": spread(runs, read),
        "federated_minus_evenly_annotated": gain("federated", "evenly_annotated"),
        "minus_size_weights": {name: gain(name, "federated") for name in rules},
        **({"type_minus_loss_weights": gain(TYPE_AWARE, LOSS_AWARE)} if TYPE_AWARE in rules else {}),
    }


def _sites(layout: Layout) -> Systems | str:
    if layout.setting.cohort != "clinic":
        return "only the synthetic clinic has more sites"
    found = {}
    for count in layout.options.site_counts:
        setting = _spread_out(layout, count)
        names = HOSPITAL_IDS[:count]
        for name, way in (("federated", "federated"), ("centralised", "centralised")):
            found[f"{name}:{count}"] = _on(layout.training(way, setting), setting, names)
    return found


def _spread_out(layout: Layout, count: int) -> Setting:
    """The same number of training sentences over `count` hospitals, and validation and test beside them.

    A small hospital's epoch has few steps, and an average moves as far as one site does. So local epochs
    grow with the hospitals, until a round has the steps of the smallest federation again; centralised
    training passes over every note as often.
    """
    train = layout.options.spread_sentences // count
    setting = layout.setting.with_profile(training__local_epochs=max(1, round(count / _FEWEST)))
    return replace(
        setting,
        limits=SizeLimits(train=train, validation=_VALIDATION, test=_TEST),
        site_count=count,
        sentences=max(2 * train, 6 * _TEST),  # seven in ten are for training, two for the test
    )


def _sites_table(runs: Sequence[Scored], layout: Layout) -> dict[str, Any]:
    figures = spread(runs, lambda run: {name: system_figures(scores) for name, scores in run.items()})
    return {
        str(count): {
            "federated": figures[f"federated:{count}"],
            "centralised": figures[f"centralised:{count}"],
            "federated_minus_centralised": differences(
                [(run[f"federated:{count}"], [run[f"centralised:{count}"]]) for run in runs]
            ),
        }
        for count in layout.options.site_counts
    }


SCENARIOS: Mapping[str, Scenario] = {
    "main": Scenario(_main, _main_table),
    "strategies": Scenario(_strategies, _strategies_table, frozenset(STRATEGIES) - {REFERENCE}),
    "external": Scenario(_external, _external_table),
    "new_site": Scenario(_new_site, _new_site_table),
    "uneven": Scenario(_uneven, _uneven_table),
    "sites": Scenario(_sites, _sites_table),
}
"""Scenario name to what it asks and how it is shown."""
