"""`fedmedlora bench cost`: memory, seconds and bytes of each profile, computed and measured."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedmedlora_bench.cost.rows import cost_grids, meets
from fedmedlora_cli.output import JsonOption, say, write_json
from fedmedlora_core.errors import ConfigError


def command(
    measure: Annotated[
        list[str] | None,
        typer.Option(help="Profile to measure here; may be repeated. tiny and bio-clinicalbert if left out."),
    ] = None,
    base: Annotated[
        list[str] | None,
        typer.Option(help="PROFILE=FOLDER: base model to measure on, instead of random weights."),
    ] = None,
    sites: Annotated[int, typer.Option(help="Members of the study.", min=3, max=16)] = 4,
    steps: Annotated[int, typer.Option(help="Steps of the comparison with a bare loop.", min=1)] = 20,
    wire: Annotated[
        bool, typer.Option(help="Also count the bytes of a real study of the tiny profile.")
    ] = True,
    json_file: JsonOption = None,
) -> None:
    """Compute and measure what each profile costs: memory, seconds, and bytes against whole models.

    Example: fedmedlora bench cost --measure tiny --json cost.json
    """
    from fedmedlora_bench.cost.run import MEASURED, run_cost  # brings torch, which other commands do without

    os.environ.setdefault("OMP_NUM_THREADS", "1")
    bases = dict(_folder_of(text) for text in base or ())
    result = run_cost(
        sites=sites,
        measured=tuple(measure or MEASURED),
        bases=bases,
        steps=steps,
        say=lambda line: typer.echo(line, err=True),
        wire=_wire_bytes(sites) if wire else None,
    )
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        _show(result)
    if not meets(result):
        raise typer.Exit(1)


def _folder_of(text: str) -> tuple[str, Path]:
    """Read `PROFILE=FOLDER`."""
    name, equals, folder = text.partition("=")
    if not equals or not Path(folder).is_dir():
        raise ConfigError(f"--base '{text}': expected PROFILE=FOLDER, for example llama-3.2-1b=models/llama")
    return name, Path(folder)


def _wire_bytes(sites: int) -> dict[str, Any]:
    """Bytes that real processes send in a study of the tiny profile whose updates are rehearsed."""
    from fedmedlora_cli.demo.counted import count_study

    typer.echo("tiny: a study of real processes, its bytes counted on the wire", err=True)
    with tempfile.TemporaryDirectory(prefix="fedmedlora-wire-") as folder:
        return count_study(Path(folder) / "study", sites=min(sites, 10))


def _show(result: dict[str, Any]) -> None:
    for title, head, rows in cost_grids(result):
        table = Table(title=title, title_justify="left")
        for number, name in enumerate(head):
            table.add_column(name, justify="right" if number else "left")
        for row in rows:
            table.add_row(*row)
        Console().print(table)
    say("all bounds are met" if meets(result) else "a bound is missed; see the table")
