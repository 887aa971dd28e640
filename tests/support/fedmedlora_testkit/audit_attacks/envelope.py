"""Attacks that any event could carry: wrong log, author, chain, heads, references, receipts."""

from fedmedlora_audit import event_data as of
from fedmedlora_audit.chain import EMPTY_HEAD, Author, Chain
from fedmedlora_audit.events import Saw
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.note import NoteSigner
from fedmedlora_testkit.audit_attacks.registry import ZERO, attack, by_coordinator, by_site
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, seed_of

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
    return by_site(log, "site-a", "keys.advertised", of.InSession(sid=log.session.sid), "keys", saw=head)


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
    return by_coordinator(log, "receipt", data, refs=[leaf_hash(note).hex()])


@attack("R4")
def receipt_of_nothing(log: StudyLog) -> bytes:
    log.set_up()
    data = of.Receipt(site="site-b", seq=1, type="charter.signed")
    return log.draft("coordinator", "receipt", data, refs=[log.entries[0].leaf.hex()])
