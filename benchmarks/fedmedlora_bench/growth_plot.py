"""A picture of how costs grow with the number of sites."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

__all__ = ["plot_growth"]

_MEBIBYTE = 1 << 20


def plot_growth(runs: Sequence[Mapping[str, Any]], target: Path) -> None:
    """Draw seconds and bytes of a site and of the coordinator over the number of sites.

    Args:
        runs: Results of `run_simulation`, by growing number of sites.
        target: File to write; its ending says the format (.svg or .png).
    """
    sites = [run["sites"] for run in runs]
    figure = Figure(figsize=(9, 4), layout="constrained")
    seconds, data = figure.subplots(1, 2)
    seconds.plot(sites, [run["site"]["seconds"]["mean"] for run in runs], "o-", label="site, mean")
    seconds.plot(sites, [run["site"]["seconds"]["max"] for run in runs], "^:", label="site, slowest")
    seconds.plot(sites, [run["coordinator"]["seconds"] for run in runs], "s--", label="coordinator")
    seconds.set_ylabel("processor seconds a round")
    for key, style, label in (("sent_bytes", "o-", "sent"), ("received_bytes", "^:", "received")):
        data.plot(
            sites, [run["site"][key]["mean"] / _MEBIBYTE for run in runs], style, label=f"site, {label}"
        )
    upload = 4 * (runs[0]["dimension"] + 1) / _MEBIBYTE
    data.axhline(upload, color="grey", linewidth=0.8, label="the masked vector alone")
    data.set_ylabel("MiB a round")
    for axes in (seconds, data):
        axes.set_xscale("log")
        axes.set_yscale("log")
        axes.set_xticks(sites, [str(count) for count in sites])
        axes.minorticks_off()
        axes.set_xlabel("sites")
        axes.grid(alpha=0.3)
        axes.legend()
    sparse = [f"{run['sites']}: k = {run['neighbours']}" for run in runs if run["graph"] != "complete"]
    note = f"; sparse graph at {', '.join(sparse)}" if sparse else ""
    figure.suptitle(f"{runs[0]['dimension']:,} values, {runs[0]['suite']}{note}", fontsize=9)
    figure.savefig(target)
