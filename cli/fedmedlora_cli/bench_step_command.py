"""`fedmedlora bench step`: a large profile's training step on a GPU, beside a bare PEFT loop."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedmedlora_cli.output import JsonOption, say, write_json


def command(
    profile: Annotated[str, typer.Argument(help="A profile made for a published causal model.")] = (
        "llama-3.1-8b"
    ),
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model, instead of random weights.", exists=True)
    ] = None,
    small: Annotated[
        bool, typer.Option("--small", help="Rehearse on a processor: a small model, without NF4.")
    ] = False,
    processes: Annotated[
        int, typer.Option(help="Processes that train together, each on a GPU of its own.", min=1, max=64)
    ] = 1,
    shard: Annotated[
        bool, typer.Option("--shard", help="Spread the frozen layers over the processes (FSDP).")
    ] = False,
    rows: Annotated[int | None, typer.Option(help="Sequences of a step and process.", min=1)] = None,
    tokens: Annotated[int | None, typer.Option(help="Tokens of each sequence.", min=16)] = None,
    steps: Annotated[int, typer.Option(help="Steps that count.", min=1)] = 10,
    work: Annotated[
        Path | None, typer.Option(help="Folder that keeps the random weights for the next run.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Measure one training step of a large profile: peak memory and tokens a second, ours and a bare loop's.

    Example: fedmedlora bench step llama-3.1-8b --work weights --json step.json
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fedmedlora_bench.step import StepPlan, run_step  # brings torch, which other commands do without

    plan = StepPlan(
        profile=profile,
        base=base,
        small=small,
        processes=processes,
        shard=shard,
        rows=rows,
        tokens=tokens,
        steps=steps,
    )
    result = run_step(plan, say=lambda line: typer.echo(line, err=True), work=work)
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        _show(result)
    if result["met"] is False:
        raise typer.Exit(1)


def _show(result: dict[str, Any]) -> None:
    stored = result["quantisation"] or result["compute_dtype"] or "float32"
    title = (
        f"{result['profile']}{' (small)' if result['small'] else ''}: {result['rows']} x {result['tokens']}"
    )
    title += f" tokens, {stored}, {result['processes']} process(es), {result['ours']['device']}"
    table = Table(title=title, title_justify="left")
    for number, name in enumerate(("", "loaded, GiB", "peak, GiB", "s a step", "tokens/s")):
        table.add_column(name, justify="right" if number else "left")
    for side in ("ours", "bare"):
        found = result[side]
        if found is not None:
            sizes = [f"{found[key] / 2**30:.2f}" for key in ("loaded_bytes", "peak_bytes")]
            table.add_row(side, *sizes, f"{found['step_seconds']:.3f}", f"{found['tokens_per_second']:.0f}")
    Console().print(table)
    if result["met"] is None:
        say("no bound is judged: this was not measured on a GPU")
    else:
        say("all bounds are met" if result["met"] else "a bound is missed; see wanted in the JSON")
