"""A result of `bench privacy` on the page: its tables, and F1 and membership over the budgets."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fedmedlora_bench.privacy_rows import budget_name, privacy_conditions, privacy_tables
from fedmedlora_bench.report.grid import Grid, Section
from fedmedlora_bench.report.plots import Level, level_bars

__all__ = ["is_privacy", "privacy_section"]


def is_privacy(result: Mapping[str, Any]) -> bool:
    """Whether a result is one of `bench privacy`."""
    return result.get("command") == "bench privacy"


def privacy_section(name: str, result: Mapping[str, Any]) -> Section:
    """Lay out one result.

    Args:
        name: Of its file, without the ending.
        result: Its content.
    """
    grids = [
        Grid(rows.head, rows.rows, (False, *(True for _ in rows.head[1:])), (False,) * len(rows.rows))
        for rows in privacy_tables(result)
    ]
    scores: dict[str, dict[str, Level]] = {}
    guesses: dict[str, dict[str, Level]] = {}
    for row in result["rows"]:
        bars = scores.setdefault(budget_name(row), {})
        bars["federated"] = (100 * row["ner"]["f1"], 100 * row["ner"]["sd"])
        if row["ner_alone"] is not None:
            bars["one hospital alone"] = (100 * row["ner_alone"]["f1"], 100 * row["ner_alone"]["sd"])
        area = row["membership"]["auc"]
        guesses[budget_name(row)] = {
            "AUC": (100 * area["value"], 50 * (area["high"] - area["low"])),
        }
    plots = [
        level_bars(f"{name}-f1", "Strict F1 of entities by budget, in points", scores),
        level_bars(
            f"{name}-membership",
            "How well losses tell who was trained on, by budget: AUC in percent, 50 is chance",
            guesses,
            axis="AUC, percent",
        ),
    ]
    return Section(f"Privacy and utility ({name})", grids, plots, privacy_conditions(result))
