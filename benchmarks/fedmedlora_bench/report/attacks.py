"""A result of `bench attacks` on the page: its tables, and bars of what each attack gains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from fedmedlora_bench.attack_rows import attack_conditions, attack_tables
from fedmedlora_bench.report.grid import Grid, Section
from fedmedlora_bench.report.plots import Level, Plot, level_bars

__all__ = ["attacks_section", "is_attacks"]


def is_attacks(result: Mapping[str, Any]) -> bool:
    """Whether a result is one of `bench attacks`."""
    return result.get("command") == "bench attacks"


def attacks_section(name: str, result: Mapping[str, Any]) -> Section:
    """Lay out one result.

    Args:
        name: Of its file, without the ending.
        result: Its content.
    """
    grids = [
        Grid(rows.head, rows.rows, (False, *(True for _ in rows.head[1:])), (False,) * len(rows.rows))
        for rows in attack_tables(result)
    ]
    plots = [
        draw(f"{name}-{attack}", result[attack]) for attack, draw in _PLOTS.items() if result.get(attack)
    ]
    return Section(f"Attacks ({name})", grids, plots, attack_conditions(result))


def _exposure(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    groups: dict[str, dict[str, Level]] = {}
    for row in rows:
        key = f"{row['kind']}, {row['repetitions']}"
        same = [
            100 * r["exposure_bits"] / r["most_bits"]
            for r in rows
            if (r["kind"], r["repetitions"], _adapter(r)) == (row["kind"], row["repetitions"], _adapter(row))
        ]
        groups.setdefault(key, {})[_adapter(row)] = (fmean(same), 0.0)
    says = "Exposure of planted secrets by kind and number of notes, in percent of the most bits"
    return level_bars(name, says, groups, axis="percent of the most bits")


def _inversion(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    plain = [row for row in rows if row["sites"] == 1 and row["case"].startswith("one step")]
    groups: dict[str, dict[str, Level]] = {}
    for row in plain:
        bars = groups.setdefault(f"{row['mode']}, {row['sentences']}", {})
        bars[row["case"].removeprefix("one step, ")] = (100 * row["recovered"], 0.0)
        bars["frequency alone"] = (100 * row["guesser_recovered"], 0.0)
    says = "Tokens recovered from one step by mode and sentences of the step, in percent"
    return level_bars(name, says, groups, axis="percent of tokens")


def _poisoning(name: str, rows: Sequence[Mapping[str, Any]]) -> Plot:
    shown = {"nothing": "no check", "clip": "clip and clamp", "bounds": "bounds", "vote": "bounds and vote"}
    groups: dict[str, dict[str, Level]] = {
        row["lie"]: {title: (100 * row[f"f1_{check}"], 0.0) for check, title in shown.items()} for row in rows
    }
    return level_bars(name, "Strict F1 of entities after rounds with one lying site, in points", groups)


def _adapter(row: Mapping[str, Any]) -> str:
    return str(row["way"]) + ("" if row["epsilon_target"] is None else f", epsilon {row['epsilon_target']:g}")


_PLOTS = {"exposure": _exposure, "inversion": _inversion, "poisoning": _poisoning}
