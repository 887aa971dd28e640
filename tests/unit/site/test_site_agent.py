"""The agent through honest rounds, failures, restarts and outages."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from fedmedlora_audit import event_data as of
from fedmedlora_audit.bundle import read_files
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_core.errors import PolicyRefusal
from fedmedlora_crypto.sealed import TAG_BYTES
from fedmedlora_crypto.shamir import SHARE_BYTES
from fedmedlora_site import agent, reports
from fedmedlora_site.checkpoints import VaultCheckpoints
from fedmedlora_site.errors import (
    AcceptanceError,
    FolderError,
    SiteError,
    TrainingError,
)
from fedmedlora_site.holdings import FolderLock, Holdings
from fedmedlora_site.markers import Markers
from fedmedlora_site.pins import Pins
from fedmedlora_site.training import RehearsalTrainer, Report, TrainingJob, TrainingOutcome
from fedmedlora_site.vault import Vault
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.stage_site import ADAPTER, OWN
from fedmedlora_testkit.tsa import recorded_stamp

BOX_BYTES = 2 * SHARE_BYTES + TAG_BYTES


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


class SlowTrainer(RehearsalTrainer):
    """Trains until it is stopped, and writes a state of it at the last moment."""

    def __init__(self) -> None:
        self.trains = False

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        vault = Vault(Path(job.vault), Path(job.storage_key).read_bytes())
        endless: asyncio.Future[TrainingOutcome] = asyncio.Future()
        self.trains = True
        try:
            return await endless
        finally:
            VaultCheckpoints(vault, 0).write(b"half an adapter")


def test_a_training_of_an_aborted_round_leaves_no_state(tmp_path: Path) -> None:
    trainer = SlowTrainer()

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        await stage.stop()
        stage.start(trainer)
        stage.log.plan()
        stage.say()
        await stage.until(lambda: trainer.trains)
        stage.log.abort()
        stage.finish()  # nothing wakes the agent between the two
        assert await stage.ended() is None

    assert Holdings.open(play(tmp_path, scene).root).vault.names() == []


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


def test_an_event_that_comes_too_late_costs_the_session_and_nothing_more(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.trained()
        stage.wire.held_back.add("keys.advertised")
        await stage.advertised(wait=False)
        first = stage.log.session.sid
        await stage.until(lambda: "keys.advertised" in stage.wire.on_their_way)
        stage.log.coordinate()  # U1 without this site
        stage.say()
        stage.wire.held_back.clear()
        await stage.own("keys.advertised")
        stage.log.abort()
        stage.say()
        await stage.own("attempt.erased")
        assert stage.heard[-1].sid == first
        await stage.round()
        stage.finish()
        assert await stage.ended() is None

    assert reasons(play(tmp_path, scene)) == []


def test_an_outage_is_waited_out(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        stage.wire.down = True
        stage.log.plan()
        await asyncio.sleep(0.1)
        stage.wire.down = False
        await stage.own("update.ready")

    assert reasons(play(tmp_path, scene)) == []


# -- the folder


def test_without_notes_there_is_nothing_to_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    (stage.root / "data" / "notes.jsonl").unlink()
    with pytest.raises(FolderError, match="site import"):
        agent.run(stage.root)


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


def test_status_bundle_and_trust_come_from_the_mirror_and_the_pins(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        found = reports.status(stage.root)  # beside the running agent
        assert (found["site"], found["study"], found["refusals"]) == (OWN, "trial", 0)
        stage.finish()
        assert await stage.ended() is None

    stage = play(tmp_path, scene)
    found = reports.status(stage.root)
    assert (found["rounds_closed"], found["run_closed"], found["step"]) == (1, True, "closed")
    assert found["released"] == found["base"]
    reports.export_bundle(stage.root, tmp_path / "bundle")
    reports.write_trust(stage.root, tmp_path / "trust.json")
    verdict = verify_bundle(tmp_path / "bundle", Trust.load(tmp_path / "trust.json"))
    assert verdict.verdict == "pass"
    reports.export_bundle(stage.root, tmp_path / "bundle.tar.gz")
    assert read_files(tmp_path / "bundle.tar.gz") == read_files(tmp_path / "bundle")
    pem = tmp_path / "tsa.pem"
    pem.write_bytes(recorded_stamp()[2].public_bytes(Encoding.PEM))
    reports.write_trust(stage.root, tmp_path / "stamped.json", tsa_certificates=pem)
    assert Trust.load(tmp_path / "stamped.json").tsa_certificates == (recorded_stamp()[2],)
    with pytest.raises(FolderError, match="no PEM certificate"):
        reports.write_trust(stage.root, tmp_path / "no.json", tsa_certificates=tmp_path / "missing.pem")
    pins = Pins.load(stage.root / "pins.toml")
    swapped = {**pins.members, "site-b": pins.members["site-c"]}
    pins.model_copy(update={"members": swapped}).write(stage.root / "pins.toml")
    with pytest.raises(AcceptanceError):
        reports.write_trust(stage.root, tmp_path / "trust.json")


def test_without_a_log_there_is_nothing_to_show(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    assert reports.status(stage.root)["log_size"] == 0
    with pytest.raises(FolderError, match="run it first"):
        reports.export_bundle(stage.root, tmp_path / "bundle")
