"""`fedmedlora coordinator …`: the coordinating centre's commands."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from fedmedlora_cli import coordinator_certificate_commands, coordinator_screen, live_screen
from fedmedlora_cli.log_options import LogFileOption, LogFormat, LogFormatOption, start_log
from fedmedlora_cli.output import FolderOption, JsonOption, WatchOption, say, show_facts, show_health

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.command()
def init(
    folder: Annotated[Path, typer.Argument(help="Folder to make.", metavar="DIR")],
    name: Annotated[str, typer.Option(help="Name of the federation, for example ward.example/study.")],
    address: Annotated[str, typer.Option(help="HOST:PORT that sites dial.")],
    enrolment_address: Annotated[str, typer.Option(help="HOST:PORT for enrolment; another port.")],
    grace_seconds: Annotated[
        float | None, typer.Option(help="How long a site may be away before a round goes on without it.")
    ] = None,
    store: Annotated[
        str, typer.Option(help="postgresql://ROLE@HOST:PORT/DATABASE; SQLite in the folder without it.")
    ] = "",
) -> None:
    """Make the federation's CA, the log's keys and the store.

    Example: fedmedlora coordinator init centre --name ward.example/study --address fl.example:7443
    --enrolment-address fl.example:7444
    """
    from fedmedlora_coordinator import setup
    from fedmedlora_coordinator.settings import Timing

    timing = (
        None
        if grace_seconds is None
        else Timing(
            grace_seconds=grace_seconds,
            ready_grace_seconds=2 * grace_seconds,
            abort_seconds=3 * grace_seconds,
        )
    )
    made = setup.init(
        folder,
        name=name,
        address=address,
        enrolment_address=enrolment_address,
        timing=timing,
        store_url=store,
    )
    say(f"made {made.folder}; read this out to every site: CA fingerprint {made.ca_fingerprint}")


@app.command()
def invite(
    site: Annotated[str, typer.Argument(help="Id of the site: a-z, 0-9 and '-'.")],
    folder: FolderOption = Path(),
    out: Annotated[Path | None, typer.Option(help="File to write.")] = None,
    hours: Annotated[float, typer.Option(help="How long the invitation is valid.")] = 72.0,
    again: Annotated[
        bool,
        typer.Option("--again", help="A new certificate for an enrolled site, for its event key only."),
    ] = False,
) -> None:
    """Make a one-time invitation for a site, to be carried by another route.

    Example: fedmedlora coordinator invite st-mary --dir centre --out st-mary.invitation.json
    """
    from fedmedlora_coordinator import invites

    path = invites.invite(folder, site, hours=hours, out=out, again=again)
    if again:
        say(f"wrote {path}; hand it to '{site}' by a route you trust, for `site renew --invitation`")
        return
    say(f"wrote {path}; hand it to '{site}' by a route you trust: it holds the only copy of the token")


@app.command()
def serve(
    folder: FolderOption = Path(),
    study: Annotated[
        Path | None, typer.Option(help="Study package to run; without it only enrolment is served.")
    ] = None,
    until_closed: Annotated[bool, typer.Option(help="End once the study is closed and delivered.")] = False,
    progress: Annotated[bool, typer.Option(help="Print one JSON line per event.")] = False,
    log_format: LogFormatOption = LogFormat.TEXT,
    log_file: LogFileOption = None,
    die_at: Annotated[str | None, typer.Option(hidden=True)] = None,
) -> None:
    """Serve enrolment and, with a study, its rounds; a restart goes on where the log ends.

    Example: fedmedlora coordinator serve --dir centre --study study
    """
    from fedmedlora_coordinator import runtime

    start_log(log_format, log_file)
    runtime.serve(folder, study=study, until_closed=until_closed, progress=progress, die_at=die_at)


@app.command()
def status(folder: FolderOption = Path(), watch: WatchOption = False, json_file: JsonOption = None) -> None:
    """Show the study's round, step, who is waited for, and alarms.

    Example: fedmedlora coordinator status --dir centre --watch
    """
    from fedmedlora_coordinator import watching
    from fedmedlora_coordinator.errors import CoordinatorError
    from fedmedlora_coordinator.reports import status as whole

    if not watch or json_file is not None or not live_screen.is_terminal():
        show_facts(watching.look(folder), json_file)
        return
    reader = live_screen.Reader(
        partial(whole, folder), partial(watching.live, folder), watching.joined, (CoordinatorError,)
    )
    live_screen.watch(reader, coordinator_screen.screen)


@app.command()
def health(folder: FolderOption = Path(), json_file: JsonOption = None) -> None:
    """Say whether the serving process is well, for probes: exit 0 if it is, 1 if not.

    Example: fedmedlora coordinator health --dir centre
    """
    from fedmedlora_coordinator import watching

    show_health(watching.health(folder), json_file)


@app.command()
def evidence(
    round_number: Annotated[int, typer.Option("--round", min=1, help="The round.")],
    out: Annotated[Path, typer.Option(help="Folder that gets one folder per round.")],
    folder: FolderOption = Path(),
) -> None:
    """Write the payloads behind a round's published sum, while they are kept, for a reviewer.

    Example: fedmedlora coordinator evidence --dir centre --round 3 --out evidence
    """
    from fedmedlora_coordinator import evidence_export

    made = evidence_export.export_evidence(folder, round_number, out)
    say(f"wrote {made}; judge it with: fedmedlora audit verify BUNDLE --trust trust.json --evidence {out}")


@app.command()
def hold(
    reason: Annotated[str, typer.Option(help="litigation, investigation, authority, incident or other.")],
    folder: FolderOption = Path(),
) -> None:
    """Place a legal hold: no entry of the log is deleted until it is released (not while serving).

    Example: fedmedlora coordinator hold --dir centre --reason litigation
    """
    from fedmedlora_coordinator import keeping

    number = keeping.hold(folder, reason)
    say(f"hold {number} is in force until: fedmedlora coordinator release --dir {folder} --hold {number}")


@app.command()
def release(
    number: Annotated[int, typer.Option("--hold", min=1, help="Number of the hold.")],
    folder: FolderOption = Path(),
) -> None:
    """Release a legal hold (not while serving).

    Example: fedmedlora coordinator release --dir centre --hold 1
    """
    from fedmedlora_coordinator import keeping

    keeping.release(folder, number)
    say(f"hold {number} is released")


@app.command()
def prune(folder: FolderOption = Path(), json_file: JsonOption = None) -> None:
    """Delete entries whose years are over; hashes, heads and stamps stay. Exit 1 if none may go.

    Example: fedmedlora coordinator prune --dir centre
    """
    from fedmedlora_coordinator import keeping

    found = keeping.prune(folder)
    show_facts({"deleted": [list(span) for span in found.ranges], "refused": found.refused}, json_file)
    raise typer.Exit(0 if found.refused is None else 1)


@app.command()
def stamp(folder: FolderOption = Path(), json_file: JsonOption = None) -> None:
    """Ask the time-stamping authority for the stamps that are lacking; exit 1 if it gives none.

    Example: fedmedlora coordinator stamp --dir centre
    """
    from fedmedlora_coordinator import reports

    found = reports.stamp_lacking(folder)
    show_facts(found, json_file)
    raise typer.Exit(0 if found["problem"] is None else 1)


@app.command()
def export(
    out: Annotated[
        Path, typer.Option(help="Folder to write the bundle to; or FILE.tar.gz, for one packed file.")
    ],
    folder: FolderOption = Path(),
) -> None:
    """Write the bundle that a reviewer judges offline.

    Example: fedmedlora coordinator export --dir centre --out bundle.tar.gz
    """
    from fedmedlora_coordinator import reports

    reports.export_bundle(folder, out)
    say(f"wrote {out}; judge it with: fedmedlora audit verify {out} --trust trust.json")


@app.command()
def backup(
    out: Annotated[Path, typer.Option(help="File to write; not in the folder itself.")],
    folder: FolderOption = Path(),
) -> None:
    """Write a backup: log, enrolment, keys, settings, study, payloads; also beside a serving process.

    Example: fedmedlora coordinator backup --dir centre --out safe/centre.backup
    """
    from fedmedlora_coordinator import backup as backups

    made = backups.backup(folder, out)
    say(f"wrote {out}: {made.entries} entries, {made.payloads} payloads; keep it secret: it holds keys")
    if made.sealed:
        say(
            f"{made.sealed} payloads are sealed: to restore them keep {folder}/keys/storage.key apart from it"
        )


@app.command()
def restore(
    archive: Annotated[Path, typer.Argument(help="The backup.", metavar="FILE")],
    folder: Annotated[Path, typer.Argument(help="Folder to make.", metavar="DIR")],
    head: Annotated[
        list[Path] | None,
        typer.Option(
            help="Newest head: the old folder's `head`, sites' `run/mirror/checkpoint`; repeatable."
        ),
    ] = None,
    storage_key: Annotated[Path | None, typer.Option(help="The old folder's keys/storage.key.")] = None,
    store: Annotated[
        str | None, typer.Option(help="Where the store goes, as for init; '' is SQLite; else where it was.")
    ] = None,
) -> None:
    """Make a coordinator's folder from a backup; exit 1 if going on would fork the log.

    Example: fedmedlora coordinator restore safe/centre.backup centre --head old/head
    """
    from fedmedlora_coordinator import restoring

    found = restoring.restore(archive, folder, heads=head or (), storage_key=storage_key, store_url=store)
    if found.problem is not None:
        say(f"made {folder}, to be exported and not to be served: {found.problem}")
        raise typer.Exit(1)
    say("certificates that were revoked or issued after the backup: see `coordinator certificates`")
    say(
        f"made {folder} with {found.entries} entries; go on with: fedmedlora coordinator serve --dir {folder}"
    )


app.command()(coordinator_certificate_commands.renew)
app.command()(coordinator_certificate_commands.revoke)
app.command()(coordinator_certificate_commands.reinstate)
app.command()(coordinator_certificate_commands.certificates)
