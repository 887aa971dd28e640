"""What a result of `bench ie` says, as rows of text: for the page of `bench report` and for docs/RESULTS.md.

F1 stands in points (100 is perfect), with the standard deviation over seeds where there are several. A part
that a result does not have gives no rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["Rows", "conditions", "difference", "points", "sections"]

Table = Mapping[str, Any]

_COLUMNS = {
    "entities, strict": ("ner", "strict_f1"),
    "entities, lenient": ("ner", "lenient_f1"),
    "unseen entities, strict": ("ner_unseen", "strict_f1"),
    "relations, own heads": ("re", "strict_f1"),
    "relations, gold heads": ("re_gold_heads", "strict_f1"),
}
_AUTHORS = {
    "entities, type-blind, strict": ("ner_type_blind", "strict_f1"),
    "entities, type-blind, lenient": ("ner_type_blind", "lenient_f1"),
    "relations, any head, own heads": ("re_any_head", "strict_f1"),
    "relations, any head, gold heads": ("re_gold_heads_any_head", "strict_f1"),
}
_NAMES = {
    "zero_shot": "zero-shot",
    "single_site": "single site (mean)",
    "federated": "federated",
    "centralised": "centralised",
    "evenly_annotated": "federated, all types annotated",
}


@dataclass(frozen=True)
class Rows:
    """One table.

    Args:
        title: What it shows.
        head: Names of the columns.
        rows: Cells.
        note: A sentence below it.
    """

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def points(figures: Table, key: str = "strict_f1") -> str:
    """An F1 in points, with its spread over seeds."""
    if key not in figures:
        return "-"
    shown = f"{100 * figures[key]:.1f}"
    spread = figures.get(f"{key}_sd")
    return shown if spread is None else f"{shown} ± {100 * spread:.1f}"


def difference(table: Table, task: str) -> str:
    """A difference in points with its interval."""
    found = table.get(task)
    if found is None:
        return "-"
    low, high = 100 * found["low"], 100 * found["high"]
    return f"{100 * found['strict_f1_difference']:+.1f} ({low:+.1f} to {high:+.1f})"


def sections(result: Table, only: str | None = None) -> list[Rows]:
    """Lay out every part that a result has.

    Args:
        result: Of `bench ie`.
        only: Name of the one scenario to show.
    """
    parts = [part for name, part in _PARTS.items() if only is None or name == only]
    return [rows for part in parts for rows in part(result)]


def conditions(result: Table) -> str:
    """Say in one paragraph what the figures are figures of."""
    model, data, cost = result["model"], result["data"], result["cost"]
    training, seeds = result["settings"]["training"], result["seeds"]
    versions = result["versions"]
    return (
        f"Model {model['name']} ({model['kind']}, {model['parameters']:,} parameters, an adapter of "
        f"{model['adapter_parameters']:,} trained values); "
        f"cohort {data['cohort']}: {', '.join(data['sites'])}; "
        f"{training['rounds']} rounds of {training['local_epochs']} local epoch(s); {_seeds(seeds)}; "
        f"{cost['jobs']} jobs, {cost['cpu_hours']:.2f} CPU-hours in all. "
        f"Python {versions['python']}, torch {versions['torch']}."
    )


def _seeds(seeds: list[int]) -> str:
    if len(seeds) == 1:
        return f"seed {seeds[0]}"
    return f"seeds {', '.join(map(str, seeds))}, mean ± standard deviation"


def _figures(title: str, systems: Mapping[str, Table], note: str = "") -> Rows:
    return _table(title, systems, _COLUMNS, note)


def _table(
    title: str, systems: Mapping[str, Table], columns: Mapping[str, tuple[str, str]], note: str = ""
) -> Rows:
    rows = tuple(
        (name, *(points(figures[task], key) if task in figures else "-" for task, key in columns.values()))
        for name, figures in systems.items()
    )
    return Rows(title, ("F1, points", *columns), rows, note)


def _named(systems: Mapping[str, Table]) -> dict[str, Table]:
    """Systems with every single site's adapter below their mean."""
    found: dict[str, Table] = {}
    for key, figures in systems.items():
        found[_NAMES.get(key, key)] = figures
        if key == "single_site":
            found |= {f"- {site}": adapter for site, adapter in figures["adapters"].items()}
    return found


def _differences(title: str, table: Mapping[str, Table], note: str) -> Rows:
    tasks = {"entities": "ner", "relations, own heads": "re", "relations, gold heads": "re_gold_heads"}
    rows = tuple(
        (name, *(difference(found, task) for task in tasks.values())) for name, found in table.items()
    )
    return Rows(title, ("points, strict", *tasks), rows, note)


_INTERVAL = "Macro over sites; 95 % interval of a paired bootstrap over patients, inside each site and seed."


def _systems(result: Table) -> Iterator[Rows]:
    note = "Macro over the sites' tests. A single site's adapter is scored on every site's test."
    yield _figures("Systems on the tests of the sites that train", _named(result["systems"]), note)
    note = "The authors' headline ignores types, and their relation score does not check the head."
    yield _table("The same by the authors' variants of the scores", _named(result["systems"]), _AUTHORS, note)
    against = {_NAMES.get(key, f"- {key}"): v for key, v in result["federated_minus"].items()}
    yield _differences("Federated minus …", against, _INTERVAL)


def _external(result: Table) -> Iterator[Rows]:
    table = result.get("external", {})
    if "systems" in table:
        yield _figures("External cohorts, which nobody trained on", _named(table["systems"]))
        against = {_NAMES.get(key, f"- {key}"): v for key, v in table["federated_minus"].items()}
        yield _differences("External cohorts: federated minus …", against, _INTERVAL)


def _strategies(result: Table) -> Iterator[Rows]:
    table = result.get("strategies", {})
    if not table or "skipped" in table:
        return
    failed = table.get("failed", {})
    table = {name: found for name, found in table.items() if name != "failed"}
    note = "Diverged, so without figures: " + ", ".join(failed) + "." if failed else ""
    yield _figures("Aggregation strategies", table, note)
    against = {
        name: found["minus_fedmedlora"] for name, found in table.items() if "minus_fedmedlora" in found
    }
    if against:
        yield _differences("Strategies minus fedmedlora (size weights)", against, _INTERVAL)


def _new_site(result: Table) -> Iterator[Rows]:
    table = result.get("new_site", {})
    if "curve" not in table:
        return
    rows = [("0 (federated adapter as it is)", "-", *(_pair(table["federated"])), "-")]
    for count, found in table["curve"].items():
        scratch, adapted = found["from_scratch"], found["adapted"]
        gain = difference(found["adapted_minus_from_scratch"], "ner")
        rows.append((count, points(scratch["ner"]), *_pair(adapted), gain))
    head = ("labelled notes", "from scratch, strict", "adapted, strict", "adapted, lenient", "gain, strict")
    yield Rows(
        f"New site {table['site']} with few labels: entities, F1 in points", head, tuple(rows), _INTERVAL
    )


def _pair(figures: Table) -> tuple[str, str]:
    return points(figures["ner"]), points(figures["ner"], "lenient_f1")


def _uneven(result: Table) -> Iterator[Rows]:
    table = result.get("uneven", {})
    if "systems" in table:
        found = {
            key: {k: v for k, v in figures.items() if k != "adapters"} | {"adapters": {}}
            for key, figures in table["systems"].items()
        }
        yield _figures("Uneven annotation: each site annotates only some types", _named(found))
        against = {"federated, all types annotated": table["federated_minus_evenly_annotated"]}
        yield _differences("Uneven annotation: federated minus …", against, _INTERVAL)
        rules = {f"{name} minus size weights": found for name, found in table["minus_size_weights"].items()}
        if "type_minus_loss_weights" in table:
            rules["types minus fedmedlora+"] = table["type_minus_loss_weights"]
        yield _differences("Uneven annotation: data-aware weights", rules, _INTERVAL)


def _sites(result: Table) -> Iterator[Rows]:
    table = result.get("sites", {})
    if not table or "skipped" in table:
        return
    rows = tuple(
        (
            count,
            points(found["federated"]["ner"]),
            points(found["centralised"]["ner"]),
            difference(found["federated_minus_centralised"], "ner"),
            points(found["federated"]["re_gold_heads"]),
            points(found["centralised"]["re_gold_heads"]),
        )
        for count, found in table.items()
    )
    head = (
        "sites",
        "entities: federated",
        "centralised",
        "difference",
        "relations, gold heads: federated",
        "centralised",
    )
    title = "As many training sentences over more sites, F1 in points, strict"
    yield Rows(title, head, rows, _INTERVAL)


_PARTS: Mapping[str, Callable[[Table], Iterator[Rows]]] = {
    "main": _systems,
    "external": _external,
    "strategies": _strategies,
    "new_site": _new_site,
    "uneven": _uneven,
    "sites": _sites,
}
"""Scenario to the tables that show it."""
