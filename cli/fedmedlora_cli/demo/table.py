"""The table a person reads at the end of the demo."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

SYSTEM_NAMES = {
    "zero_shot": "untuned base model",
    "single_site": "single site (mean)",
    "federated": "federated",
    "centralised": "centralised (notes pooled)",
}


def results_table(systems: Mapping[str, Any]) -> Table:
    """Lay out strict and lenient F1 of every system, entities and relations, over all hospitals' tests."""
    table = Table(title="F1 over all hospitals' test notes", title_justify="left")
    table.add_column("system")
    for column in (
        "entities strict",
        "entities lenient",
        "relations (gold heads)",
        "relations (own heads)",
    ):
        table.add_column(column, justify="right")
    for key, name in SYSTEM_NAMES.items():
        if key in systems:
            scores = systems[key]
            table.add_row(
                name,
                _figure(scores["ner"]["strict_f1"]),
                _figure(scores["ner"]["lenient_f1"]),
                _figure(scores["re_gold_heads"]["strict_f1"]),
                _figure(scores["re"]["strict_f1"]),
            )
    return table


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, float) else "-"
