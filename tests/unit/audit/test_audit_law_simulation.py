"""Random runs: sites come and go, are late, erase and refuse; the coordinator follows `waiting`.

Failure conditions: the law refuses an answer that `duties` asked for, or a step of the coordinator that
`waiting` allows; a round's lists break an invariant; the sealed log does not verify. Not a failure: rounds
that abort, or a run that ends without any closed round.
"""

from pathlib import Path
from random import Random
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.law import Duty, Session, State, apply, duties, waiting
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog

ROUNDS = 4


def act(log: StudyLog, site: str, duty: Duty) -> None:
    """Do what a duty asks."""
    if duty.step == "plan":
        log.accept_plan(site)
    elif duty.step == "train":
        log.ready(site)
    elif duty.step == "erase":
        assert duty.sid is not None
        log.erase(site, duty.sid)
    else:
        try:
            log.answer(duty.step, site)
        except LawError as error:  # the one thing that a site finds out only by asking the law
            assert (duty.step, error.check) == ("survivors", "G37")
            log.refuse(site, "survivors", "consent_spent", round=log.number)


def site_moves(log: StudyLog, random: Random) -> None:
    """Let some sites do what they owe; now and then one refuses, or loses its secrets and says so."""
    for site in random.sample(log.sites, len(log.sites)):
        duty = duties(log.state, site)
        if duty is None or random.random() < 0.25:
            continue
        session = log.state.session
        if session is not None and duty.step in ("share", "upload", "unmask") and random.random() < 0.1:
            log.erase(site, session.sid)
        elif duty.step in ("plan", "share", "survivors") and random.random() < 0.05:
            log.refuse(site, duty.step, "policy", round=log.number)
        else:
            act(log, site, duty)


def coordinator_moves(log: StudyLog, random: Random) -> bool:
    """Take the coordinator's next step, or abort; say whether the run goes on."""
    now = waiting(log.state)
    if now.step == "idle":
        if len(log.state.rounds) == ROUNDS:
            return False
        log.plan()
    elif (now.complete and now.enough) or (now.enough and random.random() < 0.1):
        if now.step == "train":
            log.open_session()
        elif now.step != "aggregate" or not log.session.disputed:
            try_step(log)
    elif now.complete or random.random() < 0.02:
        log.abort()
    return True


def try_step(log: StudyLog) -> None:
    """Go on, or abort where an opened sum of this base forbids these survivors (G14)."""
    try:
        log.coordinate()
    except LawError as error:
        assert error.check == "G14", error
        log.abort("disagreement")


def check_lists(session: Session, threshold: int) -> None:
    assert set(session.u3) <= set(session.u2) <= set(session.u1) <= set(session.ready)
    for fixed in (session.u1, session.u2, session.u3):
        assert not fixed or len(fixed) >= threshold
    if session.published is not None:
        assert len(session.responses) >= threshold
        assert session.request is not None
        assert not set(session.request.self_of) & set(session.request.pair_of)


@pytest.mark.parametrize("sites", [3, 4, 7])
@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(seed=st.integers(0, 2**32))
def test_random_run_every_duty_is_lawful_and_the_log_verifies(sites: int, seed: int) -> None:
    random = Random(seed)  # noqa: S311 - a reproducible schedule, nothing secret
    log = StudyLog(sites, training={"rounds": ROUNDS}).set_up()
    for _ in range(400):
        site_moves(log, random)
        if not coordinator_moves(log, random):
            break
    for current in log.state.rounds.values():
        for session in current.sessions:
            check_lists(session, log.terms.threshold)
    again = State.begin(log.terms)
    for entry in log.entries:
        apply(again, entry)
    assert again.rounds == log.state.rounds
    with TemporaryDirectory() as folder:
        assert Forger(log).judge(Path(folder) / "bundle").verdict == "pass"


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_any_entry_removed_doubled_or_moved_under_a_fresh_head_fails(data: st.DataObject) -> None:
    made = Forger(PLAYED)
    last = len(made.notes) - 1
    index = data.draw(st.integers(0, last - 1))
    what = data.draw(st.sampled_from(["remove", "double", "move"]))
    if what == "remove":
        del made.notes[index]
    elif what == "double":
        made.notes.insert(data.draw(st.integers(0, last)), made.notes[index])
    else:
        target = data.draw(st.integers(0, last - 1).filter(lambda place: place != index))
        made.notes.insert(target, made.notes.pop(index))
    with TemporaryDirectory() as folder:
        verdict = made.judge(Path(folder) / "bundle")
    assert verdict.verdict == "fail"
    assert verdict.checks["B1"].result == "pass"


PLAYED = StudyLog().play(1)
