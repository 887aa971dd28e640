"""Validation counts in a played log: the session that sums them, what it publishes, and the choice."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_audit.events import Entry
from fedmedlora_audit.law.validation_rules import chosen_round
from fedmedlora_audit.validation_data import TypeCounts, ValidationCounted
from fedmedlora_testkit.audit_log import StudyLog, charter_table
from fedmedlora_testkit.audit_votes import closed_data, summed, summed_of

LABELS = {"entities": ["problem", "drug"], "modifiers": ["strength"], "tasks": ["ner", "re"]}
PLACED = (("problem", "drug"), ("strength",))
"""Types with a place while all four sites are there: three of them annotate 'drug'."""
NOT_D = ("problem", "strength")


def begin_counting(
    log: StudyLog, *, every_rounds: int = 1, choose: str = "best", vote: bool = False
) -> StudyLog:
    """Begin the log anew under a charter that asks for counts, and set the study up.

    Three of the four sites annotate 'drug', all of them the other types.
    """
    table = charter_table()
    terms = {
        **table["secure_aggregation"],
        "validation": {"every_rounds": every_rounds, "choose": choose},
        **({"vote": {"every_rounds": 1, "margin_milli": 20}} if vote else {}),
    }
    members = [
        {**row, "annotated": list(NOT_D if row["id"] == "site-d" else (*PLACED[0], *PLACED[1]))}
        for row in table["members"]
    ]
    StudyLog.__init__(log, secure_aggregation=terms, labels=LABELS, members=members)
    return log.set_up()


def accepted(log: StudyLog, count: int = 4) -> StudyLog:
    """Play a round up to an aggregate that so many survivors have accepted."""
    log.to_step("aggregate")
    for site in log.sites[:count]:
        log.accept(site)
    return log


def opening_data(log: StudyLog, ready: Iterable[str] | None = None, **changes: Any) -> of.SessionOpened:
    """What opens the counts of the published adapter, over those that accepted it."""
    fields = {"purpose": "statistics", "base": summed_of(log, log.number).next_base, **changes}
    return log.opening(summed(log).accepted if ready is None else ready, **fields)


def open_counts(log: StudyLog, ready: Iterable[str] | None = None) -> Entry:
    """Open the counts."""
    return log.say("coordinator", "session.opened", opening_data(log, ready), round=log.number)


def go_on(log: StudyLog, step: str, gone: Collection[str] = ()) -> StudyLog:
    """Play the live session of counts up to a step; `gone` are silent."""
    while log.session.step != step:
        log.answer_all(set(gone))
        if log.session.step == "unmask":
            tally(log)
        else:
            log.coordinate()
    return log


def to_counts(log: StudyLog, step: str = "advertise", gone: Collection[str] = ()) -> StudyLog:
    """Play a round up to a step of its session of counts."""
    accepted(log)
    open_counts(log)
    return go_on(log, step, gone)


def counts_data(log: StudyLog, tp: int = 6, **changes: Any) -> ValidationCounted:
    """The counts of the live session: so many found rightly of each type."""
    row = TypeCounts(tp=tp, fp=2, fn=10 - tp)
    fields = {
        "sid": log.session.sid,
        "sites": len(log.session.u3),
        "entities": (row, row),
        "relations": (row,),
        **changes,
    }
    return ValidationCounted(**fields)


def tally(log: StudyLog, tp: int = 6) -> Entry:
    """Publish the counts."""
    return log.say("coordinator", "validation.counted", counts_data(log, tp), round=log.number)


def check(log: StudyLog, site: str) -> Entry:
    """A site finds the same counts."""
    counted = log.session.tallied
    assert counted is not None
    return log.say(site, "validation.checked", counted, round=log.number)


def counted(log: StudyLog, tp: int, *, checkers: int = 4) -> StudyLog:
    """Play a round up to counts that so many sites have checked."""
    to_counts(log, "unmask")
    log.answer_all(set())
    tally(log, tp)
    for site in log.sites[:checkers]:
        check(log, site)
    return log


def close(log: StudyLog) -> Entry:
    """Close the round on its sum."""
    return log.say("coordinator", "round.closed", closed_data(log), round=log.number)


def rounds_of(log: StudyLog, *found: int) -> StudyLog:
    """Play closed rounds with these counts of what was found rightly."""
    for tp in found:
        close(counted(log, tp))
    return log


def released_data(log: StudyLog) -> of.ModelReleased:
    """What the law lets the coordinator release."""
    chosen, rounds = chosen_round(log.state), len(log.state.closed_rounds)
    if chosen is None:
        return of.ModelReleased(adapter=log.state.base, rounds=rounds)
    return of.ModelReleased(adapter=chosen.next_base, round=chosen.round, rounds=rounds)
