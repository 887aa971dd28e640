"""`fedmedlora bench …`: measurements, written as JSON and shown as tables."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from fedmedlora_bench import ckks as ckks_bench
from fedmedlora_bench.ie import run_ie
from fedmedlora_cli.demo.table import results_table
from fedmedlora_cli.output import JsonOption, write_json

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

DATA_VARIABLE = "FEDMEDLORA_DATA"


@app.callback()
def group() -> None:
    """Measure: extraction, cost, attacks."""


@app.command()
def ie(
    data: Annotated[
        Path | None,
        typer.Option(
            help="Folder with the open corpora mtsamples, maccrobat2020, phee, chia; the synthetic clinic "
            "when left out.",
            envvar=DATA_VARIABLE,
        ),
    ] = None,
    base: Annotated[
        Path | None,
        typer.Option(help="Folder of the base model; the shipped one or that of FEDMEDLORA_MODELS."),
    ] = None,
    seeds: Annotated[int, typer.Option(help="How many seeds; figures are means over them.")] = 1,
    scenario: Annotated[list[str] | None, typer.Option(help="Scenario to run; may be repeated.")] = None,
    quick: Annotated[bool, typer.Option(help="Subsample, so that it takes minutes.")] = True,
    json_file: JsonOption = None,
) -> None:
    """Compare untuned, single-site, federated and centralised extraction.

    Example: fedmedlora bench ie --data corpora --base models/minilm-l6 --json ie.json
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    result = run_ie(data=data, base=base, seeds=seeds, scenarios=tuple(scenario or ("main",)), quick=quick)
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        Console().print(results_table(result["systems"]))


@app.command()
def ckks(
    values: Annotated[
        list[int] | None, typer.Option(help="Values of an update; may be repeated. 1.3 and 11.3 million.")
    ] = None,
    sites: Annotated[int, typer.Option(help="Sites in the sum, at least 3.", min=3)] = 4,
    wire_bits: Annotated[int, typer.Option(help="Width of the ring: 16, 24 or 32.")] = 24,
    cores: Annotated[int | None, typer.Option(help="Cores to use; all when left out.", min=1)] = None,
    json_file: JsonOption = None,
) -> None:
    """Put homomorphic encryption beside masks: seconds, bytes, error, and who has to be trusted.

    Example: fedmedlora bench ckks --values 1310720 --sites 4 --json ckks.json
    """
    result = ckks_bench.run_ckks(
        tuple(values or ckks_bench.DEFAULT_VALUES),
        sites=sites,
        wire_bits=wire_bits,
        cores=cores,
        say=lambda line: typer.echo(line, err=True),
    )
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        Console().print(ckks_bench.ckks_table(result))
