"""`fedmedlora bench report`: a folder of results as one HTML page."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_cli.output import say


def command(
    folder: Annotated[Path, typer.Argument(help="Folder of JSON files that `bench … --json` wrote.")],
    out: Annotated[Path, typer.Option(help="The page to write.")],
    plots: Annotated[
        Path | None, typer.Option(help="Folder for each plot as PNG and SVG too.", file_okay=False)
    ] = None,
) -> None:
    """Make one self-contained HTML page with tables and plots of a folder of results.

    Example: fedmedlora bench report docs/results --out report.html
    """
    from fedmedlora_bench.report import write_report  # brings matplotlib, which nothing else needs

    shown = write_report(folder, out, plots=plots)
    say(f"{out}: {', '.join(shown)}")
