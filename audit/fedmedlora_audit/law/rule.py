"""What a rule is: a small function that raises `LawError` when an event breaks it."""

from collections.abc import Callable
from typing import Any

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.state import Round, Session, State

Rule = Callable[[State, Event, Any], None]
"""``rule(state, event, data)``; ``data`` is ``event.data`` in the type that the table promises."""


def need(condition: bool, check: str, sentence: str) -> None:
    """Raise the finding unless the condition holds."""
    if not condition:
        raise LawError(check, sentence)


def open_round(state: State, event: Event) -> Round:
    """Return the open round, which the event must name (R1)."""
    current = state.round
    if current is None or current.number != event.round:
        raise LawError("R1", f"{event.type} names round {event.round}, which is not open")
    return current


def live_session(state: State, event: Event) -> Session:
    """Return the live session, which the event must name (G36, G37)."""
    open_round(state, event)
    session = state.session
    if session is None or event.sid not in state.sids:
        raise LawError("G36", f"{event.type} names a session that was never opened")
    if event.sid != session.sid:  # G37: an earlier sid is never answered again
        raise LawError("G37", f"{event.type} names an earlier session")
    return session
