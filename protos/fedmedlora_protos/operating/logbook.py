"""Log lines: events of a closed catalogue, as one sentence or as one JSON object a line (OPERATIONS, "Logs").

Free text is where clinical text gets into logs, so there is none: a line is a name of the catalogue with
fields whose names and alphabets are fixed here. What other libraries log is reduced to their name and level,
an exception to its class and where it was raised: its message may quote what was being worked on.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from logging.handlers import WatchedFileHandler
from pathlib import Path
from string import Formatter
from typing import Final, Literal, NamedTuple

LogFormat = Literal["text", "json"]
Value = str | int | float | None

_EVENT, _FIELDS = "fedmedlora_event", "fedmedlora_fields"
_OURS = "fedmedlora"


class Kind(NamedTuple):
    """One event of the catalogue: how grave it is, and what it says; its fields are those in braces."""

    level: int
    sentence: str

    @property
    def fields(self) -> frozenset[str]:
        """Names of the fields that the event has."""
        return frozenset(name for _, name, _, _ in Formatter().parse(self.sentence) if name)


CATALOGUE: Final[Mapping[str, Kind]] = {
    # at both parties
    "page_open": Kind(logging.INFO, "metrics and health are shown at http://{address}"),
    "page_exposed": Kind(
        logging.WARNING, "metrics are shown at {address}, which is not this machine alone: close it to others"
    ),
    "clock_jumped": Kind(logging.WARNING, "the clock of the day jumped by {seconds} seconds"),
    "not_ready": Kind(logging.WARNING, "not ready: {reason}"),
    "ready": Kind(logging.INFO, "ready"),
    "watch_failed": Kind(
        logging.ERROR, "nothing is measured any more: {error} at {place}; restart to mend it"
    ),
    "certificate_changed": Kind(logging.INFO, "{detail}"),
    "certificate_problem": Kind(logging.WARNING, "{detail}"),
    # at the coordinator
    "serving": Kind(logging.INFO, "serving from {folder}"),
    "store_lost": Kind(
        logging.WARNING, "{detail}; waiting up to {seconds} seconds for it, then going on from what it has"
    ),
    "store_back": Kind(logging.WARNING, "the database is back"),
    "site_enrolled": Kind(logging.INFO, "enrolled site {site}"),
    "enrolment_refused": Kind(logging.WARNING, "enrolment refused: {detail}"),
    "call_refused": Kind(logging.WARNING, "refused a call: {detail}"),
    "call_failed": Kind(logging.ERROR, "a call failed: {error} at {place}"),
    "site_came": Kind(logging.INFO, "site {site} is there"),
    "site_went": Kind(logging.INFO, "site {site} is away"),
    "site_silent": Kind(logging.WARNING, "site {site} did not answer step {step} of round {round}"),
    "site_refused": Kind(logging.WARNING, "site {site} refused step {step} of round {round}: {reason}"),
    "round_planned": Kind(logging.INFO, "round {round} is planned"),
    "round_closed": Kind(logging.INFO, "round {round} is closed"),
    "round_rolled_back": Kind(logging.WARNING, "round {round} is rolled back"),
    "round_aborted": Kind(logging.WARNING, "round {round} is aborted: {reason}"),
    "round_problem": Kind(logging.WARNING, "round {round}: {detail}"),
    "adapter_released": Kind(logging.INFO, "the adapter is released"),
    "study_closed": Kind(logging.INFO, "the study is closed"),
    "clipped_often": Kind(
        logging.WARNING,
        "round {round}: the clip changed {permille} thousandths of the sites' values on average, "
        "more than {limit}",
    ),
    "head_differs": Kind(logging.ERROR, "the log and its head file disagree at entry {size}"),
    "stamp_lacking": Kind(
        logging.WARNING, "round {round} has no time stamp yet, the next try comes: {detail}"
    ),
    "stamp_got": Kind(logging.INFO, "round {round} has its time stamp"),
    "stamps_ended": Kind(
        logging.ERROR,
        "no further time stamps are asked for: restart the coordinator ({error} at {place})",
    ),
    # at a site
    "taking_part": Kind(logging.INFO, "site {site} takes part; the coordinator is {address}"),
    "connected": Kind(logging.INFO, "connected to {address}"),
    "connection_lost": Kind(logging.WARNING, "{address}: the coordinator is away; trying again"),
    "step_refused": Kind(
        logging.WARNING, "refused step {step} of round {round}: {reason}; see run/journal.jsonl"
    ),
    "training_started": Kind(logging.INFO, "the training of round {round} has begun"),
    "memory_short": Kind(
        logging.WARNING, "round {round}: {detail}; the training goes on in {seconds} s from its last state"
    ),
    "training_done": Kind(logging.INFO, "the update of round {round} is ready"),
    "log_forked": Kind(
        logging.ERROR, "the log contradicts itself or the law ({reason}); see run/journal.jsonl; stopped"
    ),
}
"""Every event that either party logs; docs/OPERATIONS.md has the same list."""

_WORD = r"[A-Za-z0-9_.:-]{1,64}"
FIELDS: Final[Mapping[str, str]] = {
    "address": r"[A-Za-z0-9.:\[\]_-]{1,300}",
    "detail": r"[^\x00-\x1f\x7f]{1,400}",
    "error": r"[A-Za-z_]{1,64}",
    "folder": r"[^\x00-\x1f\x7f]{1,400}",
    "limit": r"[0-9.]{1,12}",
    "permille": r"[0-9.]{1,12}",
    "place": r"[A-Za-z0-9_.:/ -]{1,200}",
    "reason": _WORD,
    "round": r"[0-9]{1,9}",
    "seconds": r"-?[0-9.e+]{1,24}",
    "site": r"[a-z0-9-]{1,32}",
    "size": r"[0-9]{1,12}",
    "step": r"[a-z_]{1,24}",
}
"""Alphabet of each field. `detail` is a sentence of our own errors, which no note reaches."""


def tell(log: logging.Logger, name: str, /, **fields: Value) -> None:
    """Log one event of the catalogue.

    Args:
        log: Logger of the module that says it.
        name: Name in `CATALOGUE`.
        fields: Its fields; a value outside the field's alphabet is shown as "?".

    Raises:
        ValueError: The catalogue has no such event, or not with these fields (our mistake).
    """
    kind = CATALOGUE.get(name)
    if kind is None or kind.fields != fields.keys():
        raise ValueError(f"the catalogue of log events has no '{name}' with {sorted(fields)}")
    shown = {key: _shown(key, value) for key, value in fields.items()}
    sentence = kind.sentence.format(**{key: "-" if v is None else v for key, v in shown.items()})
    log.log(kind.level, sentence, extra={_EVENT: name, _FIELDS: shown})


def place_of(error: BaseException) -> str:
    """Say where an exception was raised: file, line and function, and nothing of its message."""
    trace = error.__traceback__
    if trace is None:
        return "nowhere"
    while trace.tb_next is not None:
        trace = trace.tb_next
    code = trace.tb_frame.f_code
    return f"{Path(code.co_filename).name}:{trace.tb_lineno} in {code.co_name}"[:200]


def configure(log_format: LogFormat, file: Path | None = None) -> None:
    """Have this process write its log lines to standard error, or to a file that may be rotated away.

    Args:
        log_format: "text", a sentence a line; "json", an object a line.
        file: Appended to, mode 0600; None is standard error.
    """
    handler: logging.Handler
    if file is None:
        handler = logging.StreamHandler(sys.stderr)
    else:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600))
        handler = WatchedFileHandler(file, encoding="utf-8")
    handler.setFormatter(JsonLines() if log_format == "json" else Sentences())
    handler.addFilter(_worth_a_line)
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(logging.INFO)


class JsonLines(logging.Formatter):
    """One JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        name, fields = _event_of(record)
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "event": name,
            **{key: value for key, value in fields.items() if value is not None},
        }
        return json.dumps(line, ensure_ascii=False)


class Sentences(logging.Formatter):
    """One sentence a line, for people."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line, without its end."""
        name, fields = _event_of(record)
        moment = datetime.fromtimestamp(record.created).astimezone().strftime("%Y-%m-%d %H:%M:%S")
        said = record.getMessage() if name in CATALOGUE else " ".join(str(v) for v in fields.values())
        return f"{moment} {record.levelname.lower()}: {said}"


def _event_of(record: logging.LogRecord) -> tuple[str, Mapping[str, Value]]:
    """Return name and fields of a line; of another library's line, who speaks and nothing of what it says."""
    name, fields = getattr(record, _EVENT, None), getattr(record, _FIELDS, None)
    if isinstance(name, str) and isinstance(fields, dict):
        return name, fields
    error = record.exc_info[1] if record.exc_info else None
    found: dict[str, Value] = {"library": record.name.split(".")[0]}
    if error is not None:
        found |= {"error": type(error).__name__, "place": place_of(error)}
    return "library", found


def _worth_a_line(record: logging.LogRecord) -> bool:
    return record.name.startswith(_OURS) or record.levelno >= logging.WARNING


def _shown(key: str, value: Value) -> Value:
    """Let a value through if it is what its field may hold."""
    if value is None:
        return None
    text = " ".join(str(value).split())[:400] if key == "detail" else str(value)
    if not re.fullmatch(FIELDS[key], text):
        return "?"
    return value if isinstance(value, int | float) else text
