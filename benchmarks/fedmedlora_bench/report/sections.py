"""What a result is shown as: recognised by what it holds, never by the name of its file.

* Of `bench secagg`: the rows of the cost table, and bars of the parts.
* Of `bench ie`: its tables, bars of the systems, the curve of the new site (`extraction`).
* Of `bench attacks`: a table for each attack, and bars of what it gains (`attacks`).
* Of `bench privacy`: its tables, and bars of F1 and of membership by budget (`privacy`).
* A list of objects whose `sites` differ (of `bench simulate`): a table, and the growth over the sites.
* Any other list of flat objects (the rows that compare CKKS with masks): a table, and bars of what they call
  seconds.
* What is left: a table of facts.

Objects inside objects are shown flat, "site seconds mean"; only what each single step cost is left to the
file.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fedmedlora_bench.report.attacks import attacks_section, is_attacks
from fedmedlora_bench.report.extraction import extraction_section, is_extraction
from fedmedlora_bench.report.grid import Grid, Section
from fedmedlora_bench.report.plots import Plot, growth_lines, stacked_bars
from fedmedlora_bench.report.privacy import is_privacy, privacy_section
from fedmedlora_bench.secagg.rows import PARTS, PEERS, beside_rows, columns, conditions, cost_rows

_NAMES = ("way", "method", "mode", "name", "scheme", "what")
"""Keys that name a row of a comparison."""
_SIZES = ("params", "values", "dimension")
_LEFT_OUT = ("steps", "dropped")
_MOST_COLUMNS = 8


def section_of(name: str, result: Mapping[str, Any]) -> Section:
    """Lay out one result.

    Args:
        name: Of its file, without the ending.
        result: Its content.
    """
    if str(result.get("schema", "")).startswith("fedmedlora-bench-secagg/"):
        return _secagg(name, result)
    if is_extraction(result):
        return extraction_section(name, result)
    if is_attacks(result):
        return attacks_section(name, result)
    if is_privacy(result):
        return privacy_section(name, result)
    section = Section(name)
    for key, value in result.items():
        if rows := _flat_rows(value):
            section.grids.append(_grid(rows))
            section.plots.extend(_plots(f"{name}-{key}", rows))
    if facts := _flat(result):
        section.grids.append(_grid([{"": key, "value": value} for key, value in facts.items()]))
    return section


def _secagg(name: str, result: Mapping[str, Any]) -> Section:
    heads = columns(result)
    grids = []
    for rows in (cost_rows(result), beside_rows(result)):
        cells = tuple((row.name, row.ours, row.peer, row.ratio)[: len(heads)] for row in rows)
        numbers = (False, *(True for _ in heads[1:]))
        grids.append(Grid(heads, cells, numbers, tuple(row.part for row in rows)))
    sides = {"ours": "ours"} | ({"peer": PEERS[result["peer"]]} if result["peer"] else {})
    panels = {
        f"{role}, wall clock": {
            shown: {
                text: result["seconds"][side][role]["wall"][part]
                for part, text in PARTS[role].items()
                if part in result["seconds"][side][role]["wall"]
            }
            for side, shown in sides.items()
        }
        for role in PARTS
    }
    says = f"Seconds of client and coordinator by part: {', '.join(sides.values())}"
    plot = stacked_bars(f"{name}-parts", says, panels)
    return Section(f"Secure aggregation: one round ({name})", grids, [plot], conditions(result))


def _flat_rows(value: object) -> list[dict[str, Any]]:
    """Return a list of objects, each made flat; empty if it is none."""
    if not isinstance(value, list) or not all(isinstance(row, dict) for row in value):
        return []
    return [_flat(row) for row in value]


def _flat(row: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    """Bring the values of inner objects up, under the names of both; lists are left out."""
    flat: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, dict) and key not in _LEFT_OUT:
            flat |= _flat(value, f"{before}{key} ")
        elif not isinstance(value, list | dict):
            flat[before + key] = value
    return flat


def _plots(name: str, rows: Sequence[Mapping[str, Any]]) -> Iterator[Plot]:
    timed = [
        key
        for key in rows[0]
        if "seconds" in key and not key.endswith(" max") and all(_positive(row.get(key)) for row in rows)
    ]
    if not timed or len(rows) < 2:
        return
    if all(_positive(row.get("sites")) for row in rows) and len({row["sites"] for row in rows}) > 1:
        ordered = sorted(rows, key=lambda row: float(row["sites"]))
        yield growth_lines(
            name,
            f"Growth of {', '.join(map(_words, timed))} with the number of sites",
            along=[row["sites"] for row in ordered],
            series={_words(key): [row[key] for row in ordered] for key in timed},
            axis="sites",
        )
        return
    label = next((key for key in _NAMES if all(key in row for row in rows)), None)
    if label is not None:
        yield stacked_bars(name, f"Seconds of each {label}", _panels(rows, label, timed))


def _panels(
    rows: Sequence[Mapping[str, Any]], label: str, timed: Sequence[str]
) -> dict[str, dict[str, dict[str, float]]]:
    """Group rows by the number of values they are of, so that a bar stands beside its like."""
    totals = [key for key in timed if key in ("seconds", "total_seconds")]
    shown = [key for key in timed if key not in totals] or totals
    panels: dict[str, dict[str, dict[str, float]]] = {}
    for row in rows:
        size = next((row[key] for key in _SIZES if key in row), None)
        title = "" if size is None else f"{size:,} values"
        panels.setdefault(title, {})[str(row[label])] = {_words(key): row[key] for key in shown}
    return panels


def _grid(rows: Sequence[Mapping[str, Any]]) -> Grid:
    """Lay out objects as a table; few objects with many keys stand side by side."""
    head = tuple(dict.fromkeys(key for row in rows for key in row))
    cells = tuple(tuple(_cell(row.get(key)) for key in head) for row in rows)
    numbers = tuple(any(_number(row.get(key)) for row in rows) for key in head)
    names = tuple(map(_words, head))
    if len(head) > _MOST_COLUMNS and len(rows) <= _MOST_COLUMNS:
        first, *rest = zip(names, *cells, strict=True)
        return Grid(first, tuple(rest), (False, *(True for _ in rows)), (False,) * len(rest))
    return Grid(names, cells, numbers, (False,) * len(cells))


def _words(key: str) -> str:
    """Turn a key into words."""
    return re.sub(r"_+", " ", key)


def _cell(value: object) -> str:
    """Lay out one value: whole numbers with separators, others with four digits that say something."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return str(value)


def _number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _positive(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0
