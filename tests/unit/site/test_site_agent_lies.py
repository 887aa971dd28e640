"""The agent against a coordinator that lies, in the log, in the payloads or over time."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit import law
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.law import Session
from fedmedlora_audit.note import NoteSigner
from fedmedlora_crypto.secagg import HYBRID_SUITE, SUITES
from fedmedlora_site import mirror as mirror_module
from fedmedlora_site.errors import (
    ForkError,
    StepRefusal,
)
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.journal import Journal
from fedmedlora_site.markers import Consent, Markers
from fedmedlora_site.outbox import Outbox
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_site.step import StepContext
from fedmedlora_site.training import RehearsalTrainer
from fedmedlora_testkit.audit_log import seed_of
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.stage_site import ADAPTER

SUITE = SUITES[HYBRID_SUITE]


# -- lies in the payloads and figures, which the law cannot see


def test_an_aggregate_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    # R4.4.1
    async def scene(stage: Stage) -> None:
        await stage.begin("unmasked")
        stage.publish(stage.ring_sum(), next_base="f" * 64)
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert reasons(stage) == [("aggregate", "bad_aggregate")]
    assert not Holdings.open(stage.root).bases.holds("f" * 64)


def test_a_sum_with_an_invented_weight_is_refused(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.begin("unmasked")
        stage.publish(stage.ring_sum(), weight_sum=1)
        await stage.own("step.refused")

    assert reasons(play(tmp_path, scene)) == [("aggregate", "bad_aggregate")]


def test_shares_of_another_session_are_refused(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.begin("shared")
        digest = stage.log.session.shares["site-b"]
        payload = bytearray(stage.blobs[digest])
        # boxes for site-a, site-c and site-d and wraps for the last two end the payload
        payload[-2 * SUITE.wrap_bytes - 3 * SUITE.box_bytes] ^= 1
        stage.blobs[digest] = bytes(payload)  # the real client would refuse the digest already
        stage.log.coordinate()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert [step for step, _ in reasons(stage)] == ["upload"]
    assert not any(event.type == "update.submitted" for event in stage.heard)


# -- what must never happen twice


def test_a_survivor_set_of_a_base_used_elsewhere_is_not_consented_to(tmp_path: Path) -> None:
    # R5.4.2
    """The same base in another log or an earlier run: the two sums' difference could be one update."""

    async def scene(stage: Stage) -> None:
        markers = Markers(stage.root / "markers.jsonl")
        markers.mark_consented(Consent("9" * 64, ADAPTER.digest, ("site-a", "site-b", "site-c")))
        await stage.stop()
        stage.start()
        await stage.begin("uploaded")
        stage.log.coordinate()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert reasons(stage) == [("survivors", "consent_spent")]
    assert not any(event.type == "survivors.agreed" for event in stage.heard)


def test_without_the_markers_it_would_be_consented_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(SessionSteps, "_need_consent", lambda *_: None)

    async def scene(stage: Stage) -> None:
        markers = Markers(stage.root / "markers.jsonl")
        markers.mark_consented(Consent("9" * 64, ADAPTER.digest, ("site-a", "site-b", "site-c")))
        await stage.stop()
        stage.start()
        await stage.opened()
        await stage.round()

    assert reasons(play(tmp_path, scene)) == []


def test_the_same_survivor_set_of_a_base_may_be_consented_to_again(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        markers = Markers(stage.root / "markers.jsonl")
        markers.mark_consented(Consent("9" * 64, ADAPTER.digest, ("site-a", "site-b", "site-c", "site-d")))
        await stage.stop()
        stage.start()
        await stage.opened()
        await stage.round()

    assert reasons(play(tmp_path, scene)) == []


def test_a_released_update_is_not_offered_again(tmp_path: Path) -> None:
    # R5.4.5
    async def scene(stage: Stage) -> None:
        update = f"{stage.log.terms.digest}/1"
        Markers(stage.root / "markers.jsonl").mark_released("9" * 64, update=update)
        await stage.stop()
        stage.start()
        await stage.opened()
        await stage.trained()
        stage.log.open_session()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert reasons(stage) == [("advertise", "spent")]
    assert not any(event.type == "keys.advertised" for event in stage.heard)


def test_a_second_attempt_erases_the_first_before_advertising(tmp_path: Path) -> None:
    # R5.4.1
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        await stage.advertised()
        first = stage.log.session.sid
        await stage.advertised()  # the coordinator opens attempt 2
        types = [event.type for event in stage.heard]
        assert types[-2:] == ["attempt.erased", "keys.advertised"]
        assert [event.sid for event in stage.heard[-2:]] == [first, stage.log.session.sid]
        await stage.shared()
        await stage.uploaded()
        await stage.agreed()
        await stage.unmasked()
        stage.publish(stage.ring_sum())
        await stage.closed()

    assert reasons(play(tmp_path, scene)) == []


# -- a log that breaks the law


async def break_the_law(stage: Stage) -> None:
    await stage.opened()
    await stage.trained()
    stage.log.force("coordinator", "round.plan", of.Base(base="f" * 64), round=2)
    stage.say()
    assert isinstance(await stage.ended(), ForkError)


def test_an_unlawful_log_stops_the_agent_and_is_journalled(tmp_path: Path) -> None:
    stage = play(tmp_path, break_the_law)
    refusals = Journal(stage.root / "run" / "journal.jsonl").refusals
    assert [(r.step, r.reason) for r in refusals] == [("train", "log_forked")]
    assert "R1" in refusals[0].sentence
    assert list((stage.root / "run" / "mirror" / "evidence").iterdir())


@pytest.mark.parametrize("forgetful", [False, True])
def test_a_refusal_whose_journal_was_lost_is_not_signed_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, forgetful: bool
) -> None:
    """R5.2.5: no log would take a second one, and no later event of the site could follow it."""
    if forgetful:
        monkeypatch.setattr(Outbox, "has_refused", lambda *_: False)

    async def scene(stage: Stage) -> None:
        await break_the_law(stage)
        await stage.stop()
        (stage.root / "run" / "journal.jsonl").write_bytes(b"")
        stage.start()
        assert isinstance(await stage.ended(), LawError if forgetful else ForkError)

    held = Holdings.open(play(tmp_path, scene).root)
    assert [refusal.reason for refusal in held.journal.refusals] == ["log_forked"]
    said = [signed for signed in held.outbox.events() if signed.event.type == "step.refused"]
    assert len(said) == (2 if forgetful else 1)


@pytest.mark.parametrize("lie", ["sid", "suite", "short"])
def test_with_another_law_the_sites_own_comparison_still_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """Defence in depth: the law of this site is switched off, its own names still differ."""
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    changes: dict[str, dict[str, object]] = {
        "sid": {"sid": "e" * 64},
        "suite": {"suite": "plain/1"},
        "short": {"ready": ("site-a", "site-b")},
    }
    expected = {"sid": "wrong_sid", "suite": "wrong_charter", "short": "short_roster"}

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        data = stage.log.opening(**changes[lie])  # type: ignore[arg-type]
        stage.log.force("coordinator", "session.opened", data, round=1)
        stage.say()
        await stage.until(lambda: any(event.type == "step.refused" for event in stage.heard))

    stage = play(tmp_path, scene)
    assert reasons(stage) == [("advertise", expected[lie])]
    assert not any(event.type == "keys.advertised" for event in stage.heard)


def test_a_coordinator_that_lost_its_log_is_not_followed(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        stage.wire.ahead = True
        assert isinstance(await stage.ended(), ForkError)

    stage = play(tmp_path, scene)
    refusals = Journal(stage.root / "run" / "journal.jsonl").refusals
    assert [refusal.reason for refusal in refusals] == ["log_forked"]


def test_a_forged_receipt_stops_the_agent(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        forger = NoteSigner.from_seed("coordinator", seed_of("somebody else"))
        stage.wire.receipts = lambda receipt: forger.sign(receipt.decode().split("\n\n")[0] + "\n")
        with suppress(ForkError):
            await stage.opened()
        died = await stage.ended()
        assert isinstance(died, ForkError)
        assert "receipt" in str(died)

    play(tmp_path, scene)


def test_an_encoders_rows_need_enough_sites_among_the_survivors(tmp_path: Path) -> None:
    # R4.2.3
    """G40: site-d alone would move the rows of a type once another annotating site is gone."""
    stage = Stage(tmp_path)
    study = stage.study
    sparse = [
        member.model_copy(update={"annotated": member.annotated if member.id != "site-d" else ()})
        for member in study.members
    ]
    model = study.model.model_copy(update={"kind": "token_classification"})
    held = replace(
        Holdings.open(stage.root),
        study=study.model_copy(update={"members": tuple(sparse), "model": model}),
    )
    steps = SessionSteps(StepContext(held, stage.wire, RehearsalTrainer(), lambda: None))
    session = Session("0" * 64, 1, 1, "update", "plain/1", "0" * 64, (), 0)
    steps._need_support("upload", session, ["site-a", "site-b", "site-c", "site-d"])
    with pytest.raises(StepRefusal) as found:
        steps._need_support("survivors", session, ["site-a", "site-b", "site-d"])
    assert found.value.reason == "short_survivors"
