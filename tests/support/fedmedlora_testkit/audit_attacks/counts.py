"""Attacks on summed validation counts, and on the round that they choose."""

from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_audit.validation_data import TypeCounts
from fedmedlora_audit.validation_terms import COUNT_MAX
from fedmedlora_testkit import audit_counts as counts
from fedmedlora_testkit import audit_votes as votes
from fedmedlora_testkit.audit_attacks.registry import ZERO, attack, by_coordinator, by_site
from fedmedlora_testkit.audit_log import StudyLog


def opening(log: StudyLog, **changes: Any) -> bytes:
    return by_coordinator(log, "session.opened", counts.opening_data(log, **changes))


def publishing(log: StudyLog, **changes: Any) -> bytes:
    return by_coordinator(log, "validation.counted", counts.counts_data(log, **changes))


def opened(log: StudyLog, number: int = 4) -> StudyLog:
    """Counts of which so many sites have opened their shares."""
    counts.to_counts(counts.begin_counting(log), "unmask")
    for name in log.sites[:number]:
        log.respond(name)
    return log


# -- opening the session


@attack("R1")
def counts_that_the_charter_does_not_ask_for(log: StudyLog) -> bytes:
    return opening(counts.accepted(log.set_up()))


@attack("R1")
def counts_in_another_round_than_the_charters(log: StudyLog) -> bytes:
    return opening(counts.accepted(counts.begin_counting(log, every_rounds=2)))


@attack("G49")
def counts_before_an_aggregate(log: StudyLog) -> bytes:
    counts.begin_counting(log).to_step("unmask")
    return by_coordinator(log, "session.opened", log.opening(purpose="statistics", base=log.state.base))


@attack("G49")
def counts_of_an_unchecked_aggregate(log: StudyLog) -> bytes:
    return opening(counts.accepted(counts.begin_counting(log), 2))


@attack("G49")
def counts_of_a_disputed_aggregate(log: StudyLog) -> bytes:
    counts.accepted(counts.begin_counting(log), 3)
    log.refuse("site-d", "aggregate", "bad_aggregate", round=1)
    return opening(log)


@attack("G49")
def counts_of_another_adapter(log: StudyLog) -> bytes:
    return opening(counts.accepted(counts.begin_counting(log)), base=ZERO)


@attack("G42")
def counts_before_the_vote(log: StudyLog) -> bytes:
    return opening(counts.accepted(counts.begin_counting(log, vote=True)))


@attack("G49")
def counts_of_an_adapter_that_was_voted_down(log: StudyLog) -> bytes:
    votes.counted(counts.begin_counting(log, vote=True), against=3)
    return opening(log)


@attack("R2")
def counts_of_a_site_that_has_not_checked(log: StudyLog) -> bytes:
    return opening(counts.accepted(counts.begin_counting(log), 3), ready=log.sites)


@attack("G49")
def counts_of_too_few(log: StudyLog) -> bytes:
    """No type is annotated by T of two sites."""
    return opening(counts.accepted(counts.begin_counting(log)), ready=log.sites[:2])


@attack("G13")
def second_counts_after_the_first_were_opened(log: StudyLog) -> bytes:
    return opening(opened(log, 1))


@attack("G49")
def counts_over_other_sites_in_a_later_round(log: StudyLog) -> bytes:
    """Without site-d, the difference of the two sums is what stands in its held-out notes."""
    counts.rounds_of(counts.begin_counting(log), 6)
    counts.accepted(log)
    return opening(log, ready=log.sites[:3])


@attack("G14")
def survivors_of_counts_without_one_of_the_earlier(log: StudyLog) -> bytes:
    counts.rounds_of(counts.begin_counting(log), 6)
    counts.accepted(log)
    counts.open_counts(log)
    while log.session.step != "upload":
        log.answer_all(set())
        log.coordinate()
    log.answer_all({"site-d"})
    return by_coordinator(log, "survivors.fixed", log.u3_data())


@attack("G49")
def survivors_too_few_of_whom_annotate_a_type(log: StudyLog) -> bytes:
    """Three of four annotate 'drug'; without one of them its row would be a sum over two."""
    counts.to_counts(counts.begin_counting(log), "upload")
    log.answer_all({"site-a"})
    return by_coordinator(log, "survivors.fixed", log.u3_data())


@attack("G37")
def second_set_of_counting_sites_while_the_first_could_be_opened(log: StudyLog) -> bytes:
    """Consents of the first round bind in the second, though the adapter is another one."""
    counts.to_counts(counts.begin_counting(log), "unmask")
    counts.close(log)
    for name in log.sites:
        log.state.unspent[name] = set()
    counts.to_counts(log, "upload")
    log.answer_all({"site-d"})
    log.coordinate()
    return by_site(log, "site-a", "survivors.agreed", log.consent_data())


# -- publishing


@attack("R1")
def counts_out_of_updates(log: StudyLog) -> bytes:
    counts.begin_counting(log).to_step("unmask")
    for name in log.sites:
        log.respond(name)
    return publishing(log)


@attack("R1")
def adapter_out_of_counts(log: StudyLog) -> bytes:
    opened(log)
    blob = log.blob("coordinator", "ring-sum")
    return log.draft("coordinator", "aggregate.published", log.published_data(), **blob)


@attack("U4")
def counts_without_enough_openings(log: StudyLog) -> bytes:
    return publishing(opened(log, 1))


@attack("G49")
def counts_of_other_sites(log: StudyLog) -> bytes:
    return publishing(opened(log), sites=3)


@attack("G49")
def counts_of_a_type_without_a_place(log: StudyLog) -> bytes:
    """Of three sites only two annotate 'drug'."""
    counts.begin_counting(log)
    counts.accepted(log)
    counts.open_counts(log, log.sites[1:])
    counts.go_on(log, "unmask")
    log.answer_all(set())
    return publishing(log)


@attack("G49")
def more_than_sites_can_count(log: StudyLog) -> bytes:
    opened(log)
    row = TypeCounts(tp=4 * COUNT_MAX + 1, fp=0, fn=0)
    return publishing(log, relations=(row,))


@attack("G49")
def second_counts_published(log: StudyLog) -> bytes:
    return publishing(counts.to_counts(counts.begin_counting(log), "tally"))


@attack("R1")
def counts_checked_before_they_are_published(log: StudyLog) -> bytes:
    counts.to_counts(counts.begin_counting(log), "unmask")
    return by_site(log, "site-a", "validation.checked", counts.counts_data(log))


@attack("G49")
def other_counts_checked(log: StudyLog) -> bytes:
    counts.to_counts(counts.begin_counting(log), "tally")
    return by_site(log, "site-a", "validation.checked", counts.counts_data(log, tp=7))


@attack("R3")
def counts_checked_twice(log: StudyLog) -> bytes:
    counts.to_counts(counts.begin_counting(log), "tally")
    counts.check(log, "site-a")
    return by_site(log, "site-a", "validation.checked", counts.counts_data(log))


@attack("R2")
def counts_checked_by_a_stranger(log: StudyLog) -> bytes:
    counts.accepted(counts.begin_counting(log))
    counts.open_counts(log, log.sites[:3])
    counts.go_on(log, "tally")
    return by_site(log, "site-d", "validation.checked", log.session.tallied or counts.counts_data(log))


# -- the end of the round, and the release


@attack("G49")
def close_without_trying_the_counts(log: StudyLog) -> bytes:
    counts.accepted(counts.begin_counting(log))
    return by_coordinator(log, "round.closed", votes.closed_data(log))


@attack("G49")
def close_on_disputed_counts(log: StudyLog) -> bytes:
    counts.counted(counts.begin_counting(log), 6, checkers=3)
    log.refuse("site-d", "tally", "wrong_count", round=1)
    return by_coordinator(log, "round.closed", votes.closed_data(log))


@attack("R4")
def close_without_naming_the_silent_counter(log: StudyLog) -> bytes:
    counts.counted(counts.begin_counting(log), 6, checkers=3)
    return by_coordinator(log, "round.closed", votes.closed_data(log))


@attack("G42")
def close_on_a_vote_disputed_during_the_counts(log: StudyLog) -> bytes:
    votes.counted(counts.begin_counting(log, vote=True), against=0, checkers=3)
    sid = log.session.sid
    data = of.DeliveryFailed(site="site-d", step="count")
    log.say("coordinator", "delivery.failed", data, round=1)
    counts.open_counts(log)
    log.refuse("site-d", "count", "wrong_count", sid=sid, round=1)
    counts.go_on(log, "tally")
    for name in log.sites:
        counts.check(log, name)
    return by_coordinator(log, "round.closed", votes.closed_data(log))


@attack("M1")
def release_of_the_last_round_against_the_counts(log: StudyLog) -> bytes:
    counts.rounds_of(counts.begin_counting(log), 8, 5)
    return log.draft("coordinator", "model.released", of.ModelReleased(adapter=log.state.base, rounds=2))


@attack("M1")
def release_of_a_worse_round_by_name(log: StudyLog) -> bytes:
    counts.rounds_of(counts.begin_counting(log), 5, 8, 6)
    first = log.state.closed_rounds[0]
    data = of.ModelReleased(adapter=first.next_base, round=1, rounds=3)
    return log.draft("coordinator", "model.released", data)


@attack("M1")
def release_of_another_adapter_in_the_chosen_rounds_name(log: StudyLog) -> bytes:
    counts.rounds_of(counts.begin_counting(log), 8, 5)
    data = of.ModelReleased(adapter=log.state.base, round=1, rounds=2)
    return log.draft("coordinator", "model.released", data)


@attack("M1")
def release_that_names_a_round_without_counts(log: StudyLog) -> bytes:
    log.set_up().play_round()
    return log.draft(
        "coordinator", "model.released", of.ModelReleased(adapter=log.state.base, round=1, rounds=1)
    )
