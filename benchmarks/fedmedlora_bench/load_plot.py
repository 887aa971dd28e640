"""A picture of round time and memory against the number of sites."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

__all__ = ["plot_load"]

_MEBIBYTE = 1 << 20


def plot_load(result: Mapping[str, Any], target: Path) -> None:
    """Draw a round's time with its steps, and the coordinator's memory, over the number of sites.

    Args:
        result: What `run_load` gave.
        target: File to write; its ending says the format (.svg or .png).
    """
    runs = result["runs"]
    sites = [run["sites"] for run in runs]
    figure = Figure(figsize=(9, 4), layout="constrained")
    seconds, memory = figure.subplots(1, 2)
    seconds.plot(sites, [run["round_seconds"] for run in runs], "o-", label="a round, on the wall")
    seconds.plot(
        sites, [run["coordinator"]["seconds"] for run in runs], "s--", label="coordinator, processor time"
    )
    for step in runs[0]["steps"]:
        seconds.plot(sites, [run["steps"][step] for run in runs], ":", linewidth=1, label=f"of it {step}")
    seconds.set_ylabel("seconds")
    for key, style, label in (("peak_bytes", "o-", "peak"), ("ready_bytes", "^:", "before the round")):
        values = [run["coordinator"][key] / _MEBIBYTE for run in runs]
        memory.plot(sites, values, style, label=f"coordinator, {label}")
    uploads = [run["sites"] * 3 * result["dimension"] / _MEBIBYTE for run in runs]
    memory.plot(sites, uploads, color="grey", linewidth=0.8, label="all uploads of a round")
    memory.set_ylabel("MiB")
    for axes in (seconds, memory):
        axes.set_xlabel("sites")
        axes.set_ylim(bottom=0)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=7)
    figure.suptitle(
        f"{result['dimension']:,} values, real TLS and masks, {result['cores']} cores for everybody",
        fontsize=9,
    )
    figure.savefig(target)
