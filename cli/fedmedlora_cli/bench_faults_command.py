"""`fedmedlora bench faults`: random fault schedules against the real coordinator and real sites."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_bench.faults.run import (
    Played,
    keep_failures,
    load_schedules,
    play,
    shrink,
    summary,
)
from fedmedlora_bench.faults.schedule import draw
from fedmedlora_cli.output import JsonOption, say, write_json


def command(
    schedules: Annotated[int, typer.Option(min=1, help="How many schedules to draw.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the first; each next one's is one more.")] = 1,
    failures: Annotated[
        Path | None, typer.Option(help="File to which failing schedules are added, shrunk.")
    ] = None,
    kept: Annotated[Path | None, typer.Option(help="Play the schedules of this file instead.")] = None,
    json_file: JsonOption = None,
) -> None:
    """Kill, cut, delay, fill disks at any step of any party, and check that nothing is lost or given away.

    Example: fedmedlora bench faults --schedules 200 --seed 1 --json faults.json
    """
    drawn = [draw(number) for number in range(seed, seed + schedules)]
    to_file = json_file is not None and str(json_file) != "-"
    played: list[Played] = []
    for each in play(drawn if kept is None else load_schedules(kept)):
        _say(each)
        played.append(each)
        if to_file:  # what is done is there, whatever ends the run
            write_json(json_file, summary(played))
    result, failed = summary(played), [each.schedule for each in played if not each.holds]
    if not to_file:
        write_json(json_file, result)
    if failures is not None and failed:
        keep_failures(failures, [shrink(schedule) for schedule in failed])
    if json_file is None or to_file:
        say(
            f"{result['schedules']} schedules, {result['operations']} faults, {result['deaths']} deaths, "
            f"{result['acknowledged_events']} acknowledged events: {len(failed)} failed"
        )
    if failed:
        raise typer.Exit(1)


def _say(played: Played) -> None:
    """Print one schedule's line on standard error: its seed, what happened, how the rounds ended."""
    deeds = ", ".join(f"{count} {deed}" for deed, count in sorted(played.deeds.items())) or "nothing"
    rounds = ", ".join(played.judgement.outcomes.values())
    verdict = "holds" if played.holds else f"BROKEN: {played.judgement.breaches[0]}"
    typer.echo(f"seed {played.schedule.seed}: {deeds}; rounds {rounds}: {verdict}", err=True)
