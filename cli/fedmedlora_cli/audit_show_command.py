"""`fedmedlora audit show`: look into a bundle in the terminal; one entry with its proof and receipt."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fedmedlora_audit.browsing import MIN_DIGEST, Browser, Filters, ProvenEntry, row_of
from fedmedlora_audit.bundle import need_bundle
from fedmedlora_audit.errors import ProofError
from fedmedlora_audit.events import KINDS, Entry
from fedmedlora_audit.trust import Trust
from fedmedlora_cli.audit_judgement import BundleArgument, TrustOption
from fedmedlora_cli.output import JsonOption, say, write_json

SHOWN = ("index", "time", "round", "author", "type", "about", "leaf")


def show(
    bundle: BundleArgument,
    trust: TrustOption,
    round_number: Annotated[int | None, typer.Option("--round", min=1, help="Events of this round.")] = None,
    site: Annotated[str | None, typer.Option(help="Events by this party, or about it.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help="Events of this type.")] = None,
    digest: Annotated[
        str | None, typer.Option(help="Events with this leaf or digest; its first 8 digits or more.")
    ] = None,
    index: Annotated[
        int | None, typer.Option(min=0, help="One event in full, with proof and receipt.")
    ] = None,
    json_file: JsonOption = None,
) -> None:
    """Look into a bundle: a list of events, or one with its verified proof and receipt.

    Example: fedmedlora audit show bundle --trust trust.json --round 2 --type unmask.request
    """
    filters = Filters(round_number, site, type_, digest)
    _need_sense(filters, index)
    need_bundle(bundle)
    browser = Browser.open(bundle, Trust.load(trust))
    if not browser.is_proven or browser.unreadable:
        typer.echo(
            "warning: these entries are not the log's, judge the bundle: fedmedlora audit verify", err=True
        )
    if index is not None:
        _show_one(browser, index, json_file)
    else:
        _show_list(browser, filters, json_file)


def _need_sense(filters: Filters, index: int | None) -> None:
    if index is not None and filters != Filters():
        raise typer.BadParameter("--index names one event: leave the other filters out")
    if filters.type is not None and filters.type not in KINDS:
        raise typer.BadParameter(f"no such type of event; types: {', '.join(KINDS)}")
    if filters.digest is not None and not re.fullmatch(f"[0-9a-fA-F]{{{MIN_DIGEST},64}}", filters.digest):
        raise typer.BadParameter(f"a digest is {MIN_DIGEST} to 64 hex digits")


def _show_list(browser: Browser, filters: Filters, target: Path | None) -> None:
    found = list(browser.select(filters))
    write_json(target, {"events": browser.head.size, "entries": [row_of(entry) for entry in found]})
    if target is not None and str(target) == "-":
        return
    table = Table(*SHOWN, box=None, header_style="bold")
    for entry in found:
        table.add_row(*_cells(entry))
    Console(width=None if Console().is_terminal else 160).print(table)
    say(f"{len(found)} of {browser.head.size} events; one in full: --index N")


def _cells(entry: Entry) -> list[Text]:
    row = row_of(entry)
    row["leaf"] = row["leaf"][:16]
    return [Text("" if row[name] is None else str(row[name]), no_wrap=True) for name in SHOWN]


def _show_one(browser: Browser, index: int, target: Path | None) -> None:
    try:
        proven = browser.prove(index)
    except ProofError as error:
        typer.echo(f"not proven: {error.sentence}", err=True)
        raise typer.Exit(1) from None
    write_json(target, proven.to_json())
    if target is None or str(target) != "-":
        _print_one(proven)
    raise typer.Exit(1 if proven.signature else 0)


def _print_one(proven: ProvenEntry) -> None:
    entry, head = proven.entry, proven.head
    event = entry.event
    say(f"event {entry.index}: {event.type} by {event.actor.id}, {event.time}")
    say(json.dumps(event.model_dump(by_alias=True, mode="json"), indent=2, sort_keys=True))
    say(f"signature: {proven.signature or f'holds, by key {event.actor.key}'}")
    say(f"leaf: {entry.leaf.hex()}")
    say(f"inclusion proof, verified against the log's signed head over {head.size} entries:")
    for step in proven.proof:
        say(f"  {step.hex()}")
    say(f"root: {head.root.hex()}")
    if proven.quorum_size is not None:
        say(f"witnesses: {', '.join(proven.witnesses)} cosigned the head over {proven.quorum_size} entries")
    else:
        say("witnesses: no head in the bundle with a quorum of cosignatures covers it")
    if proven.receipt is not None:
        say(f"receipt: event {proven.receipt.index}, {proven.receipt.event.time}")
    elif event.actor.role == "site":
        say("receipt: none in this log")
    else:
        say("receipt: none is due for an event of the coordinator")
