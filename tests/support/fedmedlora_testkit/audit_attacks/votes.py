"""Attacks on votes and on the end of a round that has one."""

from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_testkit import audit_votes as votes
from fedmedlora_testkit.audit_attacks.registry import ZERO, attack, by_coordinator, by_site
from fedmedlora_testkit.audit_log import StudyLog


def accepted(log: StudyLog, count: int = 4) -> StudyLog:
    """A voting round whose aggregate so many survivors have accepted."""
    votes.begin_voting(log).to_step("aggregate")
    for name in log.sites[:count]:
        log.accept(name)
    return log


def opening(log: StudyLog, **changes: Any) -> bytes:
    return by_coordinator(log, "session.opened", votes.opening_data(log, **changes))


def opened(log: StudyLog, count: int = 4) -> StudyLog:
    """A vote in which so many voters have opened their shares."""
    votes.to_vote(votes.begin_voting(log), "unmask")
    for name in log.sites[:count]:
        log.respond(name)
    return log


# -- opening a vote


@attack("R1")
def vote_that_the_charter_does_not_ask_for(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    for name in log.sites:
        log.accept(name)
    return opening(log)


@attack("R1")
def vote_in_another_round_than_the_charters(log: StudyLog) -> bytes:
    votes.begin_voting(log, every_rounds=2).to_step("aggregate")
    for name in log.sites:
        log.accept(name)
    return opening(log)


@attack("G42")
def vote_before_an_aggregate(log: StudyLog) -> bytes:
    votes.begin_voting(log).to_step("unmask")
    data = log.opening(purpose="score", base=log.state.base)
    return by_coordinator(log, "session.opened", data)


@attack("G42")
def vote_on_an_unchecked_aggregate(log: StudyLog) -> bytes:
    return opening(accepted(log, 2))


@attack("G42")
def vote_on_a_disputed_aggregate(log: StudyLog) -> bytes:
    accepted(log, 3)
    log.refuse("site-d", "aggregate", "bad_aggregate", round=1)
    return opening(log)


@attack("G42")
def vote_on_another_adapter(log: StudyLog) -> bytes:
    return opening(accepted(log), base=ZERO)


@attack("R2")
def voter_that_has_not_checked(log: StudyLog) -> bytes:
    return opening(accepted(log, 3), ready=log.sites)


@attack("G33")
def vote_of_too_few(log: StudyLog) -> bytes:
    return opening(accepted(log), ready=log.sites[:2])


@attack("G13")
def second_vote_after_the_first_was_opened(log: StudyLog) -> bytes:
    return opening(opened(log, 1))


@attack("G42")
def vote_on_an_adapter_of_an_earlier_round(log: StudyLog) -> bytes:
    """A coordinator that can bring about the same sum twice would see two counts over other voters."""
    votes.counted(votes.begin_voting(log), against=4)
    votes.end(log)
    before = votes.summed_of(log, 1).next_base
    log.to_step("unmask")
    for name in log.sites:
        log.respond(name)
    blob = log.blob("coordinator", "ring-sum")
    log.say("coordinator", "aggregate.published", log.published_data(next_base=before), **blob)
    for name in log.sites:
        log.accept(name)
    return opening(log)


@attack("G37")
def second_voter_set_for_one_adapter(log: StudyLog) -> bytes:
    """The first vote could still be opened: without site-d, the difference of the counts is its vote."""
    votes.to_vote(votes.begin_voting(log), "unmask")
    for name in log.sites[:3]:
        log.state.unspent[name] = set()
    votes.open_vote(log)
    while log.session.step != "survivors":
        log.answer_all({"site-d"})
        log.coordinate()
    return by_site(log, "site-a", "survivors.agreed", log.consent_data())


# -- counting


@attack("R1")
def votes_counted_of_updates(log: StudyLog) -> bytes:
    votes.begin_voting(log).to_step("unmask")
    for name in log.sites:
        log.respond(name)
    return by_coordinator(log, "votes.counted", votes.count_data(log))


@attack("R1")
def adapter_out_of_a_vote(log: StudyLog) -> bytes:
    opened(log)
    blob = log.blob("coordinator", "ring-sum")
    return log.draft("coordinator", "aggregate.published", log.published_data(), **blob)


@attack("U4")
def count_without_enough_openings(log: StudyLog) -> bytes:
    return by_coordinator(opened(log, 1), "votes.counted", votes.count_data(log))


@attack("G42")
def count_of_other_voters(log: StudyLog) -> bytes:
    return by_coordinator(opened(log), "votes.counted", votes.count_data(log, voters=3))


@attack("G42")
def more_votes_than_voters(log: StudyLog) -> bytes:
    return by_coordinator(opened(log), "votes.counted", votes.count_data(log, against=5))


@attack("G42")
def second_count(log: StudyLog) -> bytes:
    votes.to_vote(votes.begin_voting(log), "count")
    return by_coordinator(log, "votes.counted", votes.count_data(log, against=1))


@attack("R1")
def count_checked_before_it_is_published(log: StudyLog) -> bytes:
    votes.to_vote(votes.begin_voting(log), "unmask")
    return by_site(log, "site-a", "votes.checked", votes.count_data(log))


@attack("G42")
def another_count_checked(log: StudyLog) -> bytes:
    votes.to_vote(votes.begin_voting(log), "count")
    return by_site(log, "site-a", "votes.checked", votes.count_data(log, against=1))


@attack("R3")
def count_checked_twice(log: StudyLog) -> bytes:
    votes.to_vote(votes.begin_voting(log), "count")
    votes.check(log, "site-a")
    return by_site(log, "site-a", "votes.checked", votes.count_data(log))


@attack("R2")
def count_checked_by_a_stranger(log: StudyLog) -> bytes:
    votes.to_vote(votes.begin_voting(log), "count", gone=["site-d"])
    return by_site(log, "site-d", "votes.checked", votes.count_data(log))


# -- the end of the round


@attack("G42")
def close_without_the_vote(log: StudyLog) -> bytes:
    return by_coordinator(accepted(log), "round.closed", votes.closed_data(log))


@attack("G42")
def close_on_an_adapter_that_was_voted_down(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=3)
    return by_coordinator(log, "round.closed", votes.closed_data(log))


@attack("G42")
def close_on_an_unchecked_count(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=0, checkers=2)
    return by_coordinator(log, "round.closed", votes.closed_data(log))


@attack("G42")
def close_on_a_disputed_count(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=0, checkers=3)
    log.refuse("site-d", "count", "wrong_count", round=1)
    return by_coordinator(log, "round.closed", votes.closed_data(log))


@attack("A2")
def close_on_an_aggregate_disputed_during_the_vote(log: StudyLog) -> bytes:
    accepted(log, 3)
    sid = votes.summed(log).sid
    votes.open_vote(log)
    log.refuse("site-d", "aggregate", "bad_aggregate", sid=sid, round=1)
    while log.session.step != "unmask":
        log.answer_all(set())
        log.coordinate()
    log.answer_all(set())
    votes.count(log)
    for name in log.session.u3:
        votes.check(log, name)
    return by_coordinator(log, "round.closed", votes.closed_data(log))


@attack("R4")
def end_without_naming_the_silent_voter(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=4, checkers=3)
    return by_coordinator(log, "round.rolled_back", votes.rolled_back_data(log))


@attack("G37")
def close_on_the_session_of_the_vote(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=0)
    return by_coordinator(log, "round.closed", votes.closed_data(log, sid=log.session.sid))


@attack("G42")
def roll_back_without_a_majority(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=2)
    return by_coordinator(log, "round.rolled_back", votes.rolled_back_data(log))


@attack("G42")
def roll_back_without_a_vote(log: StudyLog) -> bytes:
    return by_coordinator(accepted(log), "round.rolled_back", votes.rolled_back_data(log))


@attack("G42")
def roll_back_in_the_name_of_another_session(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=4)
    data = votes.rolled_back_data(log, sid=votes.summed(log).sid)
    return by_coordinator(log, "round.rolled_back", data)


@attack("A2")
def roll_back_to_another_base(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=4)
    return by_coordinator(log, "round.rolled_back", votes.rolled_back_data(log, base=ZERO))


@attack("A2")
def plan_from_the_adapter_that_was_rolled_back(log: StudyLog) -> bytes:
    votes.counted(votes.begin_voting(log), against=4)
    votes.end(log)
    data = of.Base(base=votes.summed_of(log, 1).next_base)
    return log.draft("coordinator", "round.plan", data, round=2)


@attack("G14")
def other_survivors_after_a_roll_back(log: StudyLog) -> bytes:
    """From one base, with one site fewer: the difference of the two sums would be that site's update."""
    votes.counted(votes.begin_voting(log), against=4)
    votes.end(log)
    log.to_step("upload")
    log.answer_all({"site-d"})
    return by_coordinator(log, "survivors.fixed", log.u3_data())
