"""Votes in a played log: the session of a vote, its count, and the two ends of a round after it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_audit.events import Entry
from fedmedlora_audit.law import Session
from fedmedlora_testkit.audit_log import StudyLog, charter_table


def begin_voting(log: StudyLog, *, every_rounds: int = 1) -> StudyLog:
    """Begin the log anew under a charter that asks for votes, and set the study up."""
    vote = {"every_rounds": every_rounds, "margin_milli": 20}
    terms = {**charter_table()["secure_aggregation"], "vote": vote}
    StudyLog.__init__(log, secure_aggregation=terms)
    return log.set_up()


def summed(log: StudyLog) -> Session:
    """The round's session of updates."""
    session = log.state.rounds[log.number].summed
    assert session is not None
    return session


def summed_of(log: StudyLog, number: int) -> of.AggregatePublished:
    """What was published in a round."""
    session = log.state.rounds[number].summed
    assert session is not None and session.published is not None
    return session.published


def opening_data(log: StudyLog, ready: Iterable[str] | None = None, **changes: Any) -> of.SessionOpened:
    """What opens a vote on the published adapter, over those that accepted it."""
    base = summed_of(log, log.number).next_base
    fields = {"purpose": "score", "base": base, **changes}
    return log.opening(summed(log).accepted if ready is None else ready, **fields)


def open_vote(log: StudyLog, ready: Iterable[str] | None = None) -> Entry:
    """Name the silent survivors and open the vote."""
    update = summed(log)
    failed = log.state.rounds[log.number].failed
    for site in update.u3:
        if site not in update.accepted and (site, "aggregate") not in failed:
            data = of.DeliveryFailed(site=site, step="aggregate")
            log.say("coordinator", "delivery.failed", data, round=log.number)
    return log.say("coordinator", "session.opened", opening_data(log, ready), round=log.number)


def to_vote(log: StudyLog, step: str = "advertise", gone: Iterable[str] = ()) -> StudyLog:
    """Play a round up to a step of its vote's session; `gone` are silent in the vote."""
    log.to_step("aggregate")
    for site in log.session.u3:
        log.accept(site)
    open_vote(log)
    out = set(gone)
    while log.session.step != step:
        log.answer_all(out)
        if log.session.step == "unmask":
            count(log)
        else:
            log.coordinate()
    return log


def count_data(log: StudyLog, **changes: Any) -> of.VotesCounted:
    """The count of the live vote: nobody against, unless told otherwise."""
    fields = {"sid": log.session.sid, "voters": len(log.session.u3), "against": 0, **changes}
    return of.VotesCounted(**fields)


def count(log: StudyLog, against: int = 0) -> Entry:
    """Publish the count."""
    return log.say("coordinator", "votes.counted", count_data(log, against=against), round=log.number)


def check(log: StudyLog, site: str) -> Entry:
    """A voter finds the same count."""
    counted = log.session.counted
    assert counted is not None
    return log.say(site, "votes.checked", counted, round=log.number)


def closed_data(log: StudyLog, **changes: Any) -> of.RoundClosed:
    """What closes the round on its sum."""
    fields = {
        "sid": summed(log).sid,
        "next_base": summed_of(log, log.number).next_base,
        "accepted": tuple(sorted(summed(log).accepted)),
    }
    return of.RoundClosed(**{**fields, **changes})


def rolled_back_data(log: StudyLog, **changes: Any) -> of.RolledBack:
    """What rolls the round back."""
    sid = log.session.sid
    return of.RolledBack(**{"sid": sid, "base": log.state.base, **changes})


def counted(log: StudyLog, against: int, *, checkers: int = 4, gone: Iterable[str] = ()) -> StudyLog:
    """Play a round up to a count that so many voters have checked."""
    to_vote(log, "unmask", gone)
    log.answer_all(set(gone))
    count(log, against)
    for site in sorted(log.session.u3)[:checkers]:
        check(log, site)
    return log


def end(log: StudyLog) -> Entry:
    """End the round as its vote says."""
    found = log.session.counted
    assert found is not None
    if found.rejected:
        return log.say("coordinator", "round.rolled_back", rolled_back_data(log), round=log.number)
    return log.say("coordinator", "round.closed", closed_data(log), round=log.number)
