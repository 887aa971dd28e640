"""What an import read, kept and dropped, as tables for the operator: counts by type, never text of a note."""

from __future__ import annotations

from collections.abc import Mapping

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from fedmedlora_site.importing import Imported


def show_import(found: Imported) -> None:
    """Print tables by type, then the lines of the report."""
    report = found.report
    console = Console()
    if report.spans_read:
        console.print(_table("spans", report.spans_read, report.spans_dropped, report.becomes))
    if report.relations_read or report.relations_dropped:
        console.print(_table("relations", report.relations_read, report.relations_dropped, {}))
    for title, counts in (("spans", report.spans_kept), ("relations", report.relations_kept)):
        if counts:
            console.print(_kept(title, counts))
    for line in found.lines():
        console.print(line, markup=False, highlight=False, soft_wrap=True)


def _table(
    title: str,
    read: Mapping[str, int],
    dropped: Mapping[tuple[str, str], int],
    becomes: Mapping[str, str],
) -> Table:
    """One row per type of the source, and below it why some of it is left out."""
    table = Table(title=f"{title} read", title_justify="left")
    table.add_column("type or reason")
    if becomes:
        table.add_column("becomes")
    table.add_column("read", justify="right")
    table.add_column("left out", justify="right")
    for name in sorted({*read, *(kind for kind, _ in dropped)}):
        reasons = {why: count for (kind, why), count in sorted(dropped.items()) if kind == name}
        label = [becomes.get(name, "-")] if becomes else []
        table.add_row(escape(name), *map(escape, label), str(read.get(name, 0)), str(sum(reasons.values())))
        for why, count in reasons.items():
            table.add_row(f"  {escape(why)}", *[""] * len(label), "", str(count), style="dim")
    return table


def _kept(title: str, counts: Mapping[str, int]) -> Table:
    """One row per label of the study."""
    table = Table(title=f"{title} kept", title_justify="left")
    table.add_column("label")
    table.add_column("kept", justify="right")
    for name, count in sorted(counts.items()):
        table.add_row(escape(name), str(count))
    return table
