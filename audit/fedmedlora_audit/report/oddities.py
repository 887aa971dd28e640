"""Part 6 of the report: what is allowed and not everyday, such as a refusal (AUDIT "Report")."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from fedmedlora_audit.events import Entry, Event
from fedmedlora_audit.law import State
from fedmedlora_audit.report.clocks import clock_oddities
from fedmedlora_audit.report.model import Oddity

Told = tuple[str, str]
"""Kind and sentence of an oddity."""


def _words(name: str) -> str:
    return name.replace("_", " ")


def _refused(event: Event, data: Any) -> Told:
    return "refusal", f"{event.actor.id} refused the step “{data.step}”: {_words(data.reason)}."


def _aborted(event: Event, _data: Any) -> Told:
    return "abort", f"The round was given up: {_words(event.reason or 'no reason')}."


def _rolled_back(_event: Event, _data: Any) -> Told:
    return "roll-back", "The hospitals' vote found the new adapter worse; the old one stays."


def _failed(_event: Event, data: Any) -> Told:
    return "no answer", f"{data.site} gave no answer at the step “{data.step}”."


def _erased(event: Event, _data: Any) -> Told:
    return "erasure", f"{event.actor.id} erased its secrets of a sum that it had not helped to open."


def _another(_event: Event, data: Any) -> Told | None:
    if data.attempt == 1:
        return None
    return "new attempt", f"Attempt {data.attempt} of this sum was begun."


def _left_out(_event: Event, data: Any) -> Told | None:
    rows = [f"{row.id} ({_words(row.reason)})" for row in data.left_out]
    return ("left out", f"Left out of the sum: {', '.join(rows)}.") if rows else None


def _disagreed(event: Event, data: Any) -> Told | None:
    return None if not data.rejected else ("vote", f"{data.against} of {data.voters} voters found it worse.")


def _log_closed(_event: Event, _data: Any) -> Told:
    return "log closed", "The log was closed; a new log has to name this one."


_TOLD: Final[Mapping[str, Callable[[Event, Any], Told | None]]] = {
    "step.refused": _refused,
    "round.aborted": _aborted,
    "round.rolled_back": _rolled_back,
    "delivery.failed": _failed,
    "attempt.erased": _erased,
    "session.opened": _another,
    "keys.broadcast": _left_out,
    "votes.counted": _disagreed,
    "log.closed": _log_closed,
}


def oddities(entries: Sequence[Entry], state: State | None) -> tuple[Oddity, ...]:
    """Return everything odd in the order of the log.

    Args:
        entries: The entries that could be read.
        state: Where they lead, for what came late; None if the law could not be applied.
    """
    late = _late_answers(entries, state)
    rows = []
    for entry in entries:
        event = entry.event
        tell = _TOLD.get(event.type)
        told = tell(event, event.data) if tell is not None else None
        if entry.index in late:
            told = "late", f"The {event.type} of {event.actor.id} came after its step and had no effect."
        if told is not None:
            kind, sentence = told
            rows.append(
                Oddity(entry.index, event.time, event.round, kind, event.actor.id, sentence),
            )
    return tuple(sorted((*rows, *clock_oddities(entries)), key=lambda row: row.index))


def _late_answers(entries: Sequence[Entry], state: State | None) -> set[int]:
    """Find the events that the law took as late: the only one of their type, author and session."""
    if state is None:
        return set()
    found = set()
    for entry in entries:
        event = entry.event
        session = state.sids.get(event.sid or "")
        current = state.rounds.get(event.round or 0)
        where = session.late if session is not None else current.late if current is not None else set()
        if (event.type, event.actor.id) in where:
            found.add(entry.index)
    return found
