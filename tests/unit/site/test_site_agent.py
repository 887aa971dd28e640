"""The agent against an honest and a lying coordinator, through restarts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit import law
from fedmedlora_audit.law import duties as lawful_duties
from fedmedlora_audit.note import NoteSigner
from fedmedlora_core.errors import PolicyRefusal
from fedmedlora_crypto.sealed import TAG_BYTES
from fedmedlora_crypto.shamir import SHARE_BYTES
from fedmedlora_site import mirror as mirror_module
from fedmedlora_site.errors import AcceptanceError, FolderError, ForkError, SiteError, TrainingError
from fedmedlora_site.holdings import FolderLock, Holdings
from fedmedlora_site.journal import Journal
from fedmedlora_site.markers import Consent, Markers
from fedmedlora_site.pins import Pins
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_site.training import RehearsalTrainer, Report, TrainingJob, TrainingOutcome
from fedmedlora_testkit.audit_log import seed_of
from fedmedlora_testkit.stage import ADAPTER, OWN, Stage

BOX_BYTES = 2 * SHARE_BYTES + TAG_BYTES
Scene = Callable[[Stage], Awaitable[None]]


def play(tmp_path: Path, scene: Scene) -> Stage:
    """Run a scene with the agent started."""

    async def act() -> Stage:
        stage = Stage(tmp_path)
        try:
            stage.start()
            await scene(stage)
        finally:
            await stage.stop()
        return stage

    return asyncio.run(act())


def reasons(stage: Stage) -> list[tuple[str, str]]:
    """What the agent refused: (step, reason), from the log."""
    found = [event.data for event in stage.heard if isinstance(event.data, of.StepRefused)]
    journal = [(r.step, r.reason) for r in Journal(stage.root / "run" / "journal.jsonl").refusals]
    logged = [(str(data.step), str(data.reason)) for data in found]
    assert journal == logged
    return logged


def test_two_honest_rounds_lead_to_the_same_adapter_everywhere(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        await stage.round(gone=["site-c"])
        stage.finish()
        assert await stage.ended() is None

    stage = play(tmp_path, scene)
    held = Holdings.open(stage.root)
    assert stage.published is not None
    assert held.mirror.state.released == stage.published.digest
    assert held.bases.adapter(stage.published.digest).vector().tobytes() == stage.published.vector.tobytes()
    assert reasons(stage) == []
    assert held.vault.names() == []  # updates are deleted when their round is over
    assert list((stage.root / "run" / "uploads").iterdir()) == []


class BrokenTrainer(RehearsalTrainer):
    """Gives an update that is not finite."""

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        outcome = await super().train(job, report)
        delta = outcome.delta.copy()
        delta[3] = np.nan
        return replace(outcome, delta=delta)


class FailingTrainer(RehearsalTrainer):
    """Does not get to an update."""

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        raise TrainingError("training_failed", "the disk is full")


@pytest.mark.parametrize(
    ("trainer", "reason"), [(BrokenTrainer(), "not_finite"), (FailingTrainer(), "training_failed")]
)
def test_a_training_without_an_update_is_refused_and_nothing_is_sent(
    tmp_path: Path, trainer: RehearsalTrainer, reason: str
) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        stage.start(trainer)
        stage.log.plan()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert reasons(stage) == [("train", reason)]
    assert not any(event.type == "update.ready" for event in stage.heard)


def test_a_restart_after_advertising_gives_the_session_up(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        await stage.advertised()
        await stage.stop()
        stage.start()
        event = await stage.own("attempt.erased")
        assert event.sid == stage.log.session.sid
        await stage.shared(wait=False)
        await asyncio.sleep(0.1)

    stage = play(tmp_path, scene)
    assert not any(event.type == "shares.sent" for event in stage.heard)
    assert Markers(stage.root / "markers.jsonl").erased(stage.log.session.sid)


def test_a_restart_before_advertising_goes_on_with_the_kept_update(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        kept = Holdings.open(stage.root).vault.load("update-00001")
        await stage.stop()
        stage.start(FailingTrainer())  # it must not train again
        await stage.advertised()
        assert Holdings.open(stage.root).vault.load("update-00001") == kept

    assert reasons(play(tmp_path, scene)) == []


def test_an_event_that_never_arrived_is_sent_again_with_the_same_bytes(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        held = Holdings.open(stage.root)
        stage.log.plan()
        plan = stage.log.state.rounds[1].plan
        held.mirror.extend(
            held.mirror.size,
            [entry.note for entry in stage.log.entries[held.mirror.size :]],
            stage.log.checkpoint(),
            held.outbox.leaf,
        )
        signed = held.outbox.sign(
            type="plan.accepted",
            data=of.Base(base=ADAPTER.digest),
            saw=held.mirror.saw,
            time=datetime.now(UTC),
            round=1,
            refs=[plan.leaf.hex()],
        )
        stage.start()
        await stage.own("update.ready")
        logged = [entry.note for entry in stage.log.entries if entry.event.type == "plan.accepted"]
        assert logged == [signed.note]

    play(tmp_path, scene)


def test_an_outage_is_waited_out(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        stage.wire.down = True
        stage.log.plan()
        await asyncio.sleep(0.1)
        stage.wire.down = False
        await stage.own("update.ready")

    assert reasons(play(tmp_path, scene)) == []


# -- lies in the payloads and figures, which the law cannot see


def test_an_aggregate_that_leads_elsewhere_is_refused(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        await stage.advertised()
        await stage.shared()
        await stage.uploaded()
        await stage.agreed()
        await stage.unmasked()
        stage.publish(stage.ring_sum(), next_base="f" * 64)
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert reasons(stage) == [("aggregate", "bad_aggregate")]
    assert not Holdings.open(stage.root).bases.holds("f" * 64)


def test_a_sum_with_an_invented_weight_is_refused(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        await stage.advertised()
        await stage.shared()
        await stage.uploaded()
        await stage.agreed()
        await stage.unmasked()
        stage.publish(stage.ring_sum(), weight_sum=1)
        await stage.own("step.refused")

    assert reasons(play(tmp_path, scene)) == [("aggregate", "bad_aggregate")]


def test_shares_of_another_session_are_refused(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        await stage.advertised()
        await stage.shared()
        digest = stage.log.session.shares["site-b"]
        payload = bytearray(stage.blobs[digest])
        payload[-3 * BOX_BYTES] ^= 1  # boxes for site-a, site-c and site-d end the payload
        stage.blobs[digest] = bytes(payload)  # the real client would refuse the digest already
        stage.log.coordinate()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert [step for step, _ in reasons(stage)] == ["upload"]
    assert not any(event.type == "update.submitted" for event in stage.heard)


# -- what must never happen twice


def test_a_survivor_set_of_a_base_used_elsewhere_is_not_consented_to(tmp_path: Path) -> None:
    """The same base in another log or an earlier run: the two sums' difference could be one update."""

    async def scene(stage: Stage) -> None:
        markers = Markers(stage.root / "markers.jsonl")
        markers.mark_consented(Consent("9" * 64, ADAPTER.digest, ("site-a", "site-b", "site-c")))
        await stage.stop()
        stage.start()
        await stage.opened()
        await stage.trained()
        await stage.advertised()
        await stage.shared()
        await stage.uploaded()
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


# -- the folder


def test_two_agents_cannot_run_on_one_folder(tmp_path: Path) -> None:
    lock = FolderLock(tmp_path / "run" / "agent.lock")
    with pytest.raises(FolderError, match="another agent"):
        FolderLock(tmp_path / "run" / "agent.lock")
    lock.release()
    FolderLock(tmp_path / "run" / "agent.lock").release()


def test_pins_and_policy_are_compared_again_at_every_start(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()

    stage = play(tmp_path, scene)
    pins = Pins.load(stage.root / "pins.toml")
    (stage.root / "policy.toml").write_text("max_rounds = 1")
    with pytest.raises(PolicyRefusal):
        Holdings.open(stage.root)
    (stage.root / "policy.toml").write_text("")
    swapped = {**pins.members, "site-b": pins.members["site-c"]}
    pins.model_copy(update={"members": swapped}).write(stage.root / "pins.toml")
    with pytest.raises(AcceptanceError, match="site-b"):
        Holdings.open(stage.root)


def test_an_old_backup_does_not_run(tmp_path: Path) -> None:
    """A restored outbox knows fewer own events than the log: its next event would be a second version."""

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()

    stage = play(tmp_path, scene)
    outbox = stage.root / "run" / "outbox"
    sorted(outbox.glob("*.note"))[-1].unlink()
    with pytest.raises(FolderError, match="old backup"):
        Holdings.open(stage.root)


def test_a_run_without_a_model_is_an_error(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        stage.log.say("coordinator", "run.closed", of.RunClosed(rounds=0))
        stage.say()
        assert isinstance(await stage.ended(), SiteError)

    play(tmp_path, scene)


def test_duties_are_the_laws(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        assert lawful_duties(stage.log.state, OWN) is None

    play(tmp_path, scene)
