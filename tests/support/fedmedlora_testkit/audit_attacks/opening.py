"""Attacks on consent, unmasking and the aggregate."""

from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_testkit.audit_attacks.registry import ZERO, attack, by_coordinator, by_site
from fedmedlora_testkit.audit_log import StudyLog, digest_of

# -- consent and opening


@attack("G34")
def consent_of_a_dropped_site(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors", {"upload": ["site-d"]})
    return by_site(log, "site-d", "survivors.agreed", log.consent_data())


@attack("R3")
def consent_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    log.agree("site-a")
    return by_site(log, "site-a", "survivors.agreed", log.consent_data())


@attack("U1")
def consent_to_other_survivors_than_logged(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    return by_site(log, "site-a", "survivors.agreed", log.consent_data(h_u3=ZERO))


@attack("U1")
def consent_to_other_inboxes_than_logged(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    return by_site(log, "site-a", "survivors.agreed", log.consent_data(h_u2=ZERO))


@attack("G36")
def consent_under_another_view(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    return by_site(log, "site-a", "survivors.agreed", log.consent_data(view=ZERO))


@attack("G38")
def consent_after_erasing(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    log.erase("site-a", log.session.sid)
    return by_site(log, "site-a", "survivors.agreed", log.consent_data())


def second_sum_from_the_same_base(log: StudyLog, erasing: int) -> bytes:
    """Abort after consents to all four, then drop site-d; `erasing` sites erased in time."""
    log.set_up().to_step("unmask")
    first = log.session.sid
    log.abort("operator")
    for name in log.sites[4 - erasing :]:
        log.erase(name, first)
    for name in log.sites:
        log.state.unspent[name] = set()  # as if the rule that erasing comes first did not exist
    log.to_step("survivors", {"upload": ["site-d"]})
    return by_site(log, "site-a", "survivors.agreed", log.consent_data())


@attack("G37")
def second_consent_from_one_base(log: StudyLog) -> bytes:
    return second_sum_from_the_same_base(log, erasing=2)


@attack("R1")
def request_before_the_survivors(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    data = of.UnmaskRequest(sid=log.session.sid, signers=(), self_of=(), pair_of=())
    return by_coordinator(log, "unmask.request", data)


def consented(log: StudyLog, drop: dict[str, list[str]] | None = None, count: int = 4) -> StudyLog:
    log.set_up().to_step("survivors", drop)
    for name in list(log.session.u3)[:count]:
        log.agree(name)
    return log


def request(log: StudyLog, **changes: Any) -> bytes:
    fields = log.request_fields(**changes)
    return by_coordinator(log, "unmask.request", fields.pop("data"), **fields)


@attack("U1")
def request_with_too_few_consents(log: StudyLog) -> bytes:
    return request(consented(log, count=2))


@attack("U1")
def request_with_an_invented_consent(log: StudyLog) -> bytes:
    return request(consented(log, count=2), signers=["site-a", "site-b", "site-c"], refs=[])


@attack("U1")
def request_without_the_consents_as_references(log: StudyLog) -> bytes:
    return request(consented(log), refs=[])


@attack("U2")
def request_for_both_seeds_of_one_site(log: StudyLog) -> bytes:
    return request(consented(log), pair_of=("site-a",))


@attack("U3")
def request_for_the_pair_key_of_a_survivor(log: StudyLog) -> bytes:
    return request(consented(log), self_of=("site-b", "site-c", "site-d"), pair_of=("site-a",))


@attack("U3")
def request_for_the_self_seed_of_a_dropped_site(log: StudyLog) -> bytes:
    return request(consented(log, {"upload": ["site-d"]}), self_of=log.sites, pair_of=())


@attack("U3")
def request_that_forgets_a_dropped_site(log: StudyLog) -> bytes:
    return request(consented(log, {"upload": ["site-d"]}), pair_of=())


@attack("U4")
def second_request(log: StudyLog) -> bytes:
    return request(StudyLog.to_step(log.set_up(), "unmask"))


@attack("U2")
def response_with_both_seeds_of_one_site(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    return by_site(log, "site-a", "unmask.response", log.response_data(pair_of=("site-b",)), "opened-shares")


@attack("U3")
def response_to_another_request(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    data = log.response_data(self_of=("site-a", "site-b", "site-c"), pair_of=("site-d",))
    return by_site(log, "site-a", "unmask.response", data, "opened-shares")


@attack("U1")
def response_without_consent(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask", {"survivors": ["site-d"]})
    return by_site(log, "site-d", "unmask.response", log.response_data(), "opened-shares")


@attack("R3")
def response_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    log.respond("site-a")
    return by_site(log, "site-a", "unmask.response", log.response_data(), "opened-shares")


@attack("G38")
def response_after_erasing(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    log.erase("site-a", log.session.sid)
    return by_site(log, "site-a", "unmask.response", log.response_data(), "opened-shares")


@attack("U6")
def decrypted_sum_where_nobody_holds_a_key(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    return by_site(log, "site-a", "unmask.response", log.response_data(), "decrypted-sum")


# -- the aggregate


def opened(log: StudyLog, count: int = 4) -> StudyLog:
    log.set_up().to_step("unmask")
    for name in log.sites[:count]:
        log.respond(name)
    return log


def publish(log: StudyLog, **changes: Any) -> bytes:
    blob = log.blob("coordinator", "ring-sum")
    return log.draft("coordinator", "aggregate.published", log.published_data(**changes), **blob)


@attack("U4")
def aggregate_without_enough_openings(log: StudyLog) -> bytes:
    return publish(opened(log, 2))


@attack("A1")
def aggregate_leaves_one_out(log: StudyLog) -> bytes:
    opened(log)
    return publish(log, inputs=log.rows(log.session.u3, ["site-d"]))


@attack("A1")
def aggregate_swaps_an_upload(log: StudyLog) -> bytes:
    opened(log)
    rows = log.rows(log.session.u3)
    return publish(log, inputs=(rows[0].model_copy(update={"digest": ZERO}), *rows[1:]))


@attack("A1")
def aggregate_with_an_impossible_weight(log: StudyLog) -> bytes:
    return publish(opened(log), weight_sum=401)


@attack("A1")
def aggregate_with_no_weight(log: StudyLog) -> bytes:
    return publish(opened(log), weight_sum=0)


@attack("A1")
def second_aggregate(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    return publish(log)


@attack("R2")
def acceptance_by_a_dropped_site(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate", {"upload": ["site-d"]})
    return by_site(log, "site-d", "aggregate.accepted", log.accepted_data())


@attack("R3")
def aggregate_accepted_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    log.accept("site-a")
    return by_site(log, "site-a", "aggregate.accepted", log.accepted_data())


@attack("A2")
def acceptance_of_another_aggregate(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    return by_site(log, "site-a", "aggregate.accepted", log.accepted_data(next_base=ZERO))


@attack("A2")
def acceptance_of_another_ring_sum(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    return by_site(log, "site-a", "aggregate.accepted", log.accepted_data(ring=ZERO))


def close(log: StudyLog, count: int = 4, **changes: Any) -> bytes:
    log.set_up().to_step("aggregate")
    for name in log.sites[:count]:
        log.accept(name)
    return by_coordinator(log, "round.closed", log.closed_data(**changes))


@attack("A2")
def close_with_too_few_acceptances(log: StudyLog) -> bytes:
    return close(log, 2)


@attack("A2")
def close_with_invented_acceptances(log: StudyLog) -> bytes:
    return close(log, 3, accepted=log.sites)


@attack("A2")
def close_on_another_base(log: StudyLog) -> bytes:
    return close(log, next_base=digest_of("mine"))


@attack("R4")
def close_without_naming_the_silent(log: StudyLog) -> bytes:
    return close(log, 3)


@attack("A2")
def close_against_a_dissenter(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    for name in log.sites[:3]:
        log.accept(name)
    log.refuse("site-d", "aggregate", "wrong_digest", round=1)
    return by_coordinator(log, "round.closed", log.closed_data())


@attack("R1")
def close_before_publishing(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    return by_coordinator(log, "round.closed", log.closed_data())


# -- what came too late


@attack("R6")
def late_upload_in_the_aggregate(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask", {"upload": ["site-d"]})
    log.upload("site-d")
    for name in log.sites[:3]:
        log.respond(name)
    session = log.session
    late = of.IdDigest(id="site-d", digest=digest_of("masked-update", "site-d", session.sid))
    return publish(log, inputs=(*log.rows(session.u3), late))


@attack("R6")
def request_for_the_self_seed_of_a_late_upload(log: StudyLog) -> bytes:
    consented(log, {"upload": ["site-d"]})
    log.upload("site-d")
    return request(log, self_of=log.sites, pair_of=())


@attack("R3")
def late_upload_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask", {"upload": ["site-d"]})
    log.upload("site-d")
    return by_site(log, "site-d", "update.submitted", log.update_data(), "masked-update")


@attack("R3")
def late_acceptance_of_a_plan_twice(log: StudyLog) -> bytes:
    log.set_up().plan()
    log.abort()
    log.accept_plan("site-a")
    plan = log.state.rounds[1].plan.leaf.hex()
    return by_site(log, "site-a", "plan.accepted", of.Base(base=log.state.base), refs=[plan])
