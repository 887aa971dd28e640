"""`fedmedlora bench load`: one coordinator process under many sites."""

from __future__ import annotations

from typing import Annotated

import typer

from fedmedlora_bench.load import LoadPlan, run_load
from fedmedlora_cli.output import JsonOption, say, write_json


def command(
    sites: Annotated[
        list[int] | None, typer.Option(help="Number of sites; may be repeated. 10, 25, 50 and 100.")
    ] = None,
    dimension: Annotated[int, typer.Option(help="Values of an update.")] = 1_300_000,
    rounds: Annotated[int, typer.Option(help="Rounds of each study.")] = 1,
    hosts: Annotated[int, typer.Option(help="Processes that the sites live in.")] = 4,
    json_file: JsonOption = None,
) -> None:
    """Measure round time and the coordinator's memory against sites: real gRPC, TLS and masks.

    Example: fedmedlora bench load --sites 10 --sites 100 --json load.json
    """
    plan = LoadPlan(tuple(sites or (10, 25, 50, 100)), dimension, rounds, hosts)
    result = run_load(plan, said=lambda line: typer.echo(line, err=True))
    write_json(json_file, result)
    if json_file is not None and str(json_file) != "-":
        from fedmedlora_bench.load_plot import plot_load

        plot_load(result, json_file.with_suffix(".svg"))
    if json_file is None or str(json_file) != "-":
        say(f"the coordinator's peak grows by {result['bytes_per_site'] / 1000:.0f} kB with each site")
