"""The demo's report: one self-contained HTML page without scripts, for people who were not watching."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from fedmedlora_cli.demo.table import SYSTEM_NAMES

TASKS = {
    "ner": "entities, strict",
    "re_gold_heads": "relations, gold heads",
    "re": "relations, own heads",
}


def write_report(path: Path, result: Mapping[str, Any]) -> None:
    """Write `report.html` from the content of `result.json`.

    Args:
        path: File to write.
        result: From `fedmedlora_cli.demo.result.build_result`.
    """
    environment = Environment(
        loader=PackageLoader("fedmedlora_cli.demo"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["figure"] = _figure
    environment.filters["percent"] = lambda value: f"{100 * value:.1f} %"
    environment.filters["megabytes"] = lambda value: f"{value / 1e6:.2f} MB"
    template = environment.get_template("report.html.j2")
    page = template.render(
        result=result,
        systems={key: SYSTEM_NAMES[key] for key in SYSTEM_NAMES if key in result["systems"]},
        tasks=TASKS,
    )
    path.write_text(page, encoding="utf-8")


def _figure(value: object) -> str:
    return f"{value:.3f}" if isinstance(value, (int, float)) else "not measured"
