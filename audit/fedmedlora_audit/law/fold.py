"""How an event that the rules allow changes the state. Nothing is judged here."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from fedmedlora_audit.chain import Chain
from fedmedlora_audit.event_data import (
    AggregatePublished,
    DeliveryFailed,
    DpSpent,
    Enrolled,
    InSession,
    KeyRotated,
    KeysBroadcast,
    ModelReleased,
    RoundClosed,
    SessionOpened,
    SharesFixed,
    StepRefused,
    SurvivorsAgreed,
    SurvivorsFixed,
    UnmaskRequest,
    UpdateReady,
    VotesCounted,
)
from fedmedlora_audit.events import COORDINATOR_ID, Entry
from fedmedlora_audit.law.duties import ASKED
from fedmedlora_audit.law.privacy_rules import mechanism_of
from fedmedlora_audit.law.rule import is_late, late_answers
from fedmedlora_audit.law.state import ClosedRound, PendingReceipt, Round, Session, State
from fedmedlora_audit.privacy_plan import Spending
from fedmedlora_audit.retention import RetentionHold, RetentionPruned, RetentionRelease
from fedmedlora_audit.session import list_hash
from fedmedlora_audit.validation_data import ValidationCounted

Fold = Callable[[State, Entry, Any], None]
DISPUTES: Final = frozenset({"wrong_digest", "bad_aggregate", "wrong_sum", "wrong_count"})
"""Reasons of a refusal at the aggregate, or at the count, that say: I found another one (R4.6.6)."""


def fold(state: State, entry: Entry) -> None:
    """Take an allowed entry into the state."""
    event, leaf = entry.event, entry.leaf.hex()
    late = is_late(state, event)
    if late:
        late_answers(state, event).add((event.type, event.actor.id))
    change = (LATE_FOLDS if late else FOLDS).get(event.type)
    if change is not None:
        change(state, entry, event.data)
    state.run = event.run
    state.chains[event.actor.id] = Chain(event.seq, leaf)
    state.seen[event.actor.id] = event.saw.size
    state.positions[leaf] = state.tree.append(entry.leaf)
    if event.actor.id == COORDINATOR_ID:
        state.pending = None
    else:
        state.pending = PendingReceipt(leaf, event.actor.id, event.seq, event.type)


def _round(state: State) -> Round:
    return state.rounds[len(state.rounds)]


def _session(state: State) -> Session:
    return _round(state).sessions[-1]


def _enrolled(state: State, entry: Entry, data: Enrolled) -> None:
    state.enrolled[data.site] = entry.index


def _signed(state: State, entry: Entry, _data: object) -> None:
    state.signed[entry.event.actor.id] = entry.index


def _run_opened(state: State, _entry: Entry, _data: object) -> None:
    state.run_opened = True


def _plan(state: State, entry: Entry, _data: object) -> None:
    number = len(state.rounds) + 1
    state.rounds[number] = Round(number, state.base, entry, refused=dict.fromkeys(state.book.left, "plan"))


def _plan_accepted(state: State, entry: Entry, _data: object) -> None:
    _round(state).accepted[entry.event.actor.id] = entry.index


def _ready(state: State, entry: Entry, data: UpdateReady) -> None:
    current, site = _round(state), entry.event.actor.id
    current.ready[site] = entry.index
    if data.graph is not None:
        current.commitments[site] = data.graph


def _spent(state: State, entry: Entry, data: DpSpent) -> None:
    site = entry.event.actor.id
    spending = state.spent.setdefault(site, Spending())
    spending.charges = spending.with_one(mechanism_of(data))
    spending.milli = data.epsilon_milli
    current = state.rounds.get(entry.event.round or 0)
    if current is not None:
        current.charged.add(site)


def _opened(state: State, entry: Entry, data: SessionOpened) -> None:
    session = Session(
        data.sid,
        len(state.rounds),
        data.attempt,
        data.purpose,
        data.suite,
        data.base,
        data.ready,
        entry.index,
    )
    session.refused |= {site: "advertise" for site in data.ready if site in state.book.left}
    _round(state).sessions.append(session)
    state.sids[data.sid] = session


def _advertised(state: State, entry: Entry, data: InSession) -> None:
    site = entry.event.actor.id
    _session(state).advertised[site] = entry.event.object_digest
    state.unspent.setdefault(site, set()).add(data.sid)


def _broadcast(state: State, entry: Entry, data: KeysBroadcast) -> None:
    session = _session(state)
    session.u1 = {row.id: row.digest for row in data.u1}
    session.left_out, session.view, session.u1_index = data.left_out, data.view, entry.index


def _shares(state: State, entry: Entry, _data: object) -> None:
    _session(state).shares[entry.event.actor.id] = entry.event.object_digest


def _shares_fixed(state: State, entry: Entry, data: SharesFixed) -> None:
    session = _session(state)
    session.u2 = {row.id: row.digest for row in data.u2}
    session.h_u2, session.u2_index = list_hash(data.u2), entry.index


def _submitted(state: State, entry: Entry, _data: object) -> None:
    _session(state).updates[entry.event.actor.id] = entry.event.object_digest


def _survivors(state: State, entry: Entry, data: SurvivorsFixed) -> None:
    session = _session(state)
    session.u3 = {row.id: row.digest for row in data.u3}
    session.h_u3, session.u3_index = list_hash(data.u3), entry.index


def _agreed(state: State, entry: Entry, data: SurvivorsAgreed) -> None:
    session = state.sids[data.sid]
    if not session.agreed:
        state.consented.setdefault(session.family, []).append(session)
    session.agreed[entry.event.actor.id] = entry.leaf.hex()


def _request(state: State, entry: Entry, data: UnmaskRequest) -> None:
    session = _session(state)
    session.request, session.request_index = data, entry.index


def _response(state: State, entry: Entry, data: InSession) -> None:
    site = entry.event.actor.id
    state.sids[data.sid].responses[site] = entry.event.object_digest
    state.unspent.get(site, set()).discard(data.sid)


def _advertised_late(state: State, entry: Entry, data: InSession) -> None:
    state.unspent.setdefault(entry.event.actor.id, set()).add(data.sid)


def _published(state: State, entry: Entry, data: AggregatePublished) -> None:
    session = _session(state)
    session.published, session.published_index = data, entry.index
    session.ring = entry.event.object_digest


def _accepted(state: State, entry: Entry, _data: object) -> None:
    _session(state).accepted[entry.event.actor.id] = entry.index


def _counted(state: State, entry: Entry, data: VotesCounted) -> None:
    session = _session(state)
    session.counted, session.counted_index = data, entry.index


def _tallied(state: State, entry: Entry, data: ValidationCounted) -> None:
    session = _session(state)
    session.tallied, session.tallied_index = data, entry.index


def _closed(state: State, _entry: Entry, data: RoundClosed) -> None:
    current = _round(state)
    session = current.summed or _session(state)
    published = session.published
    weight_sum = published.weight_sum if published else 0
    current.outcome, state.base = "closed", data.next_base
    state.optimiser = published.state if published else None  # R4.9.4: an aborted round leaves it
    closed = ClosedRound(
        current.number, session.sid, session.ring, weight_sum, data.next_base, state.optimiser
    )
    state.closed_rounds.append(closed)


def _aborted(state: State, _entry: Entry, _data: object) -> None:
    _round(state).outcome = "aborted"


def _rolled_back(state: State, _entry: Entry, _data: object) -> None:
    _round(state).outcome = "rolled_back"


def _refused(state: State, entry: Entry, data: StepRefused) -> None:
    site, current, session = entry.event.actor.id, state.round, state.session
    state.refusals.add((site, data.step, entry.event.round, data.sid))
    if current is None or entry.event.round not in (None, current.number):
        return
    if data.step in ("plan", "train"):
        current.refused[site] = data.step
    elif data.step in ASKED and session is not None and data.sid in (None, session.sid):
        session.refused[site] = data.step
        told = data.step in ("aggregate", "count", "tally")
        session.disputed |= told and data.reason in DISPUTES and site in session.u3
    else:
        for earlier in current.sessions:
            # R4.7.6: who finds another sum or count while a later session is on still stops the round
            if earlier.is_told and (data.step, data.sid) == (earlier.step, earlier.sid):
                earlier.refused[site] = data.step
                earlier.disputed |= data.reason in DISPUTES and site in earlier.u3


def _erased(state: State, entry: Entry, data: InSession) -> None:
    site = entry.event.actor.id
    state.sids[data.sid].erased[site] = entry.index
    state.unspent.get(site, set()).discard(data.sid)


def _kept(state: State, _entry: Entry, data: InSession) -> None:
    state.sids[data.sid].evidence = "kept"


def _shredded(state: State, _entry: Entry, data: InSession) -> None:
    state.sids[data.sid].evidence = "shredded"


def _failed(state: State, _entry: Entry, data: DeliveryFailed) -> None:
    _round(state).failed.add((data.site, data.step))


def _released(state: State, _entry: Entry, data: ModelReleased) -> None:
    state.released = data.adapter


def _run_closed(state: State, entry: Entry, _data: object) -> None:
    state.run_closed = True
    state.retention.closed_at, state.retention.closed_on = entry.index, entry.event.time


def _rotated(state: State, entry: Entry, data: KeyRotated) -> None:
    site = entry.event.actor.id
    state.book.take(entry.index, entry.event)
    state.rotated[site, data.key] = len(state.rounds)
    state.retention.events.append(entry.index)


def _left(state: State, entry: Entry, _data: object) -> None:
    """R2.5.6: who leaves has refused what is still open, and has erased every secret that it did not open."""
    site, current = entry.event.actor.id, state.round
    state.book.take(entry.index, entry.event)
    state.retention.events.append(entry.index)
    for sid in state.unspent.pop(site, set()):
        state.sids[sid].erased.setdefault(site, entry.index)
    if current is None:
        return
    current.refused.setdefault(site, "train" if site in current.accepted else "plan")
    for session in current.sessions:
        if site in session.ready and (session.is_told or session is state.session):
            session.refused.setdefault(site, session.step)


def _hold(state: State, entry: Entry, data: RetentionHold) -> None:
    state.retention.holds[data.hold] = entry.leaf.hex()
    state.retention.placed = data.hold
    state.retention.events.append(entry.index)


def _hold_released(state: State, entry: Entry, data: RetentionRelease) -> None:
    state.retention.holds.pop(data.hold, None)
    state.retention.events.append(entry.index)


def _pruned(state: State, entry: Entry, data: RetentionPruned) -> None:
    state.retention.pruned.append((data.start, data.end))
    state.retention.events.append(entry.index)


def _log_closed(state: State, _entry: Entry, _data: object) -> None:
    state.log_closed = True


FOLDS: Final[Mapping[str, Fold]] = {
    "site.enrolled": _enrolled,
    "charter.signed": _signed,
    "run.opened": _run_opened,
    "round.plan": _plan,
    "plan.accepted": _plan_accepted,
    "dp.spent": _spent,
    "update.ready": _ready,
    "session.opened": _opened,
    "keys.advertised": _advertised,
    "keys.broadcast": _broadcast,
    "shares.sent": _shares,
    "shares.fixed": _shares_fixed,
    "update.submitted": _submitted,
    "survivors.fixed": _survivors,
    "survivors.agreed": _agreed,
    "unmask.request": _request,
    "unmask.response": _response,
    "aggregate.published": _published,
    "aggregate.accepted": _accepted,
    "votes.counted": _counted,
    "votes.checked": _accepted,
    "validation.counted": _tallied,
    "validation.checked": _accepted,
    "round.closed": _closed,
    "round.aborted": _aborted,
    "round.rolled_back": _rolled_back,
    "step.refused": _refused,
    "attempt.erased": _erased,
    "delivery.failed": _failed,
    "evidence.kept": _kept,
    "evidence.shredded": _shredded,
    "model.released": _released,
    "run.closed": _run_closed,
    "log.closed": _log_closed,
    "key.rotated": _rotated,
    "site.left": _left,
    "retention.hold": _hold,
    "retention.release": _hold_released,
    "retention.pruned": _pruned,
}
"""Types that are not listed change nothing but the chain of their author."""

KEPT_FOLDS: Final[Mapping[str, Fold]] = {
    name: FOLDS[name]
    for name in (
        "model.released",
        "run.closed",
        "log.closed",
        "key.rotated",
        "site.left",
        "retention.hold",
        "retention.release",
        "retention.pruned",
    )
}
"""What still counts of a log whose entries were partly deleted."""

LATE_FOLDS: Final[Mapping[str, Fold]] = {
    "keys.advertised": _advertised_late,
    "survivors.agreed": _agreed,
    "unmask.response": _response,
}
"""What a late answer still says of its site: secrets it holds, a consent it gave, shares it opened.

Nothing else: no list of a session grows once it is fixed.
"""
