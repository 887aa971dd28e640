"""Clocks that disagree, for part 6 of the report (AUDIT "Report")."""

from collections.abc import Iterable, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final

from fedmedlora_audit.event_data import Receipt
from fedmedlora_audit.events import Entry
from fedmedlora_audit.report.model import Oddity
from fedmedlora_audit.witnessing import SKEW_SECONDS

_MINUTE: Final = 60


def clock_oddities(entries: Sequence[Entry]) -> tuple[Oddity, ...]:
    """Return what is odd about the times that authors wrote, in the order of the log.

    A clock that went back, and a site's event dated far before or after the coordinator's receipt of it. Both
    allow `SKEW_SECONDS`. One row speaks of all events of an author of one kind, so that one wrong clock does
    not fill the report.

    Args:
        entries: The entries that the law judged.
    """
    rows = (
        _row(_backward(entries), "its own event before"),
        _row(_ahead(entries, 1), "the coordinator's receipt of it", after=True),
        _row(_ahead(entries, -1), "the coordinator's receipt of it"),
    )
    return tuple(sorted((row for made in rows for row in made), key=lambda row: row.index))


def _backward(entries: Sequence[Entry]) -> Iterable[tuple[Entry, int]]:
    """Yield each event that is dated before its author's previous one, and by how many seconds."""
    last: dict[str, int] = {}
    for entry in entries:
        who, time = entry.event.actor.id, _seconds(entry)
        if last.get(who, time) - time > SKEW_SECONDS:
            yield entry, last[who] - time
        last[who] = time


def _ahead(entries: Sequence[Entry], sign: int) -> Iterable[tuple[Entry, int]]:
    """Yield each site's event dated far after (sign 1) or before (-1) its receipt, and how far in seconds."""
    for entry, receipt in pairwise(entries):
        if isinstance(receipt.event.data, Receipt) and entry.leaf.hex() in receipt.event.refs:
            apart = sign * (_seconds(entry) - _seconds(receipt))
            if apart > SKEW_SECONDS:
                yield entry, apart


def _row(found: Iterable[tuple[Entry, int]], than: str, *, after: bool = False) -> list[Oddity]:
    by: dict[str, list[tuple[Entry, int]]] = {}
    for entry, apart in found:
        by.setdefault(entry.event.actor.id, []).append((entry, apart))
    word = "after" if after else "before"
    rows = []
    for who, odd in by.items():
        first, most = odd[0][0], max(apart for _, apart in odd)
        many = "1 event" if len(odd) == 1 else f"{len(odd)} events, this the first,"
        sentence = f"By the clock of {who}: {many} dated up to {-(-most // _MINUTE)} minutes {word} {than}."
        rows.append(Oddity(first.index, first.event.time, first.event.round, "clock", who, sentence))
    return rows


def _seconds(entry: Entry) -> int:
    return int(datetime.fromisoformat(entry.event.time).timestamp())
