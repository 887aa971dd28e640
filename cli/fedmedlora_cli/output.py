"""How commands speak: one line for people, JSON where a script reads."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer

FolderOption = Annotated[
    Path,
    typer.Option("--dir", envvar="FEDMEDLORA_DIR", help="The party's folder.", file_okay=False),
]
JsonOption = Annotated[
    Path | None,
    typer.Option("--json", help="Write the result as JSON to FILE; - for standard output.", metavar="FILE"),
]
WatchOption = Annotated[
    bool,
    typer.Option(
        "--watch", help="Refresh on one screen until q is pressed; once where there is no terminal."
    ),
]


def say(message: str) -> None:
    """Print one line for the operator."""
    typer.echo(message)


def write_json(target: Path | None, value: Mapping[str, Any]) -> None:
    """Write `value` to the file that `--json` named, if it named one."""
    if target is None:
        return
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    if str(target) == "-":
        sys.stdout.write(text)
    else:
        target.write_text(text, encoding="utf-8")


def show_facts(found: Mapping[str, Any], target: Path | None) -> None:
    """Print flat facts a line each, or write them where `--json` named a file."""
    write_json(target, found)
    if target is None:
        for key, value in found.items():
            say(f"{key}: {value}")


def show_health(problems: Sequence[str], target: Path | None) -> NoReturn:
    """Print why a process is not well, or "ok", and end with the exit code that probes read.

    Raises:
        Exit: Code 0 when it is well, 1 when not.
    """
    write_json(target, {"well": not problems, "problems": list(problems)})
    if target is None:
        say("\n".join(problems) or "ok")
    raise typer.Exit(1 if problems else 0)
