"""Attacks on the roster, the run and the rounds."""

from fedmedlora_audit import event_data as of
from fedmedlora_audit.note import NoteSigner
from fedmedlora_testkit.audit_attacks.registry import ZERO, attack, by_coordinator, by_site
from fedmedlora_testkit.audit_log import StudyLog, digest_of, seed_of

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
def revocation_without_a_rule(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("coordinator", "key.revoked", of.KeyRevoked(key="0123abcd", site="site-a"))


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


@attack("R3")
def plan_accepted_twice(log: StudyLog) -> bytes:
    plan = log.set_up().plan().leaf.hex()
    log.accept_plan("site-a")
    return log.draft("site-a", "plan.accepted", of.Base(base=log.state.base), refs=[plan], round=1)


@attack("R1")
def ready_without_accepting(log: StudyLog) -> bytes:
    plan = log.set_up().plan().leaf.hex()
    return log.draft("site-a", "update.ready", of.UpdateReady(base=log.state.base), refs=[plan], round=1)


@attack("G44")
def ready_with_a_commitment_to_no_graph(log: StudyLog) -> bytes:
    plan = log.set_up().plan().leaf.hex()
    log.accept_plan("site-a")
    data = of.UpdateReady(base=log.state.base, graph=digest_of("graph"))
    return log.draft("site-a", "update.ready", data, refs=[plan], round=1)


@attack("R3")
def ready_twice(log: StudyLog) -> bytes:
    plan = log.set_up().plan().leaf.hex()
    log.accept_plan("site-a")
    log.ready("site-a")
    return log.draft("site-a", "update.ready", of.UpdateReady(base=log.state.base), refs=[plan], round=1)


@attack("A2")
def abort_that_moves_the_base(log: StudyLog) -> bytes:
    log.set_up().plan()
    return by_coordinator(log, "round.aborted", of.Base(base=ZERO), reason="operator")


@attack("R4")
def failed_delivery_of_one_that_answered(log: StudyLog) -> bytes:
    log.set_up().plan()
    log.accept_plan("site-a")
    return by_coordinator(log, "delivery.failed", of.DeliveryFailed(site="site-a", step="plan"))


@attack("R2")
def failed_delivery_of_a_stranger(log: StudyLog) -> bytes:
    log.set_up().plan()
    return by_coordinator(log, "delivery.failed", of.DeliveryFailed(site="site-x", step="plan"))


@attack("R3")
def failed_delivery_twice(log: StudyLog) -> bytes:
    log.set_up().plan()
    data = of.DeliveryFailed(site="site-a", step="plan")
    log.say("coordinator", "delivery.failed", data, round=1)
    return by_coordinator(log, "delivery.failed", data)


@attack("G38")
def erasure_by_one_without_secrets(log: StudyLog) -> bytes:
    log.set_up().to_step("share", {"advertise": ["site-d"]})
    return by_site(log, "site-d", "attempt.erased", of.InSession(sid=log.session.sid))


@attack("R3")
def erasure_twice(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    log.erase("site-a", log.session.sid)
    return by_site(log, "site-a", "attempt.erased", of.InSession(sid=log.session.sid))


@attack("G36")
def erasure_of_an_unknown_session(log: StudyLog) -> bytes:
    log.set_up().plan()
    return by_site(log, "site-a", "attempt.erased", of.InSession(sid=ZERO))


@attack("R1")
def erasure_under_another_round(log: StudyLog) -> bytes:
    log.set_up().play_round({"upload": ["site-d"]}).plan()
    sid = log.state.rounds[1].sessions[0].sid
    return by_site(log, "site-d", "attempt.erased", of.InSession(sid=sid))


@attack("G48")
def evidence_of_an_unpublished_sum(log: StudyLog) -> bytes:
    log.set_up().to_step("unmask")
    return by_coordinator(log, "evidence.kept", of.InSession(sid=log.session.sid))


@attack("G48")
def evidence_shredded_while_it_is_checked(log: StudyLog) -> bytes:
    log.set_up().to_step("aggregate")
    return by_coordinator(log, "evidence.shredded", of.InSession(sid=log.session.sid))


@attack("G48")
def evidence_kept_after_it_was_shredded(log: StudyLog) -> bytes:
    log.set_up().play_round()
    data = of.InSession(sid=log.state.rounds[1].sessions[0].sid)
    log.say("coordinator", "evidence.kept", data, round=1)
    log.say("coordinator", "evidence.shredded", data, round=1)
    return by_coordinator(log, "evidence.kept", data)


@attack("R1")
def refusal_in_an_unknown_round(log: StudyLog) -> bytes:
    log.set_up()
    return log.draft("site-a", "step.refused", of.StepRefused(step="plan", reason="policy"), round=9)


@attack("R3")
def refusal_said_again(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    log.refuse("site-a", "share", "wrong_digest", round=1)
    data = of.StepRefused(step="share", reason="policy", sid=log.session.sid)
    return by_site(log, "site-a", "step.refused", data)


@attack("R3")
def refusal_outside_rounds_said_again(log: StudyLog) -> bytes:
    log.set_up()
    log.refuse("site-a", "plan", "log_forked")
    return log.draft("site-a", "step.refused", of.StepRefused(step="plan", reason="log_forked"))


@attack("G36")
def refusal_in_a_session_that_was_never_opened(log: StudyLog) -> bytes:
    log.set_up().to_step("share")
    return by_site(log, "site-a", "step.refused", of.StepRefused(step="share", reason="policy", sid=ZERO))


@attack("R1")
def refusal_in_a_session_of_another_round(log: StudyLog) -> bytes:
    log.set_up().play_round()
    sid = log.state.closed_rounds[0].sid
    log.plan()
    return by_site(log, "site-a", "step.refused", of.StepRefused(step="share", reason="policy", sid=sid))


@attack("R1")
def refusal_of_a_sum_that_is_not_the_last(log: StudyLog) -> bytes:
    log.set_up().play_round()
    sid = log.state.closed_rounds[0].sid
    log.play_round()
    log.plan()
    data = of.StepRefused(step="aggregate", reason="bad_aggregate", sid=sid)
    return by_site(log, "site-a", "step.refused", data)
