"""`fedmedlora site …`: a hospital's commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_cli import (
    live_screen,
    site_adapt_command,
    site_ledger_command,
    site_member_commands,
    site_renew_command,
    site_screen,
)
from fedmedlora_cli.log_options import LogFileOption, LogFormat, LogFormatOption, start_log
from fedmedlora_cli.output import (
    FolderOption,
    JsonOption,
    WatchOption,
    say,
    show_facts,
    show_health,
    write_json,
)

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
def enroll(
    invitation: Annotated[Path, typer.Argument(help="The invitation, received by another route.")],
    folder: FolderOption = Path(),
    witness_key: Annotated[
        str, typer.Option(help="Key that cosigns the log: ed25519, or ml-dsa-44 against quantum computers.")
    ] = "ed25519",
) -> None:
    """Make this site's keys here and receive its certificate.

    Example: fedmedlora site enroll st-mary.invitation.json --dir st-mary
    """
    from fedmedlora_site import enrolment

    card = enrolment.enroll(invitation, folder, witness_kind=witness_key)
    say(f"enrolled as '{card.id}'; hand {folder / 'card.toml'} to every other member yourself")
    say(f"fingerprint to read out: {card.fingerprint}")


@app.command()
def pin(
    cards: Annotated[list[Path], typer.Argument(help="Cards of the other members.", metavar="CARD…")],
    folder: FolderOption = Path(),
) -> None:
    """Pin other members' keys; a study that names other keys is refused.

    Example: fedmedlora site pin st-john.card.toml st-luke.card.toml --dir st-mary
    """
    from fedmedlora_site import pins

    for card in pins.add_cards(folder, cards):
        say(f"pinned '{card.id}', fingerprint {card.fingerprint}: compare it by phone")


@app.command("import")
def import_(
    source: Annotated[Path, typer.Argument(help="File or folder of annotated notes.")],
    folder: FolderOption = Path(),
    *,
    format: Annotated[
        str | None,
        typer.Option(
            help="brat, n2c2, i2b2, bioc, pubtator, conll or jsonl; told from the files if left out.",
        ),
    ] = None,
    mapping: Annotated[
        Path | None,
        typer.Option(help="TOML that maps another ontology's labels, or the name of a shipped one."),
    ] = None,
    max_words: Annotated[
        int | None, typer.Option(help="Cut longer notes at section or sentence bounds.", min=1)
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be imported, by type, and write nothing.")
    ] = False,
    json_file: JsonOption = None,
) -> None:
    """Read annotated notes into this site's own format; all of them or none.

    Example: fedmedlora site import notes/ --dir st-mary --mapping labels.toml --dry-run
    """
    from fedmedlora_cli.import_page import show_import
    from fedmedlora_site import importing

    read = importing.read_import if dry_run else importing.import_notes
    found = read(folder, source, format=format, mapping=mapping, max_words=max_words)
    write_json(json_file, found.as_dict())
    if dry_run and str(json_file) != "-":
        show_import(found)
    elif json_file is None:
        for line in found.lines():
            say(line)


@app.command()
def accept(
    study: Annotated[Path, typer.Argument(help="The study package.", metavar="STUDY")],
    folder: FolderOption = Path(),
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model; the shipped one when left out.")
    ] = None,
) -> None:
    """Compare a study with this site's pins and policy and agree to it, or say why not.

    Example: fedmedlora site accept study --dir st-mary
    """
    from fedmedlora_site import acceptance

    accepted = acceptance.accept(folder, study, base=base)
    for warning in accepted.warnings():
        say(f"warning: {warning}")
    if accepted.secure_aggregation.mode == "ckks":
        from fedmedlora_site import custody

        plan = custody.size_plan(accepted, measured=True)
        for line in plan.lines() if plan is not None else ():
            say(line)
    say(f"accepted study '{accepted.study.id}', charter {accepted.digest}")


@app.command("ckks-key")
def ckks_key(
    out: Annotated[Path, typer.Option(help="Where to write the public context, for `study new`.")],
    folder: FolderOption = Path(),
    shared_key_out: Annotated[
        Path | None, typer.Option(help="Also write the secret key, for a study whose members all hold it.")
    ] = None,
) -> None:
    """Make the CKKS key of a study at this site; who holds it can read single updates.

    Example: fedmedlora site ckks-key --dir st-mary --out ckks-context.bin
    """
    from fedmedlora_site import custody

    digest = custody.make_key(folder, out, shared_key_out=shared_key_out)
    say(f"wrote {out}, digest {digest}; the secret key stays in {folder / 'keys'}")
    if shared_key_out is not None:
        say(f"wrote {shared_key_out}: SECRET; hand it to every member yourself, never by the coordinator")


@app.command("ckks-import")
def ckks_import(
    key: Annotated[Path, typer.Argument(help="The secret key, received by another route.", metavar="KEY")],
    folder: FolderOption = Path(),
    context: Annotated[
        Path | None, typer.Option(help="The public context; that of the accepted study when left out.")
    ] = None,
) -> None:
    """Take in the CKKS key of a study whose members all hold it; it must fit the public context.

    Example: fedmedlora site ckks-import ckks.key --dir st-john
    """
    from fedmedlora_site import custody

    digest = custody.import_key(folder, key, context=context)
    say(f"holds the key of CKKS context {digest}; this site could now read single updates")


@app.command()
def run(
    folder: FolderOption = Path(),
    progress: Annotated[bool, typer.Option(help="Print progress as JSON lines.")] = False,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_file: LogFileOption = None,
    die_at: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Take part in the accepted study until it is closed.

    Example: fedmedlora site run --dir st-mary
    """
    from fedmedlora_site import agent

    start_log(log_format, log_file)
    agent.run(folder, progress=progress, die_at=die_at)


@app.command()
def status(folder: FolderOption = Path(), watch: WatchOption = False, json_file: JsonOption = None) -> None:
    """Show where this site stands: study, round, training, budget, refusals, alarms.

    Example: fedmedlora site status --dir st-mary --watch
    """
    from fedmedlora_site import watching
    from fedmedlora_site.errors import SiteError

    if not watch or json_file is not None or not live_screen.is_terminal():
        show_facts(watching.look(folder), json_file)
        return
    reader = live_screen.Reader(
        partial(watching.folder_facts, folder), partial(watching.live, folder), watching.joined, (SiteError,)
    )
    live_screen.watch(reader, site_screen.screen)


@app.command()
def health(folder: FolderOption = Path(), json_file: JsonOption = None) -> None:
    """Say whether this site's agent is well, for probes: exit 0 if it is, 1 if not.

    Example: fedmedlora site health --dir st-mary
    """
    from fedmedlora_site import watching

    show_health(watching.health(folder), json_file)


@app.command()
def personal(
    out: Annotated[Path, typer.Option(help="PEFT folder to write, in the clear.")],
    folder: FolderOption = Path(),
) -> None:
    """Write the adapter that this site uses in a study that leaves a part of it to each site (mode sa).

    Example: fedmedlora site personal --dir st-mary --out st-mary-adapter
    """
    from fedmedlora_site.personal_export import export_personal

    number = export_personal(folder, out)
    say(f"wrote {out}; this site's own part is from round {number}")


@app.command()
def export(
    out: Annotated[
        Path, typer.Option(help="Folder to write the bundle to; or FILE.tar.gz, for one packed file.")
    ],
    folder: FolderOption = Path(),
) -> None:
    """Write this site's own mirror of the log as a bundle for a reviewer.

    Example: fedmedlora site export --dir st-mary --out bundle
    """
    from fedmedlora_site import reports

    reports.export_bundle(folder, out)
    say(f"wrote {out}")


@app.command()
def trust(
    out: Annotated[Path, typer.Option(help="File to write.")],
    folder: FolderOption = Path(),
    tsa_certificates: Annotated[
        Path | None,
        typer.Option(help="PEM file of the time-stamping authority's certificates, got from the authority."),
    ] = None,
) -> None:
    """Write the trust file for a reviewer from this site's own pins, never from the coordinator.

    Example: fedmedlora site trust --dir st-mary --out trust.json --tsa-certificates tsa.pem
    """
    from fedmedlora_site import reports

    reports.write_trust(folder, out, tsa_certificates=tsa_certificates)
    say(f"wrote {out}")


app.command("adapt")(site_adapt_command.command)
app.command("rotate-keys")(site_member_commands.rotate_keys)
app.command("leave")(site_member_commands.leave)
app.command("ledger")(site_ledger_command.command)
app.command("renew")(site_renew_command.command)
