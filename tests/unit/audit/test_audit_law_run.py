"""Whole runs under the law: four sites, drop-outs at every step, aborts, restarts, catching up."""

import pytest

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.event_data import Base, DeliveryFailed
from fedmedlora_audit.law import State, apply, duties, waiting
from fedmedlora_testkit.audit_log import StudyLog

STEPS = ["train", "advertise", "share", "upload", "survivors", "unmask", "aggregate"]


def owed(log: StudyLog) -> dict[str, str | None]:
    found = {site: duties(log.state, site) for site in log.sites}
    return {site: duty.step if duty else None for site, duty in found.items()}


def test_run_four_sites_three_rounds() -> None:
    log = StudyLog().play(3)
    state = log.state
    assert [closed.round for closed in state.closed_rounds] == [1, 2, 3]
    assert state.base == state.closed_rounds[-1].next_base == state.released
    assert state.run_closed
    assert waiting(state).step == "closed"
    assert set(owed(log).values()) == {None}


@pytest.mark.parametrize("step", STEPS)
def test_run_drop_out_at_any_step_survived(step: str) -> None:
    log = StudyLog().play(3, {step: ["site-d"]})
    assert [closed.round for closed in log.state.closed_rounds] == [1, 2, 3]
    session = log.state.rounds[2].sessions[-1]
    assert ("site-d" in session.u3) == (step in ("survivors", "unmask", "aggregate"))
    assert "site-d" in log.state.rounds[3].sessions[-1].u3, "the site is back in the next round"


def test_run_ten_sites_three_dropped() -> None:
    log = StudyLog(10).play(3, {"share": ["site-a"], "upload": ["site-e"], "survivors": ["site-j"]})
    session = log.state.rounds[2].sessions[-1]
    assert log.terms.threshold == 7
    assert (len(session.u1), len(session.u2), len(session.u3), len(session.agreed)) == (10, 9, 8, 7)


def test_replay_of_the_same_entries_gives_the_same_state() -> None:
    log = StudyLog().play(2, {"upload": ["site-d"]})
    again = State.begin(log.terms)
    for entry in log.entries:
        apply(again, entry)
    assert again.head() == log.state.head()
    assert again.closed_rounds == log.state.closed_rounds
    assert again.rounds == log.state.rounds
    assert again.chains == log.state.chains


def test_apply_refused_event_changes_nothing() -> None:
    log = StudyLog().set_up()
    before = (log.state.head(), dict(log.state.chains), log.state.pending)
    note = log.draft("coordinator", "round.plan", Base(base="0" * 64), round=1)
    with pytest.raises(LawError):
        log.add(note)
    assert (log.state.head(), dict(log.state.chains), log.state.pending) == before


def test_duties_follow_the_round() -> None:
    # R4.1.1
    log = StudyLog()
    assert set(owed(log).values()) == {None}
    log.set_up()
    assert set(owed(log).values()) == {None}
    log.plan()
    assert set(owed(log).values()) == {"plan"}
    log.accept_plan("site-a")
    assert owed(log) == {"site-a": "train", "site-b": "plan", "site-c": "plan", "site-d": "plan"}
    for site in log.sites[1:]:
        log.accept_plan(site)
    for site in log.sites[:3]:
        log.ready(site)
    assert waiting(log.state).arrived == ("site-a", "site-b", "site-c")
    assert waiting(log.state).enough
    assert not waiting(log.state).complete
    log.open_session()
    for step in STEPS[1:]:
        assert owed(log) == {"site-a": step, "site-b": step, "site-c": step, "site-d": None}
        duty = duties(log.state, "site-a")
        assert duty is not None
        assert duty.sid == log.session.sid
        assert len(duty.answers) == 1
        log.answer(step, "site-a")
        assert owed(log)["site-a"] is None
        for site in ("site-b", "site-c"):
            log.answer(step, site)
        assert waiting(log.state).complete
        log.coordinate()
    assert set(owed(log).values()) == {None}


def test_duties_before_the_run_sign_the_charter() -> None:
    log = StudyLog()
    whole = StudyLog().set_up()
    for entry in whole.entries[:5]:
        log.add(entry.note)
    assert set(owed(log).values()) == {"sign"}
    assert waiting(log.state).expected == log.sites
    for entry in whole.entries[5:7]:
        log.add(entry.note, receipt=False)
    assert owed(log)["site-a"] is None
    assert waiting(log.state).arrived == ("site-a",)


def test_restarted_site_erases_at_once_and_sits_out() -> None:
    # R5.3.2
    log = StudyLog().set_up().to_step("share")
    log.erase("site-d", log.session.sid)
    assert owed(log)["site-d"] is None
    assert waiting(log.state).expected == ("site-a", "site-b", "site-c")
    log.answer_all({"site-d"})
    log.coordinate()
    assert "site-d" not in log.session.u2


def test_site_that_was_silent_owes_an_erasure_before_it_advertises_again() -> None:
    log = StudyLog().set_up().play_round({"upload": ["site-d"]})
    assert owed(log)["site-d"] == "erase"
    log.plan()
    assert owed(log)["site-d"] == "erase"
    log.erase("site-d", log.state.rounds[1].sessions[-1].sid)
    assert owed(log)["site-d"] == "plan"


def test_below_threshold_round_is_aborted_and_the_next_starts_from_the_same_base() -> None:
    log = StudyLog().set_up()
    base = log.state.base
    log.to_step("share", {"share": ["site-c", "site-d"]})
    log.answer_all(set(), {"share": ["site-c", "site-d"]})
    assert waiting(log.state).arrived == ("site-a", "site-b")
    assert not waiting(log.state).enough
    log.abort()
    assert log.state.base == base
    assert waiting(log.state).step == "idle"
    log.play_round()
    assert log.state.closed_rounds[0].round == 2


def test_refusals_are_not_waited_for() -> None:
    log = StudyLog().set_up()
    log.plan()
    for site in log.sites[:3]:
        log.accept_plan(site)
        log.ready(site)
    log.refuse("site-d", "plan", "policy", round=1)
    assert waiting(log.state).complete
    log.open_session()
    for site in log.sites[:3]:
        log.advertise(site)
    log.coordinate()
    log.refuse("site-c", "share", "wrong_digest", round=1)
    assert waiting(log.state).expected == ("site-a", "site-b")
    assert owed(log)["site-c"] is None


def test_second_attempt_before_anything_was_opened() -> None:
    log = StudyLog().set_up().to_step("upload")
    first = log.session.sid
    log.open_session()
    assert log.session.sid != first
    assert owed(log) == dict.fromkeys(log.sites, "erase")
    for site in log.sites:
        log.erase(site, first)
    assert owed(log) == dict.fromkeys(log.sites, "advertise")
    while log.session.step != "aggregate":
        log.answer_all(set())
        log.coordinate()
    log.answer_all(set())
    log.coordinate()
    assert log.state.closed_rounds[0].round == 1


def test_abort_after_consents_goes_on_with_others_once_enough_erased() -> None:
    log = StudyLog().set_up().to_step("unmask", {"upload": ["site-d"]})
    log.abort("operator")
    log.play_round()  # every site erased the first session: to_step did it
    assert set(log.state.rounds[2].sessions[-1].u3) == set(log.sites)


def test_three_sites_are_all_or_abort() -> None:
    log = StudyLog(3).set_up()
    assert log.terms.threshold == 3
    log.play_round()
    log.to_step("advertise")
    log.advertise("site-a")
    assert not waiting(log.state).enough


def test_delivery_failed_for_any_silent_site() -> None:
    log = StudyLog().set_up().to_step("upload")
    for site in log.sites[:3]:
        log.upload(site)
    log.say("coordinator", "delivery.failed", DeliveryFailed(site="site-d", step="upload"), round=1)
    log.coordinate()
    assert "site-d" not in log.session.u3


def test_site_that_erased_after_upload_still_accepts_the_aggregate() -> None:
    log = StudyLog().set_up().to_step("survivors")
    log.erase("site-d", log.session.sid)
    assert owed(log)["site-d"] is None
    while log.session.step != "aggregate":
        log.answer_all(set())
        log.coordinate()
    assert owed(log)["site-d"] == "aggregate"
    log.answer_all(set())
    log.coordinate()
    assert log.state.rounds[1].outcome == "closed"


def test_long_log_of_ten_sites_folds_fast() -> None:
    log = StudyLog(10, training={"rounds": 6}).play(6)
    assert len(log.entries) > 1000
