"""`fedmedlora bench attacks`: what attackers get out of adapters and updates."""

from __future__ import annotations

import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedmedlora_cli.bench_ie_command import repeat_command
from fedmedlora_cli.output import JsonOption, say, write_json


def command(
    attack: Annotated[
        list[str] | None,
        typer.Option(help="exposure, membership, inversion, poisoning, audit; may be repeated. All of them."),
    ] = None,
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model; the shipped one when left out.")
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 1,
    quick: Annotated[bool, typer.Option(help="Smaller sites, fewer canaries: minutes.")] = False,
    sites: Annotated[int | None, typer.Option(help="Hospitals of the federation, at least 3.")] = None,
    epsilon: Annotated[
        list[float] | None, typer.Option(help="A budget by patient over all rounds; may be repeated.")
    ] = None,
    canary_notes: Annotated[
        int | None, typer.Option(help="Notes of each patient whose coin is guessed for the bound.", min=1)
    ] = None,
    work: Annotated[
        Path | None, typer.Option(help="Folder of finished jobs; a run that was killed goes on from there.")
    ] = None,
    jobs: Annotated[int, typer.Option(help="Jobs at a time, one thread each.", min=1)] = 1,
    json_file: JsonOption = None,
) -> None:
    """Attack released adapters and single updates, with each protection off and on.

    Example: fedmedlora bench attacks --quick --work attacks --json attacks.json
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch, which the other commands do without
    from fedmedlora_bench.attack_rows import attack_conditions, attack_tables
    from fedmedlora_bench.attacks import ATTACKS, AttackOptions, run_attacks

    options = AttackOptions.quick() if quick else AttackOptions()
    if sites is not None:
        options = replace(options, site_count=sites)
    if epsilon:
        options = replace(options, epsilons=tuple(epsilon))
    if canary_notes is not None:
        options = replace(options, canary_notes=canary_notes)
    result = run_attacks(
        base=base,
        seeds=seeds,
        attacks=attack or ATTACKS,
        options=options,
        work=work,
        jobs=jobs,
        repeat=repeat_command(sys.argv[1:]),
    )
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        for rows in attack_tables(result):
            table = Table(*rows.head)
            for row in rows.rows:
                table.add_row(*row)
            Console().print(table)
        say(attack_conditions(result))
