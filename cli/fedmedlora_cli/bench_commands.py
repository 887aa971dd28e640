"""`fedmedlora bench …`: measurements, written as JSON and shown as tables."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

from fedmedlora_bench import ckks as ckks_bench
from fedmedlora_bench.progress import Progress
from fedmedlora_bench.simulate import Plan, run_growth, run_simulation, simulation_line
from fedmedlora_cli import (
    bench_attacks_command,
    bench_audit_command,
    bench_cost_command,
    bench_faults_command,
    bench_hostile_command,
    bench_ie_command,
    bench_load_command,
    bench_privacy_command,
    bench_report_command,
    bench_secagg_command,
    bench_step_command,
)
from fedmedlora_cli.output import JsonOption, say, write_json
from fedmedlora_core.errors import ConfigError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def group() -> None:
    """Measure: extraction, cost, attacks, privacy."""


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


@app.command()
def simulate(
    sites: Annotated[int, typer.Option(min=3, max=1024, help="Number of sites.")] = 1000,
    drop: Annotated[
        float,
        typer.Option(min=0.0, max=0.49, help="Part of the sites that fall silent, each at a random step."),
    ] = 0.1,
    dimension: Annotated[int, typer.Option(min=1, help="Values in an update.")] = 100_000,
    colluding: Annotated[
        int | None, typer.Option(min=0, help="Sites that may collude; a third of them when left out.")
    ] = None,
    key_agreement: Annotated[str, typer.Option(help="hybrid (with ML-KEM-768) or x25519.")] = "hybrid",
    seed: Annotated[int, typer.Option(min=0, help="Seed of updates and drop-outs.")] = 1,
    growth: Annotated[
        bool, typer.Option("--growth", help="Run 10, 30, 100, 300 and 1000 sites, and draw the costs.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Run one secure sum of many sites with the real state machines, drop-outs included, in process.

    Example: fedmedlora bench simulate --sites 1000 --drop 0.1 --dimension 100000 --json simulate.json
    """
    if key_agreement not in ("hybrid", "x25519"):
        raise ConfigError("--key-agreement is hybrid or x25519")
    if growth and (json_file is None or str(json_file) == "-"):
        raise ConfigError("--growth draws beside the file of --json: name one")
    plan = Plan(sites, drop, dimension, colluding, key_agreement, seed)
    with Progress(enabled=True) as progress:
        runs = run_growth(plan, progress=progress) if growth else [run_simulation(plan, progress=progress)]
    correct = all(run["correct"] and run["max_error"] <= run["error_bound"] for run in runs)
    write_json(json_file, {"correct": correct, "runs": runs} if growth else runs[0])
    if growth and json_file is not None:
        from fedmedlora_bench.growth_plot import plot_growth

        plot_growth(runs, json_file.with_suffix(".svg"))
    if json_file is None or str(json_file) != "-":
        for run in runs:
            say(simulation_line(run))
    if not correct:
        raise typer.Exit(1)


app.command("ie")(bench_ie_command.command)
app.command("secagg")(bench_secagg_command.command)
app.command("attacks")(bench_attacks_command.command)
app.command("privacy")(bench_privacy_command.command)
app.command("cost")(bench_cost_command.command)
app.command("step")(bench_step_command.command)
app.command("audit")(bench_audit_command.command)
app.command("faults")(bench_faults_command.command)
app.command("load")(bench_load_command.command)
app.command("hostile")(bench_hostile_command.command)
app.command("report")(bench_report_command.command)
