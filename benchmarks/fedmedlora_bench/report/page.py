"""The page: self-contained HTML without scripts, with its plots inside as SVG."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape

from fedmedlora_bench.report.grid import Section
from fedmedlora_bench.report.plots import Plot
from fedmedlora_bench.report.sections import section_of
from fedmedlora_core.errors import ConfigError


def write_report(results: Path, out: Path, *, plots: Path | None = None) -> list[str]:
    """Write a page of every result in a folder.

    Args:
        results: Folder with the JSON files that `fedmedlora bench … --json` wrote.
        out: The page to write.
        plots: Folder for each plot as PNG and SVG too; made when missing.

    Returns:
        The names of the results, in the order in which they stand on the page.

    Raises:
        ConfigError: The folder holds no result, or a file that is none (the operator's).
    """
    files = sorted(results.glob("*.json"))
    if not files:
        raise ConfigError(f"{results}: no JSON files of results")
    sections = [read_section(file) for file in files]
    out.write_text(render(sections), encoding="utf-8")
    if plots is not None:
        save_plots([plot for section in sections for plot in section.plots], plots)
    return [file.stem for file in files]


def read_section(file: Path) -> Section:
    """Read one result.

    Raises:
        ConfigError: It is not JSON, or not an object.
    """
    try:
        result = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise ConfigError(f"{file}: not JSON") from None
    if not isinstance(result, dict):
        raise ConfigError(f"{file}: a result is a JSON object")
    try:
        return section_of(file.stem, result)
    except (KeyError, TypeError):
        raise ConfigError(f"{file}: not what `fedmedlora bench` writes") from None


def render(sections: Sequence[Section]) -> str:
    """Return the page."""
    environment = Environment(
        loader=PackageLoader("fedmedlora_bench.report"),
        autoescape=select_autoescape(["html", "j2"]),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["svg_address"] = _svg_address
    return environment.get_template("report.html.j2").render(sections=sections)


def save_plots(plots: Sequence[Plot], folder: Path) -> None:
    """Write each plot as PNG and as SVG."""
    folder.mkdir(parents=True, exist_ok=True)
    for plot in plots:
        for kind in ("png", "svg"):
            (folder / f"{plot.name}.{kind}").write_bytes(plot.render(kind))


def _svg_address(plot: Plot) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(plot.render("svg")).decode("ascii")
