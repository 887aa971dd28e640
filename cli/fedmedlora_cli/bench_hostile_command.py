"""`fedmedlora bench hostile`: what a hostile client changes of honest rounds."""

from __future__ import annotations

import math
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedmedlora_bench.hostile.attacks import ATTACKS
from fedmedlora_bench.hostile.rows import HEAD, conditions, hostile_rows
from fedmedlora_bench.hostile.run import HostilePlan, run_hostile
from fedmedlora_bench.progress import Progress
from fedmedlora_cli.output import JsonOption, say, write_json


def command(
    attack: Annotated[
        list[str] | None, typer.Option(help="Name of an attack; may be repeated. All when left out.")
    ] = None,
    sites: Annotated[int, typer.Option(min=3, help="Honest sites, a process each.")] = 4,
    rounds: Annotated[int, typer.Option(min=1, help="Counted rounds of a block.")] = 3,
    repeats: Annotated[int, typer.Option(min=1, help="How often each attack has its turn.")] = 3,
    dimension: Annotated[int, typer.Option(min=2, help="Values of an update.")] = 100_000,
    limits: Annotated[bool, typer.Option(help="Keep the limits of [peers].")] = True,
    seconds: Annotated[
        float | None, typer.Option(min=1, help="Begin no further attack after that many.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Time honest rounds without and with attacks on the coordinator, in turn, in one study.

    Example: fedmedlora bench hostile --repeats 3 --json hostile.json
    """
    plan = HostilePlan(
        tuple(attack or ATTACKS), sites, rounds, repeats, dimension, limits, seconds or math.inf
    )
    with Progress(enabled=True) as progress:
        result = run_hostile(plan, progress=progress)
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        table = Table(*HEAD)
        for row in hostile_rows(result):
            table.add_row(*row)
        Console().print(table)
        say(conditions(result))
