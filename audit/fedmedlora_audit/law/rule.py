"""What a rule is: a small function that raises `LawError` when an event breaks it."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.state import Round, Session, State

STEPS: Final = ("advertise", "share", "upload", "survivors", "unmask", "aggregate", "count", "tally")
STEP_OF_ANSWER: Final[Mapping[str, str]] = {
    "keys.advertised": "advertise",
    "shares.sent": "share",
    "update.submitted": "upload",
    "survivors.agreed": "survivors",
    "unmask.response": "unmask",
    "aggregate.accepted": "aggregate",
    "votes.checked": "count",
    "validation.checked": "tally",
}
"""A site's answers in a session, and the step each belongs to."""
ROUND_ANSWERS: Final = frozenset({"plan.accepted", "update.ready"})
"""A site's answers before a session is opened."""

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


def summed_session(state: State, event: Event) -> Session:
    """Return the open round's session of updates, which the event must name (G36, G37)."""
    current = open_round(state, event)
    session = current.summed or state.session
    if session is None or event.sid not in state.sids:
        raise LawError("G36", f"{event.type} names a session that was never opened")
    if event.sid != session.sid:
        raise LawError("G37", f"{event.type} names another session than the round's sum")
    return session


def named_round(state: State, event: Event) -> Round:
    """Return the round that a site's answer names, open or over (R1)."""
    found = state.rounds.get(event.round or 0)
    if found is None:
        raise LawError("R1", f"{event.type} names round {event.round}, which was never planned")
    return found


def named_session(state: State, event: Event) -> Session:
    """Return the session that a site's answer names, live or over (G36, R1)."""
    session = state.sids.get(event.sid or "")
    if session is None:
        raise LawError("G36", f"{event.type} names a session that was never opened")
    need(session.round == event.round, "R1", f"{event.type} names another round than its session's")
    return session


def at_step(step: str, late: str) -> Rule:
    """Make the rule that a coordinator event comes at one step: too early is R1, too late `late`."""

    def rule(state: State, event: Event, _data: Any) -> None:
        session = live_session(state, event)
        now, due = STEPS.index(session.step), STEPS.index(step)
        need(now >= due, "R1", f"{event.type} comes before its step: the session is at {session.step}")
        # R5.2.2: fixing a list moves the step on, so there is no second one.
        need(now <= due, late, f"{event.type} comes after its step: the session is at {session.step}")

    return rule


def not_before(step: str) -> Rule:
    """Make the rule that a site's answer does not come before its step (R1); a late one is without effect."""

    def rule(state: State, event: Event, _data: Any) -> None:
        session = named_session(state, event)
        early = STEPS.index(session.step) < STEPS.index(step)
        need(not early, "R1", f"{event.type} comes before its step: the session is at {session.step}")

    return rule


def is_late(state: State, event: Event) -> bool:
    """Say whether a site's answer came after its step: it is logged, and changes no list (ADR 0011).

    A site never signs a second version of a sequence number, so an answer that was right when it was signed
    must find its place in the log even when the coordinator went on meanwhile.
    """
    if event.type in ROUND_ANSWERS:
        current = state.rounds.get(event.round or 0)
        return current is not None and current.outcome is not None
    step, session = STEP_OF_ANSWER.get(event.type), state.sids.get(event.sid or "")
    if step is None or session is None:
        return False
    over = session is not state.session
    return over or STEPS.index(session.step) > STEPS.index(step)


def late_answers(state: State, event: Event) -> set[tuple[str, str]]:
    """Return the (type, id) of the answers that came late to what this site's answer names."""
    if event.type in ROUND_ANSWERS:
        return named_round(state, event).late
    return named_session(state, event).late
