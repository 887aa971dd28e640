"""`fedmedlora bench privacy`: what privacy costs in extraction, and what it leaves to an attacker."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from fedmedlora_cli.bench_ie_command import repeat_command
from fedmedlora_cli.output import JsonOption, say, write_json

_PLAIN = "inf"


EpsilonOption = Annotated[
    list[str] | None,
    typer.Option(help="A budget over all rounds, or inf for no noise; may be repeated."),
]
UnitOption = Annotated[
    list[str] | None, typer.Option(help="Whom a budget protects: patient, document; may be repeated.")
]
AloneOption = Annotated[
    list[float] | None,
    typer.Option(help="A budget under which each hospital also trains by itself; may be repeated."),
]
SentencesOption = Annotated[
    int | None, typer.Option(help="Sentences of each hospital; a patient has about thirteen.", min=200)
]
RateOption = Annotated[
    int | None, typer.Option(help="Highest learning rate, in millionths, of every budget.", min=1)
]
AsLargeOption = Annotated[
    int | None,
    typer.Option(help="Noise as in hospitals and steps so many times larger; protects nobody here.", min=1),
]
BaseOption = Annotated[
    Path | None, typer.Option(help="Folder of the base model; the shipped one when left out.")
]
AttacksOption = Annotated[
    Path | None, typer.Option(help="A result of `bench attacks`, for what comes out of single updates.")
]
WorkOption = Annotated[
    Path | None, typer.Option(help="Folder of finished jobs; a run that was killed goes on from there.")
]


def command(
    epsilon: EpsilonOption = None,
    unit: UnitOption = None,
    alone: AloneOption = None,
    task: Annotated[list[str] | None, typer.Option(help="ner, re; may be repeated. ner.")] = None,
    sites: Annotated[int | None, typer.Option(help="Hospitals, at least 3.")] = None,
    sentences: SentencesOption = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds.", min=1)] = None,
    steps: Annotated[int | None, typer.Option(help="Steps of a round.", min=1)] = None,
    batch: Annotated[int | None, typer.Option(help="Patients of a step, on average.", min=1)] = None,
    learning_rate_micro: RateOption = None,
    as_large: AsLargeOption = None,
    seeds: Annotated[int, typer.Option(help="How many seeds.", min=1)] = 1,
    quick: Annotated[bool, typer.Option(help="Small hospitals and few steps: minutes.")] = False,
    base: BaseOption = None,
    attacks: AttacksOption = None,
    work: WorkOption = None,
    jobs: Annotated[int, typer.Option(help="Jobs at a time, one thread each.", min=1)] = 1,
    ray: Annotated[bool, typer.Option("--ray", help="Run the jobs on Ray (extra `ray`).")] = False,
    json_file: JsonOption = None,
) -> None:
    """Train once for each privacy budget; show F1, membership, and what the mode of aggregation changes.

    Example: fedmedlora bench privacy --epsilon inf --epsilon 8 --work curve --json privacy.json
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # before torch, which the other commands do without
    from fedmedlora_bench.privacy import PrivacyOptions, run_privacy

    given = {
        "epsilons": None if not epsilon else tuple(_budget(text) for text in epsilon),
        "units": None if not unit else _chosen("--unit", unit, ("patient", "document")),
        "alone": None if alone is None else tuple(alone),
        "tasks": None if not task else _chosen("--task", task, ("ner", "re")),
        "site_count": sites,
        "sentences": sentences,
        "rounds": rounds,
        "steps": steps,
        "batch_units": batch,
        "learning_rate_micro": learning_rate_micro,
        "as_large": as_large,
    }
    options = PrivacyOptions.quick() if quick else PrivacyOptions()
    changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    result = run_privacy(
        base=base,
        seeds=seeds,
        options=replace(options, **changes),
        attacks=None if attacks is None else _attacks(attacks),
        work=work,
        jobs=jobs,
        ray=ray,
        repeat=repeat_command(sys.argv[1:]),
    )
    write_json(json_file, result)
    if json_file is None or str(json_file) != "-":
        _show(result)


def _show(result: dict[str, Any]) -> None:
    """Print the tables of a result, and what it was measured on."""
    from fedmedlora_bench.privacy_rows import privacy_conditions, privacy_tables

    for rows in privacy_tables(result):
        table = Table(*rows.head, title=rows.title, title_justify="left")
        for row in rows.rows:
            table.add_row(*row)
        Console().print(table)
    say(privacy_conditions(result))


def _budget(text: str) -> float | None:
    """Read a budget; None is no noise."""
    if text == _PLAIN:
        return None
    try:
        found = float(text)
    except ValueError:
        found = 0.0
    if not 0 < found < 1000:
        raise typer.BadParameter(f"--epsilon is a number above 0, or {_PLAIN}")
    return found


def _chosen(option: str, names: list[str], known: tuple[str, ...]) -> tuple[str, ...]:
    """Read names of a list."""
    if unknown := [name for name in names if name not in known]:
        raise typer.BadParameter(f"{option}: '{unknown[0]}' is none of {', '.join(known)}")
    return tuple(dict.fromkeys(names))


def _attacks(file: Path) -> dict[str, Any]:
    """Read a result of `bench attacks`."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise typer.BadParameter(f"{file}: is not a result of bench attacks") from None
    if not isinstance(found, dict) or found.get("command") != "bench attacks":
        raise typer.BadParameter(f"{file}: is not a result of bench attacks")
    return found
