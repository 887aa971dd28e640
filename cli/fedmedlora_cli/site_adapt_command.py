"""`fedmedlora site adapt`: a released adapter fitted to a new site's few labelled notes."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from fedmedlora_cli.output import JsonOption, say, write_json
from fedmedlora_core.errors import ConfigError

if TYPE_CHECKING:
    from fedmedlora_core.records import Note


def command(
    notes: Annotated[
        Path, typer.Argument(help="Labelled notes: JSONL as `site import` keeps them, or a BRAT folder.")
    ],
    adapter: Annotated[Path, typer.Option(help="Folder of the released adapter.")],
    out: Annotated[Path, typer.Option(help="Folder to write the fitted adapter to; it must not exist.")],
    base: Annotated[
        Path | None, typer.Option(help="Folder of the base model; the shipped one when left out.")
    ] = None,
    profile: Annotated[
        str | None, typer.Option(help="Profile whose training terms are used; the charter's when left out.")
    ] = None,
    mapping: Annotated[
        str | None, typer.Option(help="Mapping of a BRAT folder's labels: a shipped name or a TOML file.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the split and the training.", min=0)] = 1,
    json_file: JsonOption = None,
) -> None:
    """Fit a released adapter to this site's own labelled notes; nothing leaves the site.

    One note in five is held out and decides whether the fit is kept. The fitted adapter has seen this site's
    notes without the protection of a sum: keep it as you keep the notes.

    Example: fedmedlora site adapt notes.jsonl --adapter released --out fitted
    """
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from fedmedlora_site.adapting import adapt

    labelled = _read(notes, mapping)
    with Progress(console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("training", total=None)
        found = adapt(
            adapter,
            labelled,
            out,
            base=base,
            profile=profile,
            seed=seed,
            on_round=lambda done, total: progress.update(task, completed=done, total=total),
        )
    write_json(json_file, found.as_dict())
    if json_file is None or str(json_file) != "-":
        for line in found.lines():
            say(line)
        say(f"wrote {out}: it has seen this site's notes alone; keep it as you keep the notes")


def _read(source: Path, mapping: str | None) -> tuple[Note, ...]:
    """Read labelled notes."""
    from fedmedlora_core.brat import read_brat
    from fedmedlora_core.mapping import load_mapping
    from fedmedlora_core.records import read_notes

    if source.is_dir():
        return tuple(read_brat(source, mapping=None if mapping is None else load_mapping(mapping)).notes)
    if mapping is not None:
        raise ConfigError("--mapping is for a BRAT folder; a JSONL file has the study's labels")
    return tuple(read_notes(source))
