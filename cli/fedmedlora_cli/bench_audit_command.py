"""`fedmedlora bench audit`: what the audit trail costs its reviewer, the coordinator and a site."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedmedlora_bench.audit.demo_run import DemoRun
from fedmedlora_bench.audit.rows import audit_rows, conditions
from fedmedlora_bench.audit.run import run_audit
from fedmedlora_bench.progress import Progress
from fedmedlora_cli.output import JsonOption, say, write_json


def command(
    rounds: Annotated[int, typer.Option(min=1, help="Rounds of the log that is judged.")] = 100,
    sites: Annotated[int, typer.Option(min=4, help="Members, all of them witnesses.")] = 10,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of the verifier; all cores when left out.")
    ] = None,
    repeats: Annotated[int, typer.Option(min=1, help="Passes of the verifier; medians.")] = 3,
    demo: Annotated[
        Path | None,
        typer.Option(help="`result.json` of a demo: also say what part of its rounds the log took at most."),
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Judge a long log beside the bare cost of its signatures, and time one event on its way into it.

    Example: fedmedlora bench audit --rounds 100 --sites 10 --json audit.json
    """
    run = None if demo is None else DemoRun.load(demo)
    with Progress(enabled=True) as progress:
        result = run_audit(
            rounds=rounds, sites=sites, workers=workers, repeats=repeats, demo=run, progress=progress
        )
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        table = Table("", "measured", "wanted")
        for row in audit_rows(result):
            table.add_row(*row)
        Console().print(table)
        say(conditions(result))
