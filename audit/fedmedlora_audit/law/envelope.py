"""Rules that bind every event, whatever its type: log, author, chain, heads seen, references, receipts."""

from fedmedlora_audit.event_data import Data, Receipt
from fedmedlora_audit.events import COORDINATOR_ID, Event
from fedmedlora_audit.law.member_rules import has_not_left
from fedmedlora_audit.law.retention_rules import only_keeping_after_pruning
from fedmedlora_audit.law.rule import (
    ROUND_ANSWERS,
    STEP_OF_ANSWER,
    is_late,
    late_answers,
    named_round,
    named_session,
    need,
)
from fedmedlora_audit.law.state import State

AFTER_RUN = frozenset(
    {
        "receipt",
        "attempt.erased",
        "dp.spent",
        "step.refused",
        "evidence.kept",
        "evidence.shredded",
        "model.released",
        "audit.exported",
        "log.closed",
        "retention.hold",
        "retention.release",
        "retention.pruned",
        "key.rotated",
        "site.left",
    }
)
"""What may still be said once the run is closed."""


def of_this_log(state: State, event: Event, _data: Data) -> None:
    """E3: an event fits one log and one run; elsewhere it is a replay."""
    need(event.log == state.terms.origin, "E3", "the event was made for another log")
    need(state.run in (None, event.run), "E3", "the event was made for another run")


def of_a_party(state: State, event: Event, _data: Data) -> None:
    """E2, R2, K1: the author is the coordinator or an enrolled member, with its key at this entry."""
    key = state.key_of(event.actor)
    need(event.actor.key == key.key_id, "E2", f"{event.actor.id} signs with a key that is not its own here")
    known = event.actor.id == COORDINATOR_ID or event.actor.id in state.enrolled
    need(known, "K1", f"{event.actor.id} speaks before it is enrolled")


def next_in_sequence(state: State, event: Event, _data: Data) -> None:
    """E5: an author's events are numbered without a gap, so an omitted one shows."""
    expected = state.chain_of(event.actor.id).seq + 1
    need(event.seq == expected, "E5", f"{event.actor.id} is at {expected}, the event says {event.seq}")


def after_its_previous(state: State, event: Event, _data: Data) -> None:
    """E6: an author's events form one chain, so order and content of all earlier ones are fixed."""
    expected = state.chain_of(event.actor.id).prev
    need(event.prev == expected, "E6", f"{event.actor.id} names another previous event than its last one")


def saw_this_log(state: State, event: Event, _data: Data) -> None:
    """E7: the head an author saw is a head of this very log: nobody was shown another history."""
    need(event.saw.size <= state.size, "E7", f"{event.actor.id} saw more entries than there are")
    true_root = state.tree.root(event.saw.size).hex()
    need(event.saw.root == true_root, "E7", f"{event.actor.id} saw another history than this log")


def saw_no_less_than_before(state: State, event: Event, _data: Data) -> None:
    """E7: what an author has seen never shrinks."""
    before = state.seen.get(event.actor.id, 0)
    need(event.saw.size >= before, "E7", f"{event.actor.id} saw {before} entries before")


def refers_backward(state: State, event: Event, _data: Data) -> None:
    """E9: every cause named is an earlier entry; a site names only what it has seen."""
    limit = state.size if event.actor.id == COORDINATOR_ID else event.saw.size
    for leaf in event.refs:
        position = state.positions.get(leaf)
        need(position is not None, "E9", "a reference leads to no earlier entry")
        need(position is not None and position < limit, "E9", "a site refers to an entry it has not seen")


# R5.1.2
def receipt_comes_next(state: State, event: Event, data: Data) -> None:
    """R4: a site's event is followed by its receipt at once, and no receipt stands alone."""
    if state.pending is None:
        need(event.type != "receipt", "R4", "a receipt without an event that it acknowledges")
        return
    waiting = state.pending
    need(isinstance(data, Receipt), "R4", f"the {waiting.type} of {waiting.site} has no receipt")
    if isinstance(data, Receipt):
        right = (data.site, data.seq, data.type) == (waiting.site, waiting.seq, waiting.type)
        need(right and event.refs == (waiting.leaf,), "R4", "the receipt is for another event")


def in_time(state: State, event: Event, _data: Data) -> None:
    """K1, R1: nothing before the genesis, little after the run, nothing after the log's end."""
    need(not state.log_closed, "R1", "the log is closed")
    need(
        (state.size == 0) == (event.type == "log.genesis"),
        "K1",
        "the genesis is the first entry, and only it",
    )
    if state.run_closed:
        allowed = event.type in AFTER_RUN or is_late(state, event)
        need(allowed, "R1", f"{event.type} after the run was closed")


def has_seen_the_question(state: State, event: Event, _data: Data) -> None:
    """E7: a site's answer covers the entry it answers with the head it saw: no answer before the question."""
    asked = _question(state, event)
    need(asked < event.saw.size, "E7", f"{event.actor.id} answers entry {asked}, which it has not seen")


def late_but_once(state: State, event: Event, _data: Data) -> None:
    """R3: a late answer is taken once, too: two uploads under one mask would show their difference."""
    if event.actor.id != COORDINATOR_ID and is_late(state, event):
        again = (event.type, event.actor.id) in late_answers(state, event)
        need(not again, "R3", f"{event.actor.id} said {event.type} before, late as well")


def _question(state: State, event: Event) -> int:
    """Return the index of the coordinator's entry that a site's event answers, or -1."""
    if event.type == "charter.signed":
        return state.enrolled[event.actor.id]
    if event.type in ROUND_ANSWERS or event.type == "dp.spent":
        return named_round(state, event).plan.index
    if event.type not in STEP_OF_ANSWER:
        return -1
    session = named_session(state, event)
    return {
        "keys.advertised": session.opened_index,
        "shares.sent": session.u1_index,
        "update.submitted": session.u2_index,
        "survivors.agreed": session.u3_index,
        "unmask.response": session.request_index,
        "aggregate.accepted": session.published_index,
        "votes.checked": session.counted_index,
        "validation.checked": session.tallied_index,
    }[event.type]


BEFORE = (
    of_this_log,
    of_a_party,
    has_not_left,
    next_in_sequence,
    after_its_previous,
    saw_this_log,
    saw_no_less_than_before,
    refers_backward,
    in_time,
    receipt_comes_next,
    only_keeping_after_pruning,
)
"""Rules judged before those of the type, in this order."""

AFTER = (has_seen_the_question, late_but_once)
"""Rules judged after those of the type: they rely on the step being right."""
