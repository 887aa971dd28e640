"""What a result is laid out as: tables of text and plots under one title."""

from __future__ import annotations

from dataclasses import dataclass, field

from fedmedlora_bench.report.plots import Plot

__all__ = ["Grid", "Section"]


@dataclass(frozen=True)
class Grid:
    """A table of cells; `numbers` says which columns are figures, `faint` which rows are parts of others."""

    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: tuple[bool, ...]
    faint: tuple[bool, ...]


@dataclass(frozen=True)
class Section:
    """One result on the page."""

    title: str
    grids: list[Grid] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    note: str = ""
