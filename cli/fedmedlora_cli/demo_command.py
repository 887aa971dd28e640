"""`fedmedlora demo`: a whole study on one machine, for real."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, cast

import typer

from fedmedlora_cli.demo.options import VOTE_EVERY, DemoOptions, parse_coordinator_kill, parse_drop
from fedmedlora_cli.output import JsonOption, write_json
from fedmedlora_cli.strategy_option import StrategyOption
from fedmedlora_core.errors import ConfigError

VoteOption = Annotated[
    int | None,
    typer.Option(
        help=f"Hospitals vote on the new adapter every so many rounds; 0: never. "
        f"Default: {VOTE_EVERY} under masks."
    ),
]
CountOption = Annotated[
    int,
    typer.Option(
        help="Hospitals sum validation counts every so many rounds, and the best round is released; 0: never."
    ),
]
EpsilonOption = Annotated[
    float | None,
    typer.Option(help="Differential privacy by patient: epsilon of all rounds together, delta 1e-5."),
]


def command(
    out: Annotated[Path, typer.Option(help="Folder to make; one folder per party inside.")] = Path(
        "demo-run"
    ),
    sites: Annotated[int, typer.Option(help="Hospitals, 3 to 10.")] = 4,
    rounds: Annotated[int | None, typer.Option(help="Rounds, instead of the profile's.")] = None,
    strategy: StrategyOption = None,
    secure: Annotated[
        str, typer.Option(help="masks; ckks; or none: the same encoding without either, for comparison.")
    ] = "masks",
    ckks_custody: Annotated[
        str, typer.Option(help="Under ckks: holder (the first hospital decrypts) or shared.")
    ] = "holder",
    dp_epsilon: EpsilonOption = None,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            help="Kill a hospital: SITE@STEP[:ROUND], for example site-b@upload:2. May be repeated."
        ),
    ] = None,
    kill_coordinator: Annotated[
        str | None,
        typer.Option(help="Kill the coordinator before and after a step's durable write: STEP[:ROUND]."),
    ] = None,
    vote_every: VoteOption = None,
    validate_every: CountOption = 0,
    full: Annotated[bool, typer.Option("--full", help="Also train on all notes in one place.")] = False,
    baselines: Annotated[bool, typer.Option(help="Train the single-site systems and score all.")] = True,
    seed: Annotated[int, typer.Option(help="Seed of the clinic, the adapter and the training.")] = 7,
    json_file: JsonOption = None,
) -> None:
    """Run a whole study on this machine: hospitals, coordinator, mutual TLS, masks, log, verdict.

    Steps that a fault can name: train, advertise, share, upload, survivors, unmask, aggregate, vote.

    Example: fedmedlora demo --out demo-run --drop site-b@upload
    """
    from fedmedlora_cli.demo.run import run_demo

    if secure not in ("masks", "ckks", "none"):
        raise ConfigError(f"--secure '{secure}': this release has masks, ckks and none")
    if ckks_custody not in ("holder", "shared"):
        raise ConfigError(f"--ckks-custody '{ckks_custody}': expected holder or shared")
    options = DemoOptions(
        out=out,
        sites=sites,
        rounds=rounds,
        secure=cast(Literal["masks", "ckks", "none"], secure),
        ckks_custody=cast(Literal["holder", "shared"], ckks_custody),
        drops=tuple(parse_drop(text) for text in drop or ()),
        coordinator_kill=None if kill_coordinator is None else parse_coordinator_kill(kill_coordinator),
        full=full,
        seed=seed,
        baselines=baselines,
        vote_every=vote_every,
        strategies=tuple(strategy or ()),
        dp_epsilon=dp_epsilon,
        validate_every=validate_every,
    )
    result = run_demo(options)
    write_json(json_file, result)
    if result["audit"]["verdict"] != "pass":
        raise typer.Exit(1)
