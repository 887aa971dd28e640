"""Every rule of the law: an event that breaks it is refused by its own check, and only because of the rule.

Each case plays a lawful log up to a point and drafts one unlawful event. It is judged twice: with the law whole,
where the named check must refuse it, and with the refusing rule taken out, where that refusal must be gone.
"""

from collections.abc import Callable
from types import TracebackType
from typing import Any

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit.chain import EMPTY_HEAD, Author, Chain
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import Saw, parse_event
from fedmedlora_audit.law import RULES, check, envelope
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.note import NoteSigner
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, digest_of, seed_of

Attack = Callable[[StudyLog], bytes]
ZERO = "0" * 64
LONE: dict[str, tuple[str, Attack]] = {}


def attack(check_id: str) -> Callable[[Attack], Attack]:
    """Register a case under its function's name."""

    def register(make: Attack) -> Attack:
        LONE[make.__name__] = (check_id, make)
        return make

    return register


def at(step: str, drop: dict[str, list[str]] | None = None) -> StudyLog:
    return StudyLog().set_up().to_step(step, drop)


def coordinator(log: StudyLog, type_: str, data: of.Data, **fields: Any) -> bytes:
    return log.draft("coordinator", type_, data, **{"round": log.number, **fields})


def site(log: StudyLog, name: str, type_: str, data: of.Data, role: str = "", **fields: Any) -> bytes:
    blob = log.blob(name, role) if role else {"round": log.number}
    return log.draft(name, type_, data, **{**blob, **fields})


# -- every event


@attack("E3")
def event_of_another_log(log: StudyLog) -> bytes:
    log.set_up()
    author = Author("coordinator", "coordinator", log.authors["coordinator"].signer, "elsewhere.example/log")
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), author=author, round=1)


@attack("E3")
def event_of_another_run(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), run="run-2", round=1)


@attack("R2")
def event_of_a_stranger(log: StudyLog) -> bytes:
    log.set_up()
    author = Author("site-x", "site", NoteSigner.from_seed("site-x", seed_of("site-x")), ORIGIN)
    return log.draft("site-x", "step.refused", of.StepRefused(step="plan", reason="policy"), author=author)


@attack("E2")
def event_with_an_uncharted_key(log: StudyLog) -> bytes:
    log.set_up()
    author = Author("site-a", "site", NoteSigner.from_seed("site-a", seed_of("stolen")), ORIGIN)
    return log.draft("site-a", "step.refused", of.StepRefused(step="plan", reason="policy"), author=author)


@attack("K1")
def site_speaks_before_enrolment(log: StudyLog) -> bytes:
    log.add(StudyLog().set_up().entries[0].note)
    return log.draft("site-a", "step.refused", of.StepRefused(step="sign", reason="policy"))


@attack("E5")
def author_skips_a_number(log: StudyLog) -> bytes:
    log.set_up()
    chain = log.chains["coordinator"]
    data = of.Base(base=log.state.base)
    return log.draft("coordinator", "round.plan", data, chain=Chain(chain.seq + 1, chain.prev), round=1)


@attack("E6")
def author_names_another_previous_event(log: StudyLog) -> bytes:
    log.set_up()
    chain = log.chains["coordinator"]
    data = of.Base(base=log.state.base)
    return log.draft("coordinator", "round.plan", data, chain=Chain(chain.seq, ZERO), round=1)


@attack("E7")
def author_saw_another_history(log: StudyLog) -> bytes:
    log.set_up()
    saw = Saw(size=log.tree.size, root=ZERO)
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), saw=saw, round=1)


@attack("E7")
def author_saw_the_future(log: StudyLog) -> bytes:
    log.set_up()
    saw = Saw(size=log.tree.size + 1, root=ZERO)
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), saw=saw, round=1)


@attack("E7")
def what_an_author_saw_shrinks(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), saw=EMPTY_HEAD, round=1)


@attack("E7")
def site_answers_what_it_has_not_seen(log: StudyLog) -> bytes:
    log.set_up()
    head = log.head()
    log.to_step("advertise")
    for name in log.sites[1:]:
        log.advertise(name)
    log.chains["site-a"] = log.state.chain_of("site-a")
    log.state.seen["site-a"] = 0
    return site(log, "site-a", "keys.advertised", of.InSession(sid=log.session.sid), "keys", saw=head)


@attack("E9")
def reference_to_nothing(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), refs=[ZERO], round=1)


@attack("E9")
def site_refers_to_what_it_has_not_seen(log: StudyLog) -> bytes:
    log.set_up()
    head = log.head()
    plan = log.plan()
    return log.draft(
        "site-a", "plan.accepted", of.Base(base=log.state.base), refs=[plan.leaf.hex()], saw=head, round=1
    )


@attack("E9")
def acceptance_without_reference_to_the_plan(log: StudyLog) -> bytes:
    log.set_up().plan()
    return log.draft("site-a", "plan.accepted", of.Base(base=log.state.base), round=1)


@attack("R4")
def event_without_receipt(log: StudyLog) -> bytes:
    log.set_up().plan()
    plan = log.state.rounds[1].plan.leaf.hex()
    note = log.draft("site-a", "plan.accepted", of.Base(base=log.state.base), refs=[plan], round=1)
    log.add(note, receipt=False)
    return log.draft("site-b", "plan.accepted", of.Base(base=log.state.base), refs=[plan], round=1)


@attack("R4")
def receipt_of_another_event(log: StudyLog) -> bytes:
    log.set_up().plan()
    plan = log.state.rounds[1].plan.leaf.hex()
    note = log.draft("site-a", "plan.accepted", of.Base(base=log.state.base), refs=[plan], round=1)
    log.add(note, receipt=False)
    data = of.Receipt(site="site-b", seq=2, type="plan.accepted")
    return coordinator(log, "receipt", data, refs=[leaf_hash(note).hex()])


@attack("R4")
def receipt_of_nothing(log: StudyLog) -> bytes:
    log.set_up()
    data = of.Receipt(site="site-b", seq=1, type="charter.signed")
    return log.draft("coordinator", "receipt", data, refs=[log.entries[0].leaf.hex()])


# -- the study


@attack("K1")
def log_without_genesis(log: StudyLog) -> bytes:
    keys = log.terms.members["site-a"]
    data = of.Enrolled(site="site-a", event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)
    return log.draft("coordinator", "site.enrolled", data)


@attack("K1")
def second_genesis(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "log.genesis", log.entries[0].event.data)


@attack("K1")
def genesis_of_another_charter(log: StudyLog) -> bytes:
    data = StudyLog().set_up().entries[0].event.data
    return log.draft("coordinator", "log.genesis", data.model_copy(update={"charter": ZERO}))


@attack("K1")
def invented_member(log: StudyLog) -> bytes:
    log.add(StudyLog().set_up().entries[0].note)
    keys = log.terms.members["site-a"]
    data = of.Enrolled(site="site-x", event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)
    return log.draft("coordinator", "site.enrolled", data)


@attack("K1")
def member_with_the_coordinators_choice_of_key(log: StudyLog) -> bytes:
    log.add(StudyLog().set_up().entries[0].note)
    keys = log.terms.members["site-a"]
    other = NoteSigner.from_seed("site-a", seed_of("chosen")).vkey
    data = of.Enrolled(site="site-a", event_vkey=other, witness_vkey=keys.witness_vkey)
    return log.draft("coordinator", "site.enrolled", data)


@attack("K1")
def member_enrolled_twice(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "site.enrolled", log.entries[1].event.data)


@attack("K1")
def signature_under_another_charter(log: StudyLog) -> bytes:
    for entry in StudyLog().set_up().entries[:5]:
        log.add(entry.note)
    return log.draft("site-a", "charter.signed", of.CharterSigned(charter=ZERO))


@attack("K1")
def signature_before_the_roster_is_whole(log: StudyLog) -> bytes:
    for entry in StudyLog().set_up().entries[:3]:
        log.add(entry.note)
    return log.draft("site-a", "charter.signed", of.CharterSigned(charter=log.terms.digest))


@attack("R3")
def signature_twice(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("site-a", "charter.signed", of.CharterSigned(charter=log.terms.digest))


@attack("K1")
def run_without_all_signatures(log: StudyLog) -> bytes:
    for entry in StudyLog().set_up().entries[:7]:
        log.add(entry.note, receipt=False)
    data = of.RunOpened(charter=log.terms.digest, base=log.terms.initial_adapter)
    return log.draft("coordinator", "run.opened", data)


@attack("A2")
def run_from_another_adapter(log: StudyLog) -> bytes:
    for entry in StudyLog().set_up().entries[:13]:
        log.add(entry.note, receipt=False)
    return log.draft("coordinator", "run.opened", of.RunOpened(charter=log.terms.digest, base=ZERO))


@attack("R1")
def run_opened_twice(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "run.opened", log.entries[13].event.data)


@attack("M1")
def release_of_another_adapter(log: StudyLog) -> bytes:
    log.set_up().play_round()
    return log.draft("coordinator", "model.released", of.ModelReleased(adapter=ZERO, rounds=1))


@attack("M1")
def release_before_any_round(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "model.released", of.ModelReleased(adapter=log.state.base, rounds=0))


@attack("M1")
def release_with_a_wrong_count(log: StudyLog) -> bytes:
    log.set_up().play_round()
    return log.draft("coordinator", "model.released", of.ModelReleased(adapter=log.state.base, rounds=2))


@attack("R1")
def release_within_a_round(log: StudyLog) -> bytes:
    log.set_up().play_round().plan()
    return log.draft("coordinator", "model.released", of.ModelReleased(adapter=log.state.base, rounds=1))


@attack("R3")
def release_twice(log: StudyLog) -> bytes:
    log.play(1)
    return log.draft("coordinator", "model.released", of.ModelReleased(adapter=log.state.base, rounds=1))


@attack("R1")
def run_closed_with_a_wrong_count(log: StudyLog) -> bytes:
    log.set_up().play_round()
    return log.draft("coordinator", "run.closed", of.RunClosed(rounds=3))


@attack("R1")
def round_after_the_run(log: StudyLog) -> bytes:
    log.play(1)
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), round=2)


@attack("R1")
def event_after_the_log(log: StudyLog) -> bytes:
    log.play(1)
    head = log.head()
    log.say("coordinator", "log.closed", of.LogHead(size=head.size, root=head.root))
    return log.draft("coordinator", "audit.exported", of.LogHead(size=head.size, root=head.root))


@attack("C6")
def quoted_head_of_another_history(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "audit.exported", of.LogHead(size=3, root=ZERO))


@attack("C6")
def quoted_head_of_the_future(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "audit.exported", of.LogHead(size=log.tree.size + 1, root=ZERO))


@attack("K1")
def key_rotation_without_a_rule(log: StudyLog) -> bytes:
    log.set_up()
    keys = log.terms.members["site-a"]
    data = of.KeyRotated(site="site-a", event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)
    return log.draft("site-a", "key.rotated", data)


# -- a round


@attack("R1")
def plan_before_the_run(log: StudyLog) -> bytes:
    for entry in StudyLog().set_up().entries[:13]:
        log.add(entry.note, receipt=False)
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), round=1)


@attack("R1")
def second_plan_of_a_round(log: StudyLog) -> bytes:
    log.set_up().plan()
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), round=2)


@attack("R1")
def round_number_skipped(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), round=2)


@attack("R1")
def round_beyond_the_charter(log: StudyLog) -> bytes:
    log.set_up().play_round().play_round().play_round()
    return log.draft("coordinator", "round.plan", of.Base(base=log.state.base), round=4)


@attack("A2")
def plan_from_another_adapter(log: StudyLog) -> bytes:
    log.set_up().play_round()
    return log.draft("coordinator", "round.plan", of.Base(base=log.terms.initial_adapter), round=2)


@attack("A2")
def acceptance_of_another_base(log: StudyLog) -> bytes:
    plan = log.set_up().plan().leaf.hex()
    return log.draft("site-a", "plan.accepted", of.Base(base=ZERO), refs=[plan], round=1)


@attack("R1")
def acceptance_in_a_closed_round(log: StudyLog) -> bytes:
    log.set_up().play_round()
    return log.draft("site-a", "plan.accepted", of.Base(base=log.state.base), round=1)


@attack("R3")
def plan_accepted_twice(log: StudyLog) -> bytes:
    plan = log.set_up().plan().leaf.hex()
    log.accept_plan("site-a")
    return log.draft("site-a", "plan.accepted", of.Base(base=log.state.base), refs=[plan], round=1)


@attack("R1")
def ready_without_accepting(log: StudyLog) -> bytes:
    plan = log.set_up().plan().leaf.hex()
    return log.draft("site-a", "update.ready", of.Base(base=log.state.base), refs=[plan], round=1)


@attack("R3")
def ready_twice(log: StudyLog) -> bytes:
    plan = log.set_up().plan().leaf.hex()
    log.accept_plan("site-a")
    log.ready("site-a")
    return log.draft("site-a", "update.ready", of.Base(base=log.state.base), refs=[plan], round=1)


@attack("A2")
def abort_that_moves_the_base(log: StudyLog) -> bytes:
    log.set_up().plan()
    return coordinator(log, "round.aborted", of.Base(base=ZERO), reason="operator")


@attack("R4")
def failed_delivery_of_one_that_answered(log: StudyLog) -> bytes:
    log.set_up().plan()
    log.accept_plan("site-a")
    return coordinator(log, "delivery.failed", of.DeliveryFailed(site="site-a", step="plan"))


@attack("R2")
def failed_delivery_of_a_stranger(log: StudyLog) -> bytes:
    log.set_up().plan()
    return coordinator(log, "delivery.failed", of.DeliveryFailed(site="site-x", step="plan"))


@attack("R3")
def failed_delivery_twice(log: StudyLog) -> bytes:
    log.set_up().plan()
    data = of.DeliveryFailed(site="site-a", step="plan")
    log.say("coordinator", "delivery.failed", data, round=1)
    return coordinator(log, "delivery.failed", data)


@attack("G38")
def erasure_by_one_without_secrets(_log: StudyLog) -> bytes:
    log = at("share", {"advertise": ["site-d"]})
    _log.__dict__ = log.__dict__
    return site(log, "site-d", "attempt.erased", of.InSession(sid=log.session.sid))


@attack("R3")
def erasure_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    log.erase("site-a", log.session.sid)
    return site(log, "site-a", "attempt.erased", of.InSession(sid=log.session.sid))


@attack("G36")
def erasure_of_an_unknown_session(log: StudyLog) -> bytes:
    log.set_up().plan()
    return site(log, "site-a", "attempt.erased", of.InSession(sid=ZERO))


@attack("R1")
def erasure_under_another_round(log: StudyLog) -> bytes:
    log.set_up().play_round({"upload": ["site-d"]}).plan()
    sid = log.state.rounds[1].sessions[0].sid
    return site(log, "site-d", "attempt.erased", of.InSession(sid=sid))


@attack("G48")
def evidence_of_an_unpublished_sum(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    return coordinator(log, "evidence.kept", of.InSession(sid=log.session.sid))


@attack("R1")
def refusal_in_an_unknown_round(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("site-a", "step.refused", of.StepRefused(step="plan", reason="policy"), round=9)


# -- opening and keys


@attack("G33")
def session_below_the_threshold(log: StudyLog) -> bytes:
    log.set_up().plan()
    for name in log.sites:
        log.accept_plan(name)
        log.ready(name)
    return coordinator(log, "session.opened", log.opening(["site-a", "site-b"]))


@attack("R2")
def session_with_a_site_that_is_not_ready(log: StudyLog) -> bytes:
    log.set_up().plan()
    for name in log.sites[:3]:
        log.accept_plan(name)
        log.ready(name)
    return coordinator(log, "session.opened", log.opening(log.sites))


@attack("G36")
def session_id_from_elsewhere(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return coordinator(log, "session.opened", log.opening(sid=ZERO))


@attack("G33")
def session_without_masks(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return coordinator(log, "session.opened", log.opening(suite="plain/1"))


@attack("A2")
def session_over_another_base(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return coordinator(log, "session.opened", log.opening(base=ZERO))


@attack("R1")
def attempt_number_skipped(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return coordinator(log, "session.opened", log.opening(attempt=3))


@attack("R1")
def session_for_a_purpose_outside_the_charter(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    return coordinator(log, "session.opened", log.opening(purpose="score"))


@attack("G13")
def new_attempt_after_an_opening(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    log.respond("site-a")
    return coordinator(log, "session.opened", log.opening())


@attack("R2")
def keys_from_a_site_outside_the_session(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise", {"train": ["site-d"]})
    return site(log, "site-d", "keys.advertised", of.InSession(sid=log.session.sid), "keys")


@attack("R3")
def keys_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    log.advertise("site-a")
    return site(log, "site-a", "keys.advertised", of.InSession(sid=log.session.sid), "keys")


@attack("R1")
def keys_too_late(log: StudyLog) -> bytes:
    log.set_up().to_step("share", {"advertise": ["site-d"]})
    return site(log, "site-d", "keys.advertised", of.InSession(sid=log.session.sid), "keys")


@attack("G37")
def keys_while_an_earlier_session_is_not_erased(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    log.open_session()
    return site(log, "site-a", "keys.advertised", of.InSession(sid=log.session.sid), "keys")


@attack("G37")
def answer_in_an_earlier_session(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    data = log.update_data()
    log.open_session()
    return site(log, "site-a", "update.submitted", data, "masked-update")


@attack("G36")
def answer_in_a_session_never_opened(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    return site(log, "site-a", "update.submitted", log.update_data(sid=ZERO), "masked-update")


@attack("G35")
def u1_with_swapped_keys(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites:
        log.advertise(name)
    rows = log.rows(log.session.advertised)
    u1 = (rows[0].model_copy(update={"digest": ZERO}), *rows[1:])
    return coordinator(log, "keys.broadcast", log.u1_data(u1=u1))


@attack("G35")
def u1_with_an_invented_site(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites[:3]:
        log.advertise(name)
    u1 = (*log.rows(log.session.advertised), of.IdDigest(id="site-d", digest=ZERO))
    return coordinator(log, "keys.broadcast", log.u1_data(u1=u1))


@attack("G35")
def u1_leaves_a_site_out_in_silence(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites:
        log.advertise(name)
    data = log.u1_data(u1=log.rows(log.session.advertised, ["site-d"]), left_out=())
    return coordinator(log, "keys.broadcast", data)


@attack("G35")
def u1_calls_a_speaker_silent(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites:
        log.advertise(name)
    return coordinator(log, "keys.broadcast", log.u1_data(u1=log.rows(log.session.advertised, ["site-d"])))


@attack("G35")
def u1_refuses_keys_that_were_never_sent(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites[:3]:
        log.advertise(name)
    left = (of.LeftOut(id="site-d", reason="low_order_key"),)
    return coordinator(log, "keys.broadcast", log.u1_data(left_out=left))


@attack("G33")
def u1_below_the_threshold(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites[:2]:
        log.advertise(name)
    return coordinator(log, "keys.broadcast", log.u1_data())


@attack("G36")
def view_of_another_u1(log: StudyLog) -> bytes:
    log.set_up().to_step("advertise")
    for name in log.sites:
        log.advertise(name)
    return coordinator(log, "keys.broadcast", log.u1_data(view=ZERO))


@attack("G34")
def second_broadcast(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    return coordinator(log, "keys.broadcast", log.u1_data())


@attack("R1")
def broadcast_of_uploads_before_shares(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    return coordinator(log, "survivors.fixed", log.u3_data())


# -- shares and uploads


@attack("R2")
def shares_from_outside_u1(log: StudyLog) -> bytes:
    log.set_up().to_step("share", {"advertise": ["site-d"]})
    data = of.SharesSent(sid=log.session.sid, view=log.session.view)
    return site(log, "site-d", "shares.sent", data, "shares")


@attack("R3")
def shares_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    log.share("site-a")
    data = of.SharesSent(sid=log.session.sid, view=log.session.view)
    return site(log, "site-a", "shares.sent", data, "shares")


@attack("G36")
def shares_under_another_view(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    return site(log, "site-a", "shares.sent", of.SharesSent(sid=log.session.sid, view=ZERO), "shares")


@attack("G38")
def shares_after_erasing(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    log.erase("site-a", log.session.sid)
    data = of.SharesSent(sid=log.session.sid, view=log.session.view)
    return site(log, "site-a", "shares.sent", data, "shares")


@attack("U5")
def u2_with_other_shares_than_signed(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    for name in log.sites:
        log.share(name)
    rows = log.rows(log.session.shares)
    return coordinator(
        log, "shares.fixed", log.u2_data(u2=(rows[0].model_copy(update={"digest": ZERO}), *rows[1:]))
    )


@attack("G33")
def u2_below_the_threshold(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    for name in log.sites:
        log.share(name)
    return coordinator(
        log, "shares.fixed", log.u2_data(u2=log.rows(log.session.shares, ["site-a", "site-b"]))
    )


@attack("G34")
def second_u2(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    return coordinator(log, "shares.fixed", log.u2_data(u2=log.rows(log.session.shares, ["site-a"])))


@attack("G34")
def upload_from_outside_u2(log: StudyLog) -> bytes:
    log.set_up().to_step("upload", {"share": ["site-d"]})
    return site(log, "site-d", "update.submitted", log.update_data(), "masked-update")


@attack("G34")
def upload_masked_with_another_u2(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    return site(log, "site-a", "update.submitted", log.update_data(h_u2=ZERO), "masked-update")


@attack("R3")
def upload_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    log.upload("site-a")
    return site(log, "site-a", "update.submitted", log.update_data(), "masked-update")


@attack("R6")
def upload_of_a_dropped_site(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask", {"upload": ["site-d"]})
    return site(log, "site-d", "update.submitted", log.update_data(), "masked-update")


@attack("R5")
def survivors_with_another_upload(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites:
        log.upload(name)
    rows = log.rows(log.session.updates)
    data = log.u3_data(u3=(rows[0].model_copy(update={"digest": ZERO}), *rows[1:]))
    return coordinator(log, "survivors.fixed", data)


@attack("R5")
def survivors_with_an_invented_site(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites[:3]:
        log.upload(name)
    u3 = (*log.rows(log.session.updates), of.IdDigest(id="site-d", digest=ZERO))
    return coordinator(log, "survivors.fixed", log.u3_data(u3=u3))


@attack("R5")
def survivors_without_a_received_upload(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites:
        log.upload(name)
    return coordinator(log, "survivors.fixed", log.u3_data(u3=log.rows(log.session.updates, ["site-d"])))


@attack("R5")
def survivors_below_the_threshold(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    for name in log.sites[:2]:
        log.upload(name)
    return coordinator(log, "survivors.fixed", log.u3_data())


@attack("G34")
def second_survivor_set(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    return coordinator(log, "survivors.fixed", log.u3_data(u3=log.rows(log.session.updates, ["site-d"])))


@attack("G14")
def survivors_that_differ_by_one_from_an_opened_sum(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    log.respond("site-a")
    log.abort("operator")
    log.to_step("upload", {"upload": ["site-d"]})
    for name in log.sites[:3]:
        log.upload(name)
    return coordinator(log, "survivors.fixed", log.u3_data())


# -- consent and opening


@attack("G34")
def consent_of_a_dropped_site(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors", {"upload": ["site-d"]})
    return site(log, "site-d", "survivors.agreed", log.consent_data())


@attack("R3")
def consent_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    log.agree("site-a")
    return site(log, "site-a", "survivors.agreed", log.consent_data())


@attack("U1")
def consent_to_other_survivors_than_logged(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    return site(log, "site-a", "survivors.agreed", log.consent_data(h_u3=ZERO))


@attack("U1")
def consent_to_other_inboxes_than_logged(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    return site(log, "site-a", "survivors.agreed", log.consent_data(h_u2=ZERO))


@attack("G36")
def consent_under_another_view(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    return site(log, "site-a", "survivors.agreed", log.consent_data(view=ZERO))


@attack("G38")
def consent_after_erasing(log: StudyLog) -> bytes:
    log.set_up().to_step("survivors")
    log.erase("site-a", log.session.sid)
    return site(log, "site-a", "survivors.agreed", log.consent_data())


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
    return site(log, "site-a", "survivors.agreed", log.consent_data())


@attack("G37")
def second_consent_from_one_base(log: StudyLog) -> bytes:
    return second_sum_from_the_same_base(log, erasing=2)


@attack("R1")
def request_before_the_survivors(log: StudyLog) -> bytes:
    log.set_up().to_step("upload")
    data = of.UnmaskRequest(sid=log.session.sid, signers=(), self_of=(), pair_of=())
    return coordinator(log, "unmask.request", data)


def consented(log: StudyLog, drop: dict[str, list[str]] | None = None, count: int = 4) -> StudyLog:
    log.set_up().to_step("survivors", drop)
    for name in list(log.session.u3)[:count]:
        log.agree(name)
    return log


def request(log: StudyLog, **changes: Any) -> bytes:
    fields = log.request_fields(**changes)
    return coordinator(log, "unmask.request", fields.pop("data"), **fields)


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
    return site(log, "site-a", "unmask.response", log.response_data(pair_of=("site-b",)), "opened-shares")


@attack("U3")
def response_to_another_request(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    data = log.response_data(self_of=("site-a", "site-b", "site-c"), pair_of=("site-d",))
    return site(log, "site-a", "unmask.response", data, "opened-shares")


@attack("U1")
def response_without_consent(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask", {"survivors": ["site-d"]})
    return site(log, "site-d", "unmask.response", log.response_data(), "opened-shares")


@attack("R3")
def response_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    log.respond("site-a")
    return site(log, "site-a", "unmask.response", log.response_data(), "opened-shares")


@attack("G38")
def response_after_erasing(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    log.erase("site-a", log.session.sid)
    return site(log, "site-a", "unmask.response", log.response_data(), "opened-shares")


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
    return site(log, "site-d", "aggregate.accepted", log.accepted_data())


@attack("R3")
def aggregate_accepted_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    log.accept("site-a")
    return site(log, "site-a", "aggregate.accepted", log.accepted_data())


@attack("A2")
def acceptance_of_another_aggregate(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    return site(log, "site-a", "aggregate.accepted", log.accepted_data(next_base=ZERO))


@attack("A2")
def acceptance_of_another_ring_sum(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    return site(log, "site-a", "aggregate.accepted", log.accepted_data(ring=ZERO))


def close(log: StudyLog, count: int = 4, **changes: Any) -> bytes:
    log.set_up().to_step("aggregate")
    for name in log.sites[:count]:
        log.accept(name)
    return coordinator(log, "round.closed", log.closed_data(**changes))


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
    return coordinator(log, "round.closed", log.closed_data())


@attack("R1")
def close_before_publishing(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    return coordinator(log, "round.closed", log.closed_data())


# -- the judgement


def raising_rule(error: LawError, type_: str) -> object | None:
    """Find the rule of the tables whose frame raised."""
    rules = (*envelope.BEFORE, *RULES[type_], *envelope.AFTER)
    trace: TracebackType | None = error.__traceback__
    while trace is not None:
        for rule in rules:
            if getattr(rule, "__code__", None) is trace.tb_frame.f_code:
                return rule
        trace = trace.tb_next
    return None


@pytest.mark.parametrize("name", LONE)
def test_attack_refused_by_its_own_check_and_only_by_the_rule(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected, make = LONE[name]
    log = StudyLog()
    note = make(log)
    event = parse_event(note).event
    with pytest.raises(LawError) as caught:
        check(log.state, event, leaf_hash(note))
    assert caught.value.check == expected
    rule = raising_rule(caught.value, event.type)
    assert rule is not None, "the refusal comes from a rule of the tables"
    for table in ("BEFORE", "AFTER"):
        kept = tuple(other for other in getattr(envelope, table) if other is not rule)
        monkeypatch.setattr(envelope, table, kept)
    monkeypatch.setitem(
        RULES,
        event.type,
        tuple(other for other in RULES[event.type] if other is not rule),
    )
    try:
        check(log.state, event, leaf_hash(note))
    except LawError as error:  # a second rule that stands behind the first
        assert raising_rule(error, event.type) is not rule
    except KeyError:
        pass  # a later look-up relied on the rule that was taken out


def test_replayed_note_is_e4() -> None:
    log = StudyLog().play(1)
    for entry in (log.entries[0], log.entries[20], log.entries[-1]):
        with pytest.raises(LawError) as caught:
            check(log.state, entry.event, entry.leaf)
        assert caught.value.check == "E4"


def test_second_consent_allowed_when_threshold_erased() -> None:
    log = StudyLog()
    log.judge(second_sum_from_the_same_base(log, erasing=3))


def test_second_consent_same_survivors_allowed_without_erasures() -> None:
    log = StudyLog().set_up().to_step("unmask")
    log.abort("operator")
    for name in log.sites:
        log.state.unspent[name] = set()
    log.to_step("survivors")
    log.judge(site(log, "site-a", "survivors.agreed", log.consent_data()))


def test_erasure_after_opening_does_not_count() -> None:
    """A site that opened its shares and says afterwards that it erased them frees nobody (G37)."""
    log = StudyLog().set_up().to_step("unmask")
    first = log.session
    for name in log.sites[:2]:
        log.respond(name)
    for name in log.sites:
        log.erase(name, first.sid)
    assert first.erased_unopened(log.tree.size) == 2


def test_every_type_has_rules() -> None:
    from fedmedlora_audit.events import KINDS

    assert set(RULES) == set(KINDS)
