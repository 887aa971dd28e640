"""`fedmedlora study …`: write, check and show the charter."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from fedmedlora_audit.retention import DEFAULT_YEARS
from fedmedlora_cli.output import JsonOption, say, write_json
from fedmedlora_cli.strategy_option import StrategyOption
from fedmedlora_cli.study_graph import check_graph, graph_facts
from fedmedlora_cli.study_options import (
    AdapterOption,
    AgreementOption,
    BaseOption,
    ChooseOption,
    ContextOption,
    ContinuesOption,
    DropOption,
    MarginOption,
    SiteClipOption,
    SiteDeltaOption,
    SiteEpsilonOption,
    ValidateOption,
    VoteOption,
    WireOption,
    YearsOption,
)
from fedmedlora_cli.study_privacy import (
    NO_OPTIONS,
    BatchOption,
    ClipOption,
    DeltaOption,
    EpsilonOption,
    RateOption,
    StepsOption,
    UnitOption,
    plan_lines,
    privacy_facts,
)
from fedmedlora_cli.study_site_noise import (
    check_site_noise_budget,
    site_budget_of,
    site_noise_facts,
    site_noise_lines,
)
from fedmedlora_cli.wire_facts import wire_facts, wire_lines
from fedmedlora_core.config import load_toml
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.secure_aggregation import CKKS_CONTEXT_FILE
from fedmedlora_core.strategies import overrides_of, strategy_of
from fedmedlora_core.study import INITIAL_FOLDER, STUDY_FILE, AuditTerms, Study

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
    base: BaseOption = None,
    rounds: Annotated[int | None, typer.Option(help="Rounds, instead of the profile's.")] = None,
    strategy: StrategyOption = None,
    secure: Annotated[str | None, typer.Option(help="masks, ckks or none, instead of the profile's.")] = None,
    ckks_context: ContextOption = None,
    ckks_custody: Annotated[str, typer.Option(help="holder or shared: who has the CKKS key.")] = "holder",
    ckks_holder: Annotated[str, typer.Option(help="Member that holds the CKKS key.")] = "",
    vote_every: VoteOption = None,
    vote_margin_milli: MarginOption = 20,
    validate_every: ValidateOption = None,
    choose: ChooseOption = "best",
    key_agreement: AgreementOption = None,
    wire_bits: WireOption = None,
    drop_percent: DropOption = 10,
    dp_epsilon: EpsilonOption = None,
    dp_delta: DeltaOption = None,
    dp_unit: UnitOption = None,
    dp_rate: RateOption = None,
    dp_steps: StepsOption = None,
    dp_clip: ClipOption = None,
    dp_batch_units: BatchOption = None,
    timestamps: Annotated[bool, typer.Option(help="Audits demand a time stamp of every round.")] = False,
    retention_years: YearsOption = DEFAULT_YEARS,
    continues: ContinuesOption = None,
    adapter: AdapterOption = None,
    site_epsilon: SiteEpsilonOption = None,
    site_delta: SiteDeltaOption = "1e-5",
    site_clip: SiteClipOption = None,
) -> None:
    """Write a study package from the members' cards: the charter and the initial adapter.

    Example: fedmedlora study new --out study --id ward --coordinator-card centre/card.toml
    --member a/card.toml --member b/card.toml --member c/card.toml
    """
    from fedmedlora_cli.study_package import ckks_table

    overrides = (
        overrides_of(strategy or ())
        | _vote(vote_every, vote_margin_milli)
        | _validation(validate_every, choose)
        | _given(
            training__rounds=rounds,
            secure_aggregation__mode=secure,
            secure_aggregation__key_agreement=key_agreement,
            secure_aggregation__wire_bits=wire_bits,
            secure_aggregation__ckks=ckks_table(ckks_context, ckks_custody, ckks_holder),
        )
    )
    _need_context(secure, ckks_context)
    kept: dict[str, Any] = {"study_id": id, "title": title, "seed": seed, "profile": profile, "base": base}
    audit = AuditTerms(quorum=True, timestamps=timestamps, retention_years=retention_years)
    kept |= {"coordinator_card": coordinator_card, "member_cards": member, "audit": audit}
    privacy = (dp_epsilon, dp_delta, dp_unit, dp_rate, dp_steps, dp_clip, dp_batch_units)
    kept["privacy"] = dict(zip(NO_OPTIONS, privacy, strict=True))
    kept |= {"ckks_context": ckks_context, "drop_percent": drop_percent, "continues": continues}
    kept |= {"adapter": adapter, "site_budget": site_budget_of(site_epsilon, site_delta, site_clip)}
    _write(out, overrides=overrides, **kept)


def _need_context(secure: str | None, context: Path | None) -> None:
    if (secure == "ckks") != (context is not None):
        raise ConfigError("--secure ckks and --ckks-context go together; `site ckks-key` makes the context")


def _validation(every: int | None, choose: str) -> dict[str, object]:
    """Return the override for the sums of validation counts."""
    if every is None:
        return {}
    counts = {"every_rounds": every, "choose": choose}
    return {"secure_aggregation__validation": counts if every else None}


def _vote(every: int | None, margin_milli: int) -> dict[str, object]:
    """Return what the options say of the vote: nothing, a table, or that there is none."""
    if every is None:
        return {}
    return {
        "secure_aggregation__vote": {"every_rounds": every, "margin_milli": margin_milli} if every else None
    }


def _write(out: Path, **package: Any) -> None:
    """Write the package, whole or not at all, and say what it fixes."""
    from fedmedlora_cli.study_package import build_package

    if out.exists() and any(out.iterdir()):
        raise ConfigError(f"{out}: is not empty; choose a new folder")
    try:
        study = build_package(out, **package)
    except BaseException:
        shutil.rmtree(out, ignore_errors=True)
        raise
    warnings = [f"warning: {warning}" for warning in study.warnings()]
    for line in (*warnings, *wire_lines(study), *site_noise_lines(study)):
        say(line)
    for line in _privacy_lines(study):
        say(line)
    old = study.log.predecessor
    if old is not None:
        say(f"continues the log {old.origin} at its head over {old.size} entries, root {old.root}")
    say(f"strategy: {strategy_of(study)}")
    say(f"wrote {out / STUDY_FILE}: {len(study.members)} members, threshold {study.threshold}")
    say(f"charter digest, to be read out before anybody accepts: {study.digest}")


def _privacy_lines(study: Study) -> list[str]:
    return [] if study.privacy is None else plan_lines(study.privacy, study.training.rounds)


def _given(**overrides: object) -> dict[str, object]:
    """Return the overrides that were asked for."""
    return {name: value for name, value in overrides.items() if value is not None}


@app.command()
def check(
    study: Annotated[Path, typer.Argument(help="A study file or package.", metavar="STUDY")],
    json_file: JsonOption = None,
) -> None:
    """Check a study's rules and say what its settings weaken.

    Example: fedmedlora study check study
    """
    loaded = Study.load(study)
    check_graph(loaded)
    check_site_noise_budget(loaded)
    if study.is_dir():
        _check_initial(study, loaded)
        _check_ckks(study, loaded)
    terms = loaded.secure_aggregation
    write_json(
        json_file,
        {
            "digest": loaded.digest,
            "members": list(loaded.member_ids),
            "threshold": terms.threshold,
            "colluding_sites": terms.colluding_sites,
            "drop_outs_survived": len(loaded.members) - terms.threshold,
            "strategy": strategy_of(loaded),
            **wire_facts(loaded),
            "graph": graph_facts(loaded),
            "privacy": privacy_facts(loaded.privacy, loaded.training.rounds),
            "site_noise": site_noise_facts(loaded),
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
        say(f"strategy: {strategy_of(loaded)}")
        for line in (*wire_lines(loaded), *site_noise_lines(loaded), *_privacy_lines(loaded)):
            say(line)
        if terms.graph is not None:
            say(f"each site shares masks with {terms.graph.neighbours} neighbours, which nobody picks")
        say(f"charter digest {loaded.digest}")


def _check_ckks(package: Path, study: Study) -> None:
    """The public context beside the charter is the one that the charter names."""
    if study.secure_aggregation.mode == "ckks":
        from fedmedlora_site.custody import check_context

        check_context(study, package / CKKS_CONTEXT_FILE)


def _check_initial(package: Path, study: Study) -> None:
    """The initial adapter beside the charter is the one the charter names."""
    from fedmedlora_core.adapter import Adapter
    from fedmedlora_core.adapter_parts import check_layout

    initial = Adapter.load(package / INITIAL_FOLDER)
    check_layout(initial, study.adapter)
    if initial.digest != study.adapter.initial_digest:
        raise ConfigError(f"{package / INITIAL_FOLDER}: is not the initial adapter that the charter names")


@app.command()
def show(study: Annotated[Path, typer.Argument(help="A study file or package.", metavar="STUDY")]) -> None:
    """Print the charter's canonical JSON: exactly what is hashed and signed.

    Example: fedmedlora study show study
    """
    file = study / STUDY_FILE if study.is_dir() else study
    say(load_toml(file, Study).canonical_json().decode())
