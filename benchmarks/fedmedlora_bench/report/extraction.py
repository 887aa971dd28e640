"""A result of `bench ie` on the page: its tables, bars of the systems, and the curve of the new site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmedlora_bench.extraction_rows import Rows, conditions, sections
from fedmedlora_bench.report.grid import Grid, Section
from fedmedlora_bench.report.plots import Plot, level_bars, point_lines

__all__ = ["extraction_section", "is_extraction"]

_SYSTEMS = {
    "zero_shot": "zero-shot",
    "single_site": "single site",
    "federated": "federated",
    "centralised": "centralised",
}
_TASKS = {"ner": "entities", "re_gold_heads": "relations, gold heads", "re": "relations, own heads"}


def is_extraction(result: Mapping[str, Any]) -> bool:
    """Whether a result is one of `bench ie`."""
    return result.get("command") == "bench ie"


def extraction_section(name: str, result: Mapping[str, Any]) -> Section:
    """Lay out one result.

    Args:
        name: Of its file, without the ending.
        result: Its content.
    """
    plots = [_bars(f"{name}-systems", "F1 of the systems", result["systems"])]
    if "systems" in result.get("external", {}):
        plots.append(_bars(f"{name}-external", "F1 on external cohorts", result["external"]["systems"]))
    if "curve" in result.get("new_site", {}):
        plots.append(_curve(f"{name}-new-site", result["new_site"]["curve"]))
    return Section(
        f"Extraction ({name})", [_grid(rows) for rows in sections(result)], plots, conditions(result)
    )


def _grid(rows: Rows) -> Grid:
    numbers = (False, *(True for _ in rows.head[1:]))
    head = (rows.title, *rows.head[1:])
    return Grid(head, rows.rows, numbers, tuple(row[0].startswith("- ") for row in rows.rows))


def _bars(name: str, says: str, systems: Mapping[str, Any]) -> Plot:
    groups = {
        title: {
            shown: (100 * systems[key][task]["strict_f1"], 100 * systems[key][task].get("strict_f1_sd", 0.0))
            for key, shown in _SYSTEMS.items()
            if key in systems
        }
        for task, title in _TASKS.items()
    }
    return level_bars(name, f"{says}, strict, in points", groups)


def _curve(name: str, curve: Mapping[str, Any]) -> Plot:
    counts = [int(count) for count in curve]
    series = {
        shown: [
            (100 * found[key]["ner"]["strict_f1"], 100 * found[key]["ner"].get("strict_f1_sd", 0.0))
            for found in curve.values()
        ]
        for key, shown in (("adapted", "from the federated adapter"), ("from_scratch", "from scratch"))
    }
    says = "Strict F1 of entities at a new site by number of labelled notes, in points"
    return point_lines(name, says, along=counts, series=series, axis="labelled notes")
