"""The law: who may say what and when, as one pure fold over the events of a log (AUDIT "Law").

One law, three readers: the coordinator folds to know what to do next, each site folds its mirror to know what
to refuse, the auditor folds the bundle to find what was broken.

Rules:
    * `check` raises `LawError` with the id of the broken rule and changes nothing; `apply` checks and folds.
    * The law sees ids, digests and counts: no clock, no secret, no payload. Time-outs are events, too.
    * Signatures are checked before, by ``open_event(note, state.key_of(actor))``.

Example::

    state = State.begin(terms)
    for index, note in enumerate(notes):
        event = parse_event(note)
        event = event.verify(state.key_of(event.event.actor))
        apply(state, entry_of(index, note, event))
    print(waiting(state), duties(state, "site-a"))
"""

from collections.abc import Mapping
from typing import Final

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import Entry, Event
from fedmedlora_audit.law import (
    envelope,
    member_rules,
    privacy_rules,
    retention_rules,
    round_rules,
    session_rules,
    setup_rules,
)
from fedmedlora_audit.law.duties import WAITING_STEPS, Duty, Waiting, duties, waiting
from fedmedlora_audit.law.fold import fold
from fedmedlora_audit.law.rule import Rule, is_late
from fedmedlora_audit.law.state import ClosedRound, Round, Session, State

__all__ = [
    "RULES",
    "WAITING_STEPS",
    "ClosedRound",
    "Duty",
    "LawError",
    "Round",
    "Session",
    "State",
    "Waiting",
    "apply",
    "check",
    "duties",
    "findings",
    "fold",
    "is_late",
    "waiting",
]

RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    **setup_rules.RULES,
    **member_rules.RULES,
    **round_rules.RULES,
    **session_rules.RULES,
    **retention_rules.RULES,
    **privacy_rules.RULES,
}
"""The rules of each type of event, in the order of judgement."""


def check(state: State, event: Event, leaf: bytes) -> None:
    """Judge whether an event may come next; changes nothing.

    Args:
        state: The log so far.
        event: The event, its signature checked.
        leaf: Leaf hash of its note, 32 bytes.

    Raises:
        LawError: The event breaks a rule; ``check`` is the rule's id.
    """
    if leaf.hex() in state.positions:  # E4: the same note twice is a replay
        raise LawError("E4", "this very event is in the log already")
    # R5.2.1: the coordinator, every site and the reviewer come through here.
    for rule in (*envelope.BEFORE, *RULES[event.type], *envelope.AFTER):
        rule(state, event, event.data)


def findings(state: State, event: Event, leaf: bytes) -> list[LawError]:
    """Return every finding against an event, one per check: what an auditor wants to know; changes nothing.

    A rule that relies on an earlier one may not be able to judge once that one is broken; it is then left
    out.
    """
    found: dict[str, LawError] = {}
    if leaf.hex() in state.positions:
        found["E4"] = LawError("E4", "this very event is in the log already")
    for rule in (*envelope.BEFORE, *RULES[event.type], *envelope.AFTER):
        try:
            rule(state, event, event.data)
        except LawError as error:
            found.setdefault(error.check, error)
        except (KeyError, IndexError, AttributeError):
            if not found:
                raise
    return list(found.values())


def apply(state: State, entry: Entry) -> None:
    """Judge an entry and take it into the state.

    Raises:
        LawError: The entry breaks a rule; the state is as before.
    """
    if entry.index != state.size:
        raise LawError("C1", f"entry {entry.index} does not follow {state.size} entries")
    check(state, entry.event, entry.leaf)
    fold(state, entry)
