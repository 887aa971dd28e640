"""Keys and members over time: what the law admits, what it changes, and what an auditor sees of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit.browsing import Browser
from fedmedlora_audit.errors import LawError, NoteError
from fedmedlora_audit.law import duties, waiting
from fedmedlora_audit.note import (
    ALG_COSIGNATURE,
    ALG_COSIGNATURE_MLDSA,
    ALG_ED25519,
    VerifierKey,
    key_id,
)
from fedmedlora_testkit.audit_attacks.members import later, leave, rotate, rotate_witness, rotation_of
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, witness_of
from fedmedlora_testkit.audit_zoo.members import Changing, changing_log, changing_scene


@pytest.fixture
def log() -> StudyLog:
    return StudyLog().set_up()


# -- keys


def test_from_the_next_entry_on_the_new_key_is_the_members(log: StudyLog) -> None:
    # R2.5.1
    old = log.authors["site-a"]
    rotate(log, "site-a")
    log.plan()
    log.accept_plan("site-a")
    plan = log.state.rounds[1].plan.leaf.hex()
    note = log.draft(
        "site-b", "plan.accepted", of.Base(base=log.state.base), author=old, refs=[plan], round=1
    )
    with pytest.raises((LawError, NoteError)):
        log.judge(note)


def test_a_key_may_change_in_the_middle_of_a_session(log: StudyLog) -> None:
    # R2.5.4: what a site signed finds its place, wherever the others are by then
    log.to_step("upload")
    rotate(log, "site-a")
    log.answer_all(set(), None)
    log.coordinate()
    log.answer_all(set(), None)
    assert set(log.session.u3) == set(log.sites)


def test_a_key_may_change_once_the_run_is_closed(log: StudyLog) -> None:
    log.play_round().finish()
    rotate(log, "site-a")
    log.state.log_closed = True
    with pytest.raises(LawError, match="the log is closed"):
        rotate(log, "site-b")


@pytest.mark.parametrize("algorithm", [ALG_COSIGNATURE, ALG_COSIGNATURE_MLDSA])
def test_a_witness_key_counts_for_the_heads_that_cover_its_rotation(log: StudyLog, algorithm: int) -> None:
    # R2.5.5
    new = later("site-a", algorithm=algorithm)
    data = rotation_of(log, "site-a", new, kind="witness", old=witness_of("site-a"))
    entry = log.say("site-a", "key.rotated", data)
    at = log.state.book.witnesses_at
    assert at(entry.index)["site-a"] == witness_of("site-a").verifier
    assert at(entry.index + 1)["site-a"] == new.verifier
    assert log.authors["site-a"].signer.verifier == log.state.book.events["site-a"]


def test_a_low_order_key_is_no_key(log: StudyLog) -> None:
    # R2.5.3
    low = VerifierKey("site-a", key_id("site-a", ALG_ED25519, bytes(32)), ALG_ED25519, bytes(32))
    data = rotation_of(log, "site-a", later("site-a"))
    note = log.draft("site-a", "key.rotated", data.model_copy(update={"vkey": low.vkey}))
    with pytest.raises(LawError, match="low-order") as caught:
        log.judge(note)
    assert caught.value.check == "K2"


def test_keys_change_again_in_the_next_round(log: StudyLog) -> None:
    rotate(log, "site-a", 1)
    log.plan()
    rotate(log, "site-a", 2)
    assert log.state.book.events["site-a"] == later("site-a", 2).verifier


# -- leaving


def test_who_left_is_asked_nothing_and_awaited_nowhere(log: StudyLog) -> None:
    # R2.5.6
    log.plan()
    leave(log, "site-d")
    assert duties(log.state, "site-d") is None
    assert waiting(log.state).expected == ("site-a", "site-b", "site-c")
    log.abort()
    log.play_round({"train": ["site-d"]})
    assert log.state.rounds[2].outcome == "closed"
    assert log.state.remaining == ("site-a", "site-b", "site-c")


@pytest.mark.parametrize("step", ["advertise", "share", "upload", "survivors", "unmask", "aggregate"])
def test_a_session_goes_on_without_one_that_leaves_in_it(log: StudyLog, step: str) -> None:
    log.to_step(step)
    leave(log, "site-d")
    assert "site-d" not in waiting(log.state).expected
    session = log.session
    while log.state.session is session:
        log.answer_all({"site-d"}, None)
        if session.step == "aggregate":
            break
        log.coordinate()
    if step == "aggregate":  # its leaving is its answer; who left before is named as silent
        log.say("coordinator", "round.closed", log.closed_data(), round=1)
    else:
        log.coordinate()
    assert log.state.rounds[1].outcome == "closed"


def test_who_leaves_has_erased_what_it_did_not_open(log: StudyLog) -> None:
    # R2.5.6
    log.to_step("survivors")
    sid = log.session.sid
    leave(log, "site-d")
    assert log.state.sids[sid].erased_unopened(log.tree.size) == 1


def test_no_round_is_planned_below_the_threshold(log: StudyLog) -> None:
    # R2.5.7
    leave(log, "site-c")
    assert log.state.shortage == ""
    leave(log, "site-d")
    assert log.state.shortage == "2 of 4 members remain and a round needs 3"
    with pytest.raises(LawError, match="2 of 4 members remain"):
        log.plan()


def test_the_model_is_released_by_what_was_accepted_before(log: StudyLog) -> None:
    # R2.5.7
    log.play_round()
    leave(log, "site-c")
    leave(log, "site-d")
    log.finish()
    assert log.state.released == log.state.base


# -- the auditor


def test_a_lawful_study_with_new_keys_and_a_leaver_passes(tmp_path: Path) -> None:
    verdict = changing_scene(tmp_path).judge()
    assert (verdict.verdict, verdict.findings) == ("pass", ())
    assert verdict.exporter == "site-a"
    assert (verdict.checks["K2"].count, verdict.checks["K3"].count) == (2, 3)
    heads = verdict.witnesses.heads
    assert all("site-a" in heads[size].times for size in verdict.witnesses.quorums)


def test_the_keys_do_not_depend_on_the_number_of_cores(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmedlora_audit.opening.PARALLEL_FROM", 1)
    monkeypatch.setattr("fedmedlora_audit.opening.CHUNK", 16)
    assert changing_scene(tmp_path).judge(workers=2).verdict == "pass"


def test_one_looks_at_an_event_with_the_key_of_its_time(tmp_path: Path) -> None:
    scene = changing_scene(tmp_path)
    browser = Browser.open(scene.bundle, scene.trust)
    own = [entry.index for entry in browser.entries if entry.event.actor.id == "site-a"]
    shown = [browser.prove(index) for index in (own[0], own[-1])]
    assert [proven.signature for proven in shown] == ["", ""]
    assert shown[0].entry.event.actor.key != shown[1].entry.event.actor.key
    assert "site-a" in shown[1].witnesses


def test_the_events_that_change_keys_are_never_deleted() -> None:
    made = Changing()
    kept = changing_log().state.retention.events
    assert {made.event(index).type for index in kept} == {"key.rotated", "site.left"}


def test_proofs_are_for_one_log_one_member_and_one_predecessor(log: StudyLog) -> None:
    # R2.5.2
    for lie in ({"origin": ORIGIN + "x"}, {"charter": "0" * 64}, {"old": later("site-a", 9)}):
        note = log.draft("site-a", "key.rotated", rotation_of(log, "site-a", later("site-a"), **lie))
        with pytest.raises(LawError) as caught:
            log.judge(note)
        assert caught.value.check == "K2"
    rotate_witness(log, "site-b")
