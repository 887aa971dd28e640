"""Options of the commands that run for long: how and where they log (docs/OPERATIONS.md, "Logs")."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LogFormat(StrEnum):
    """How a log line looks."""

    TEXT = "text"
    JSON = "json"


LogFormatOption = Annotated[
    LogFormat,
    typer.Option(
        "--log-format",
        envvar="FEDMEDLORA_LOG_FORMAT",
        help="Log lines: text, a sentence each; json, an object each.",
    ),
]
LogFileOption = Annotated[
    Path | None,
    typer.Option(
        "--log-file",
        help="Append log lines to FILE instead of standard error.",
        metavar="FILE",
        dir_okay=False,
    ),
]


def start_log(log_format: LogFormat, file: Path | None) -> None:
    """Have this process log as the options say."""
    from fedmedlora_protos.operating.logbook import configure

    configure("json" if log_format is LogFormat.JSON else "text", file)
