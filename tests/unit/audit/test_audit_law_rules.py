"""Every rule of the law: an event that breaks it is refused by its own check, and only because of the rule.

Each attack plays a lawful log up to a point and drafts one unlawful event. It is judged twice: with the law
whole, where the named check must refuse it, and with the refusing rule taken out, where that refusal must be
gone.
"""

from types import TracebackType

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit.charter import threshold_of
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import KINDS, parse_event
from fedmedlora_audit.law import RULES, check, envelope
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_testkit.audit_attacks import ATTACKS, opening
from fedmedlora_testkit.audit_attacks.registry import by_site
from fedmedlora_testkit.audit_log import StudyLog, charter_table


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


@pytest.mark.parametrize("name", ATTACKS)
def test_attack_refused_by_its_own_check_and_only_by_the_rule(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R2.2.3, R2.3.3, R4.4.3, R5.2.1, R5.2.2, R5.4.1, R5.4.2
    expected, make = ATTACKS[name]
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
    log.judge(opening.second_sum_from_the_same_base(log, erasing=3))


def test_second_consent_same_survivors_allowed_without_erasures() -> None:
    log = StudyLog().set_up().to_step("unmask")
    log.abort("operator")
    for name in log.sites:
        log.state.unspent[name] = set()
    log.to_step("survivors")
    log.judge(by_site(log, "site-a", "survivors.agreed", log.consent_data()))


def test_erasure_after_opening_does_not_count() -> None:
    """A site that opened its shares and says afterwards that it erased them frees nobody (G37)."""
    log = StudyLog().set_up().to_step("unmask")
    first = log.session
    for name in log.sites[:2]:
        log.respond(name)
    for name in log.sites:
        log.erase(name, first.sid)
    assert first.erased_unopened(log.tree.size) == 2


def sparse_log() -> StudyLog:
    """A study of 14 members on a sparse graph: T = 9 with two colluding."""
    rules = {
        **charter_table(14)["secure_aggregation"],
        "colluding_sites": 2,
        "threshold": threshold_of(14, 2),
        "graph": {"neighbours": 10, "share_threshold": 7, "window_survivors": 3},
    }
    return StudyLog(14, secure_aggregation=rules)


@pytest.mark.parametrize(("erasing", "allowed"), [("survivors", True), ("dropped", False)])
def test_on_a_sparse_graph_only_survivors_that_erased_free_another_consent(
    erasing: str, allowed: bool
) -> None:
    # R6.15.9: nine members erased either way; of those that dropped out nobody could have opened anything
    log = sparse_log().set_up().to_step("unmask", {"upload": ["site-m", "site-n"]})
    first = log.session
    log.abort("operator")
    order = log.sites if erasing == "survivors" else list(reversed(log.sites))
    for name in order[:9]:
        log.erase(name, first.sid)
    assert first.erased_unopened(log.tree.size) == 9
    assert (first.erased_unopened(log.tree.size, survivors_only=True) >= log.terms.threshold) == allowed


def test_commitments_are_what_the_sites_said_when_they_were_ready() -> None:
    # R6.15.6
    log = sparse_log().set_up().to_step("advertise")
    current = log.state.rounds[1]
    assert set(current.commitments) == set(current.ready) == set(log.sites)
    assert current.commitments["site-a"] == log.commitment("site-a")


@pytest.mark.parametrize("graph", [None, "0" * 64])
def test_commitment_without_a_graph_or_graph_without_a_commitment_is_g44(graph: str | None) -> None:
    # R6.15.6
    log = (sparse_log() if graph is None else StudyLog()).set_up()
    plan = log.plan().leaf.hex()
    log.accept_plan("site-a")
    data = of.UpdateReady(base=log.state.base, graph=graph)
    note = log.draft("site-a", "update.ready", data, refs=[plan], round=1)
    with pytest.raises(LawError) as caught:
        log.judge(note)
    assert caught.value.check == "G44"


def test_every_type_has_rules() -> None:
    assert set(RULES) == set(KINDS)


def test_a_step_may_be_refused_in_each_session_and_round_by_each_site() -> None:
    """R5.2.5 stands in no honest site's way: what differs in anything but the reason is another refusal."""
    log = StudyLog().set_up().to_step("share")
    first = log.session.sid
    log.refuse("site-a", "share", "wrong_digest", round=1)
    log.refuse("site-b", "share", "wrong_digest", round=1)
    log.refuse("site-a", "upload", "wrong_digest", round=1)
    log.refuse("site-a", "share", "log_forked", sid=None)  # a stop outside rounds
    log.abort("below_threshold")
    for site in log.sites:
        log.erase(site, first)
    log.to_step("share")
    assert log.session.sid != first
    log.refuse("site-a", "share", "wrong_digest", round=log.number)
    assert log.state.session is not None
    assert log.state.session.refused == {"site-a": "share"}


def test_who_was_away_may_refuse_the_last_closed_sum_while_a_later_round_is_on() -> None:
    log = StudyLog().set_up().play_round()
    missed = log.state.closed_rounds[0].sid
    log.refuse("site-a", "aggregate", "bad_aggregate", sid=missed, round=1)
    log.plan()
    log.refuse("site-a", "aggregate", "bad_aggregate", sid=missed, round=2)
    log.abort("operator")
    log.plan()
    log.refuse("site-a", "aggregate", "bad_aggregate", sid=missed, round=3)
    assert {number for _, _, number, sid in log.state.refusals if sid == missed} == {1, 2, 3}
