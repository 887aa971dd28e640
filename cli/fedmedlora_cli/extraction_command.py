"""`fedmedlora extract`: entities and relations from notes, with offsets into the original files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from fedmedlora_cli.output import say
from fedmedlora_cli.trained import load_trained
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.learning.evaluate import predict
from fedmedlora_core.records import Note
from fedmedlora_core.standoff import to_json, to_standoff
from fedmedlora_core.study import Study


def command(
    notes: Annotated[list[Path], typer.Argument(help="Text files, one note each.", metavar="NOTE…")],
    adapter: Annotated[Path, typer.Option(help="Folder of a released adapter.")],
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model; the shipped one if left out.")
    ] = None,
    format: Annotated[str, typer.Option(help="json or brat.")] = "json",
    out: Annotated[
        Path | None, typer.Option(help="Folder for .json or .ann files; else standard output.")
    ] = None,
) -> None:
    """Extract entities and relations from notes; offsets are characters of the original file.

    Example: fedmedlora extract --adapter demo-run/coordinator/released note.txt --format brat
    """
    if format not in {"json", "brat"}:
        raise ConfigError(f"--format '{format}': choose json or brat")
    names = [path.stem for path in notes]
    if out is not None and len(set(names)) != len(names):
        raise ConfigError("two notes have the same file name: their outputs would overwrite each other")
    study, learner = load_trained(adapter, base)
    loaded = [read_text_note(path, study) for path in notes]
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("reading", total=None)
        found = predict(
            learner,
            loaded,
            study.labels.tasks,
            on_done=lambda done, total: progress.update(task, completed=done, total=total),
        )
    for note in found.notes:
        text = to_standoff(note) if format == "brat" else json.dumps(to_json(note), ensure_ascii=False) + "\n"
        if out is None:
            sys.stdout.write(text)
        else:
            out.mkdir(parents=True, exist_ok=True)
            suffix = "ann" if format == "brat" else "json"
            (out / f"{note.document_id}.{suffix}").write_text(text, encoding="utf-8")
    if out is not None:
        say(f"wrote {len(found.notes)} files to {out}")
    if found.malformed:
        typer.echo(f"{found.malformed} of {found.asked} answers could not be read in full", err=True)


def read_text_note(path: Path, study: Study) -> Note:
    """Read a note's text as it is, so that offsets fit the original file.

    Raises:
        DataError: The file is not UTF-8 text.
    """
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError:
        raise DataError("is not UTF-8 text", file=str(path)) from None
    types = frozenset({*study.labels.entities, *study.labels.modifiers})
    return Note(document_id=path.stem, patient_id=None, text=text, entities=(), relations=(), annotated=types)
