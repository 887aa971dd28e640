"""`fedmedlora bench secagg`: seconds, bytes and memory of one round of secure aggregation."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from fedmedlora_bench.secagg.case import LLAMA_3_8B_ADAPTER, Case, cores
from fedmedlora_bench.secagg.rows import beside_rows, columns, conditions, cost_rows
from fedmedlora_bench.secagg.run import PEER_ENVIRONMENT, Peer, run_secagg
from fedmedlora_cli.output import JsonOption, say, write_json


def command(
    params: Annotated[int, typer.Option(help="Values of the adapter.")] = LLAMA_3_8B_ADAPTER,
    sites: Annotated[int, typer.Option(help="Members of the study.")] = 8,
    drop: Annotated[int, typer.Option(help="Sites that fall silent after dealing their shares.")] = 1,
    against: Annotated[
        str | None, typer.Option(help="Peer to run beside: flwr (after `make bench-peer`).")
    ] = None,
    wire_bits: Annotated[int, typer.Option(help="Width of a value on our wire: 32, 24 or 16.")] = 32,
    repeats: Annotated[int, typer.Option(help="Passes of each side after a warm-up; medians.")] = 3,
    threads: Annotated[int | None, typer.Option(help="Threads on our side; all cores if left out.")] = None,
    peer_venv: Annotated[Path, typer.Option(help="Environment of the peer.")] = PEER_ENVIRONMENT,
    json_file: JsonOption = None,
) -> None:
    """Measure one site's and the coordinator's work in a round, and a peer's beside it in the same run.

    Example: fedmedlora bench secagg --params 4194304 --against flwr --json secagg.json
    """
    peer = None if against is None else Peer.installed(against, peer_venv)
    case = Case(
        params=params, sites=sites, drop=drop, wire_bits=wire_bits, threads=threads or cores()
    )  # the suite is a study's default
    result = run_secagg(case, repeats=repeats, peer=peer)
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        show(result)


def show(result: dict[str, object]) -> None:
    """Print the figures as two tables."""
    heads = columns(result)
    for title, rows in (("One round", cost_rows(result)), ("Beside it", beside_rows(result))):
        table = Table(title=title, title_justify="left")
        for head in heads:
            table.add_column(head, justify="right" if head else "left")
        for row in rows:
            cells = (("  " if row.part else "") + row.name, row.ours, row.peer, row.ratio)
            table.add_row(*cells[: len(heads)], style="dim" if row.part else None)
        Console().print(table)
    say(conditions(result))
