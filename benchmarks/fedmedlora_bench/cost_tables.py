"""Fill the generated parts of docs/COST.md from the committed results.

``python -m fedmedlora_bench.cost_tables`` writes them between their markers; with ``--check`` it writes
nothing and fails if a part is stale. The results are what `fedmedlora bench … --json` wrote, committed
unchanged in ``docs/results``; plots are written beside them.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fedmedlora_bench.audit.rows import audit_rows
from fedmedlora_bench.audit.rows import conditions as audit_conditions
from fedmedlora_bench.cost.rows import conditions as cost_conditions
from fedmedlora_bench.cost.rows import cost_grids
from fedmedlora_bench.readme_table import replace_part
from fedmedlora_bench.report.grid import Grid
from fedmedlora_bench.report.sections import section_of
from fedmedlora_bench.secagg.rows import Row, beside_rows, columns, conditions, cost_rows

DOCUMENT = Path("docs/COST.md")
RESULTS = Path("docs/results")


def render_secagg(result: Mapping[str, Any]) -> str:
    """Lay out a result of `fedmedlora bench secagg` as Markdown."""
    heads = columns(result)
    parts = [_table(heads, cost_rows(result)), "", _table(heads, beside_rows(result)), "", conditions(result)]
    return "\n".join(parts)


def render_any(name: str) -> Callable[[Mapping[str, Any]], str]:
    """Return how a result is laid out that the report page lays out too: its plots, then its tables."""

    def render(result: Mapping[str, Any]) -> str:
        section = section_of(name, result)
        plots = [f"![{plot.says}](results/{plot.name}.svg)" for plot in section.plots]
        return "\n\n".join([*plots, *map(_grid, section.grids)])

    return render


def render_audit(result: Mapping[str, Any]) -> str:
    """Lay out a result of `fedmedlora bench audit` as Markdown."""
    lines = ["|  | measured | wanted |", "|---|---:|---:|"]
    lines += ["| " + " | ".join(row) + " |" for row in audit_rows(result)]
    return "\n".join([*lines, "", audit_conditions(result)])


def render_profiles(result: Mapping[str, Any]) -> str:
    """Lay out a result of `fedmedlora bench cost` as Markdown."""
    parts = [_lines(head, rows) for _, head, rows in cost_grids(result)]
    return "\n\n".join([*parts, cost_conditions(result)])


PARTS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "secagg": render_secagg,
    "simulate": render_any("simulate"),
    "ckks": render_any("ckks"),
    "audit": render_audit,
    "cost": render_profiles,
}
"""Name of a part, which is also that of its file of results, and how it is laid out."""


def generated(text: str, results: Path) -> str:
    """Return the document with its parts as they should be; without results a part is left."""
    for name, render in PARTS.items():
        file = results / f"{name}.json"
        if file.is_file():
            text = replace_part(text, name, render(json.loads(file.read_text(encoding="utf-8"))))
    return text


def write_plots(results: Path) -> None:
    """Write the plots that the document shows beside their results, as SVG."""
    for name, render in PARTS.items():
        file = results / f"{name}.json"
        if render not in (render_secagg, render_audit, render_profiles) and file.is_file():
            for plot in section_of(name, json.loads(file.read_text(encoding="utf-8"))).plots:
                (results / f"{plot.name}.svg").write_bytes(plot.render("svg"))


def _lines(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    rule = "|---" + "|---:" * (len(head) - 1) + "|"
    lines = ["| " + " | ".join(cells) + " |" for cells in (head, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def _grid(grid: Grid) -> str:
    rule = "".join("|---:" if number else "|---" for number in grid.numbers) + "|"
    rows = ["| " + " | ".join(cells) + " |" for cells in grid.rows]
    return "\n".join(["| " + " | ".join(grid.head) + " |", rule, *rows])


def _table(heads: Sequence[str], rows: Sequence[Row]) -> str:
    lines = ["| " + " | ".join(heads) + " |", "|---" + "|---:" * (len(heads) - 1) + "|"]
    for row in rows:
        name = f"· {row.name}" if row.part else row.name
        lines.append("| " + " | ".join((name, row.ours, row.peer, row.ratio)[: len(heads)]) + " |")
    return "\n".join(lines)


def main(argv: Sequence[str] | None = None) -> int:
    """Write or check the document; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fedmedlora_bench.cost_tables", description=__doc__)
    parser.add_argument("--document", type=Path, default=DOCUMENT)
    parser.add_argument("--results", type=Path, default=RESULTS)
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 if a part is stale")
    arguments = parser.parse_args(argv)
    current = arguments.document.read_text(encoding="utf-8")
    fresh = generated(current, arguments.results)
    if arguments.check:
        return int(fresh != current)
    arguments.document.write_text(fresh, encoding="utf-8")
    write_plots(arguments.results)
    return 0


if __name__ == "__main__":
    sys.exit(main())
