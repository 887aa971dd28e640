"""Plots of results: bars of seconds by part, lines of growth. The same figures give the same bytes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

_WIDTH = 7.4  # inches; the page shows it as wide as its text
_COLOURS = ("#2f6f9f", "#c58a2b", "#1d7a4c", "#6b5b95", "#b3261e", "#5b6875", "#8fb8d6", "#d9c08a")
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "fedmedlora",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


@dataclass(frozen=True)
class Plot:
    """A drawn figure.

    Attributes:
        name: For its file.
        says: What it shows, for whoever does not see it.
        figure: The figure.
    """

    name: str
    says: str
    figure: Figure

    def render(self, kind: str) -> bytes:
        """Return it as `svg` or `png`."""
        buffer = io.BytesIO()
        with mpl.rc_context(_STYLE):
            metadata = {"Date": None} if kind == "svg" else {}
            self.figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
        return buffer.getvalue()


Bars = Mapping[str, Mapping[str, float]]
"""Name of a bar to its parts, in the order in which they are stacked."""


def stacked_bars(name: str, says: str, panels: Mapping[str, Bars], *, unit: str = "seconds") -> Plot:
    """Draw a panel of stacked bars for each of several groups.

    Args:
        name: For its file.
        says: What it shows.
        panels: Title of a panel to its bars.
        unit: What the axis counts.
    """
    with mpl.rc_context(_STYLE):
        height = 0.9 + sum(0.42 * len(bars) + 0.55 for bars in panels.values())
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        rows = figure.subplots(
            len(panels), 1, squeeze=False, height_ratios=[len(bars) for bars in panels.values()]
        )
        for axes, (title, bars) in zip(rows[:, 0], panels.items(), strict=True):
            _draw_bars(axes, bars)
            axes.set_title(title, loc="left", fontsize=9)
        rows[-1, 0].set_xlabel(unit)
    return Plot(name, says, figure)


def _draw_bars(axes: Axes, bars: Bars) -> None:
    parts = list(dict.fromkeys(part for bar in bars.values() for part in bar))
    for at, bar in enumerate(bars.values()):
        left = 0.0
        for part, value in bar.items():
            colour = _COLOURS[parts.index(part) % len(_COLOURS)]
            axes.barh(at, value, left=left, color=colour, label=part, height=0.62)
            left += value
        axes.text(left, at, f" {left:.3g}", va="center", fontsize=8)
    axes.set_yticks(range(len(bars)), list(bars))
    axes.invert_yaxis()
    axes.margins(x=0.1)
    handles, labels = axes.get_legend_handles_labels()
    shown = dict(zip(labels, handles, strict=True))
    axes.legend(
        shown.values(), shown.keys(), fontsize=7, frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
    )


def growth_lines(
    name: str, says: str, *, along: Sequence[float], series: Mapping[str, Sequence[float]], axis: str
) -> Plot:
    """Draw how several figures grow, on two logarithmic axes, where a straight line is a power.

    Args:
        name: For its file.
        says: What it shows.
        along: Values of the horizontal axis.
        series: Name of a line to its values.
        axis: Name of the horizontal axis.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.6), layout="constrained")
        axes = figure.subplots()
        for (label, values), colour in zip(series.items(), _COLOURS, strict=False):
            axes.plot(along, values, marker="o", markersize=4, label=label, color=colour)
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(list(along), [f"{value:g}" for value in along])
        axes.minorticks_off()
        axes.set_xlabel(axis)
        axes.grid(visible=True, color="#dde3e9", linewidth=0.6)
        axes.legend(fontsize=8, frameon=False)
    return Plot(name, says, figure)


Level = tuple[float, float]
"""A value and its spread; 0 draws none."""


def level_bars(
    name: str, says: str, groups: Mapping[str, Mapping[str, Level]], *, axis: str = "F1, points"
) -> Plot:
    """Draw bars side by side in groups, on a scale from 0 to 100, with their spread.

    Args:
        name: For its file.
        says: What it shows.
        groups: Title of a group to its bars.
        axis: What the scale counts.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        bars = list(dict.fromkeys(bar for group in groups.values() for bar in group))
        width = 0.8 / max(1, len(bars))
        for at, bar in enumerate(bars):
            # A bar that a group lacks was not measured: none stands there, not one of height 0.
            there = [(place, group[bar]) for place, group in enumerate(groups.values()) if bar in group]
            levels = [level for _, level in there]
            places = [place + (at - (len(bars) - 1) / 2) * width for place, _ in there]
            axes.bar(
                places,
                [level for level, _ in levels],
                width * 0.92,
                label=bar,
                color=_COLOURS[at % len(_COLOURS)],
            )
            for place, (level, spread) in zip(places, levels, strict=True):
                axes.text(place, level + spread + 1, f"{level:.0f}", fontsize=7, ha="center", va="bottom")
            _draw_spreads(axes, places, levels)
        slanted: dict[str, Any] = {"rotation": 20, "ha": "right"} if len(groups) > 4 else {}
        axes.set_xticks(range(len(groups)), list(groups), **slanted)
        axes.set_ylim(0, 105)
        axes.set_ylabel(axis)
        axes.legend(
            fontsize=8, frameon=False, ncols=min(4, len(bars)), loc="lower center", bbox_to_anchor=(0.5, 1.0)
        )
    return Plot(name, says, figure)


def point_lines(
    name: str, says: str, *, along: Sequence[float], series: Mapping[str, Sequence[Level]], axis: str
) -> Plot:
    """Draw lines on a scale from 0 to 100, with the spread of each point.

    Args:
        name: For its file.
        says: What it shows.
        along: Values of the horizontal axis.
        series: Name of a line to its points.
        axis: Name of the horizontal axis.
    """
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, 3.4), layout="constrained")
        axes = figure.subplots()
        for (label, levels), colour in zip(series.items(), _COLOURS, strict=False):
            values = [level for level, _ in levels]
            axes.plot(along, values, marker="o", markersize=4, label=label, color=colour)
            _draw_spreads(axes, along, levels)
        axes.set_xticks(list(along), [f"{value:g}" for value in along])
        axes.set_ylim(0, 105)
        axes.set_xlabel(axis)
        axes.set_ylabel("F1, points")
        axes.grid(visible=True, color="#dde3e9", linewidth=0.6)
        axes.legend(fontsize=8, frameon=False)
    return Plot(name, says, figure)


def _draw_spreads(axes: Axes, along: Sequence[float], levels: Sequence[Level]) -> None:
    """Draw whiskers where a value has a spread."""
    shown = [(place, *level) for place, level in zip(along, levels, strict=True) if level[1] > 0]
    if shown:
        places, values, spreads = zip(*shown, strict=True)
        axes.errorbar(places, values, yerr=spreads, fmt="none", ecolor="#333333", elinewidth=0.8, capsize=2)
