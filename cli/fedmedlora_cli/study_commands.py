"""`fedmedlora study …`: write, check and show the charter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_cli.output import JsonOption, say, write_json
from fedmedlora_cli.wire_facts import wire_facts, wire_lines
from fedmedlora_core.config import load_toml
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import INITIAL_FOLDER, STUDY_FILE, Study

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
def new(
    out: Annotated[Path, typer.Option(help="Folder of the study package to make.")],
    id: Annotated[str, typer.Option(help="Id of the study: a-z, 0-9 and '-'.")],
    coordinator_card: Annotated[Path, typer.Option(help="The coordinator's card.toml.")],
    member: Annotated[list[Path], typer.Option(help="A member's card.toml; once per member, in order.")],
    profile: Annotated[str, typer.Option(help="A shipped profile or a TOML file of settings.")] = "tiny",
    title: Annotated[str, typer.Option(help="A line for people.")] = "",
    seed: Annotated[int, typer.Option(help="Seed of splits, adapter and training.")] = 7,
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model; the shipped one if left out.")
    ] = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds, instead of the profile's.")] = None,
    secure: Annotated[str | None, typer.Option(help="masks or none, instead of the profile's.")] = None,
    vote_every: Annotated[
        int | None,
        typer.Option(help="Sites vote on the new adapter in every so-manieth round; 0: never."),
    ] = None,
    vote_margin_milli: Annotated[
        int, typer.Option(help="Thousandths of a nat by which its held-out loss may be worse unopposed.")
    ] = 20,
    key_agreement: Annotated[
        str | None, typer.Option(help="hybrid (with ML-KEM-768) or x25519, instead of the profile's.")
    ] = None,
    wire_bits: Annotated[
        int | None,
        typer.Option(help="16, 24 or 32 bits a value on the wire; the narrowest that fits if left out."),
    ] = None,
) -> None:
    """Write a study package from the members' cards: the charter and the initial adapter.

    Example: fedmedlora study new --out study --id ward --coordinator-card centre/card.toml
    --member a/card.toml --member b/card.toml --member c/card.toml
    """
    from fedmedlora_cli.study_package import build_package

    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty; choose a new folder")
    overrides = _given(
        training__rounds=rounds,
        secure_aggregation__mode=secure,
        secure_aggregation__key_agreement=key_agreement,
        secure_aggregation__wire_bits=wire_bits,
    )
    if vote_every is not None:
        vote = {"every_rounds": vote_every, "margin_milli": vote_margin_milli}
        overrides["secure_aggregation__vote"] = vote if vote_every else None
    try:
        study = build_package(
            out,
            study_id=id,
            title=title,
            seed=seed,
            profile=profile,
            overrides=overrides,
            coordinator_card=coordinator_card,
            member_cards=member,
            base=base,
        )
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    for warning in study.warnings():
        say(f"warning: {warning}")
    for line in wire_lines(study):
        say(line)
    say(f"wrote {out / STUDY_FILE}: {len(study.members)} members, threshold {study.threshold}")
    say(f"charter digest, to be read out before anybody accepts: {study.digest}")


def _given(**options: object) -> dict[str, object]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


@app.command()
def check(
    study: Annotated[Path, typer.Argument(help="A study file or package.", metavar="STUDY")],
    json_file: JsonOption = None,
) -> None:
    """Check a study's rules and say what its settings weaken.

    Example: fedmedlora study check study
    """
    loaded = Study.load(study)
    if study.is_dir():
        _check_initial(study, loaded)
    terms = loaded.secure_aggregation
    write_json(
        json_file,
        {
            "digest": loaded.digest,
            "members": list(loaded.member_ids),
            "threshold": terms.threshold,
            "colluding_sites": terms.colluding_sites,
            "drop_outs_survived": len(loaded.members) - terms.threshold,
            **wire_facts(loaded),
            "warnings": loaded.warnings(),
        },
    )
    for warning in loaded.warnings():
        say(f"warning: {warning}")
    if json_file is None:
        survived = len(loaded.members) - terms.threshold
        say(f"the study holds: {len(loaded.members)} members, threshold {terms.threshold}")
        say(
            f"it survives {survived} drop-outs a round and withstands {terms.colluding_sites} colluding sites"
        )
        for line in wire_lines(loaded):
            say(line)
        say(f"charter digest {loaded.digest}")


def _check_initial(package: Path, study: Study) -> None:
    """The initial adapter beside the charter is the one the charter names."""
    from fedmedlora_core.adapter import Adapter

    initial = Adapter.load(package / INITIAL_FOLDER)
    if initial.digest != study.adapter.initial_digest or initial.dimension != study.adapter.dimension:
        raise ConfigError(f"{package / INITIAL_FOLDER}: is not the initial adapter that the charter names")


@app.command()
def show(study: Annotated[Path, typer.Argument(help="A study file or package.", metavar="STUDY")]) -> None:
    """Print the charter's canonical JSON: exactly what is hashed and signed.

    Example: fedmedlora study show study
    """
    file = study / STUDY_FILE if study.is_dir() else study
    say(load_toml(file, Study).canonical_json().decode())
