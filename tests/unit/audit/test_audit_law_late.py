"""Late answers: logged, so that no site ever needs a second version of an event, and without effect."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.law import duties, is_late, waiting
from fedmedlora_testkit.audit_log import StudyLog


def advertise_late(log: StudyLog) -> None:
    log.set_up().to_step("share", {"advertise": ["site-d"]})
    log.advertise("site-d")


def share_late(log: StudyLog) -> None:
    log.set_up().to_step("upload", {"share": ["site-d"]})
    log.share("site-d")


def upload_late(log: StudyLog) -> None:
    log.set_up().to_step("unmask", {"upload": ["site-d"]})
    log.upload("site-d")


def consent_late(log: StudyLog) -> None:
    log.set_up().to_step("unmask", {"survivors": ["site-d"]})
    log.agree("site-d")


def open_late(log: StudyLog) -> None:
    log.set_up().to_step("aggregate", {"unmask": ["site-d"]})
    log.respond("site-d")


LATE: dict[str, Callable[[StudyLog], None]] = {
    "advertise": advertise_late,
    "share": share_late,
    "upload": upload_late,
    "consent": consent_late,
    "open": open_late,
}


@pytest.mark.parametrize("name", LATE)
def test_a_late_answer_is_logged_and_the_round_goes_on_without_it(name: str) -> None:
    log = StudyLog()
    LATE[name](log)
    event = log.entries[-2].event
    assert is_late(log.state, event), "the entry before its receipt is the late answer"
    session = log.session
    assert "site-d" not in waiting(log.state).expected or name in {"consent", "open"}
    while log.state.round is not None:
        log.answer_all({"site-d"})
        log.coordinate()
    assert ("site-d" in session.u3) == (name in {"consent", "open"})
    assert log.state.rounds[1].outcome == "closed"


def test_a_late_upload_joins_no_sum() -> None:
    log = StudyLog()
    upload_late(log)
    assert "site-d" not in log.session.updates
    assert "site-d" not in log.session.u3


def test_keys_advertised_late_must_still_be_erased_before_the_next_session() -> None:
    log = StudyLog()
    advertise_late(log)
    log.abort()
    duty = duties(log.state, "site-d")
    assert duty is not None
    assert duty.step == "erase"


def test_shares_opened_late_still_count_as_opened() -> None:
    """Else the consent rule would take the session for one that nobody can open any more."""
    log = StudyLog()
    open_late(log)
    assert "site-d" in log.session.responses


def test_a_late_answer_must_still_have_been_right() -> None:
    log = StudyLog()
    log.set_up().to_step("unmask", {"upload": ["site-d"]})
    wrong = log.update_data(h_u2="00" * 32)
    with pytest.raises(LawError) as caught:
        log.say("site-d", "update.submitted", wrong, **log.blob("site-d", "masked-update"))
    assert caught.value.check == "G34"


def test_an_acceptance_of_a_round_that_is_over_is_late() -> None:
    log = StudyLog()
    plan = log.set_up().plan().leaf.hex()
    base = log.state.base
    log.abort()
    log.say("site-a", "plan.accepted", of.Base(base=base), refs=[plan], round=1)
    assert log.state.rounds[1].accepted == {}


def test_keys_advertised_late_can_be_erased_and_free_the_site() -> None:
    log = StudyLog()
    advertise_late(log)
    sid = log.session.sid
    log.abort()
    log.erase("site-d", sid)
    assert duties(log.state, "site-d") is None
    log.to_step("share")
    assert "site-d" in log.session.u1


def test_late_consent_counts_as_a_consent() -> None:
    """A site that consented late in one session may not consent to other survivors of the same base (G37)."""
    log = StudyLog().set_up().to_step("unmask", {"survivors": ["site-d"]})
    first = log.session.sid
    log.abort("operator")
    data = log.state.sids[first]
    consent = of.SurvivorsAgreed(sid=first, view=data.view, h_u2=data.h_u2, h_u3=data.h_u3)
    log.say("site-d", "survivors.agreed", consent, round=1)
    for site in ("site-c", "site-d"):
        log.erase(site, first)
    for site in ("site-a", "site-b"):
        log.state.unspent[site] = set()  # as if they had nothing to erase: two erasures are fewer than T
    log.to_step("survivors", {"upload": ["site-b"]})
    with pytest.raises(LawError) as caught:
        log.agree("site-d")
    assert caught.value.check == "G37"
