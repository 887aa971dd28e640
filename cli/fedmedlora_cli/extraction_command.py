"""`fedmedlora extract`: entities and relations from notes, with offsets into the original files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from fedmedlora_cli.extraction_notes import GivenNotes, output_path, read_given, targets_of
from fedmedlora_cli.output import say
from fedmedlora_cli.trained import load_trained
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.evaluate import predict
from fedmedlora_core.records import Note
from fedmedlora_core.standoff import to_json, to_standoff


def command(
    notes: Annotated[
        list[Path],
        typer.Argument(help="Text files, or files and folders as `site import` reads them.", metavar="NOTE…"),
    ],
    adapter: Annotated[Path, typer.Option(help="Folder of a released adapter.")],
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model; the shipped one if left out.")
    ] = None,
    format: Annotated[str, typer.Option(help="json or brat.")] = "json",
    out: Annotated[
        Path | None, typer.Option(help="Folder for .json or .ann files; else standard output.")
    ] = None,
    notes_format: Annotated[
        str | None, typer.Option(help="Format of the notes; told from their names if left out.")
    ] = None,
    mapping: Annotated[
        str | None, typer.Option(help="Label mapping of annotated notes, as for `site import`.")
    ] = None,
) -> None:
    """Extract entities and relations from notes; offsets are characters of the original file.

    Example: fedmedlora extract --adapter demo-run/coordinator/released note.txt --format brat
    """
    if format not in {"json", "brat"}:
        raise ConfigError(f"--format '{format}': choose json or brat")
    study, learner = load_trained(adapter, base)
    given = read_given(notes, learner.labels, format=notes_format, mapping=mapping)
    suffix = "ann" if format == "brat" else "json"
    targets = {} if out is None else targets_of(given, out, suffix, notes)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)
        found = predict(
            learner,
            given.notes,
            study.labels.tasks,
            on_done=lambda done, total: progress.update(task, completed=done, total=total),
        )
    whole = given.whole(found.notes)
    for note in whole:
        text = rendered(note, given, format, out)
        if out is None:
            sys.stdout.write(text)
        for target in targets.get(note.document_id, ()):
            _write(target, note.text if target.suffix == ".txt" else text)
    if out is not None:
        say(f"wrote {len(whole)} files to {out}")
    if found.malformed:
        typer.echo(f"{found.malformed} of {found.asked} answers could not be read in full", err=True)


def rendered(note: Note, given: GivenNotes, format: str, out: Path | None) -> str:
    """What is written for a note: BRAT stand-off, or one line of JSON that names the file of its offsets."""
    if format == "brat":
        return to_standoff(note)
    file = given.files[note.document_id]
    if file is None and out is not None:
        file = output_path(out, note.document_id, "txt")
    answer = to_json(note) | {"file": None if file is None else str(file)}
    return json.dumps(answer, ensure_ascii=False) + "\n"


def _write(target: Path, text: str) -> None:
    """Write characters as they are: a translated newline would shift offsets."""
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text, encoding="utf-8", newline="")
