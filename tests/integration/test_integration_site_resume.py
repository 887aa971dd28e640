"""The real trainer killed in the middle of a round, and several of its processes training together."""

from __future__ import annotations

import asyncio
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_core.study import Study
from fedmedlora_site.checkpoints import CHECKPOINT_NAME
from fedmedlora_site.errors import TrainingError
from fedmedlora_site.training import (
    ProcessTrainer,
    TrainingJob,
    TrainingOutcome,
    TrainingProgress,
)
from fedmedlora_site.vault import Vault
from fedmedlora_testkit.models import make_notes
from fedmedlora_testkit.private import private_terms
from fedmedlora_testkit.studies import changed
from fedmedlora_testkit.training_jobs import small_job

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    return small_job(tmp_path_factory.mktemp("trainer"), make_notes(24), batch_size=2, local_epochs=3)


def train(job: TrainingJob, log: Path) -> tuple[TrainingOutcome, list[int]]:
    said: list[int] = []

    async def act() -> TrainingOutcome:
        trainer = ProcessTrainer(log)
        try:
            return await trainer.train(job, lambda progress: said.append(progress.percent))
        finally:
            await trainer.close()

    return asyncio.run(act()), said


def kill_at(job: TrainingJob, log: Path, percent: int) -> None:
    """Kill -9 the trainer's process as soon as it says that it is so far."""

    async def act() -> None:
        trainer = ProcessTrainer(log)

        def said(progress: TrainingProgress) -> None:
            if progress.percent >= percent:
                for process in trainer.child_processes():
                    os.kill(process, signal.SIGKILL)

        try:
            with pytest.raises(TrainingError, match="the trainer died"):
                await trainer.train(job, said)
        finally:
            await trainer.close()

    asyncio.run(act())


@pytest.fixture(scope="module")
def private_job(job: TrainingJob, tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """The same training in a study with privacy, and the key of its draws and noise."""
    root = tmp_path_factory.mktemp("private")
    study = Study.from_canonical_json(Path(job.charter).read_bytes())
    study = changed(study, "aggregation", size_exponent_milli=0)
    study = study.model_copy(update={"privacy": private_terms(steps=80, sampling_micro=700_000)})
    (root / "charter.json").write_bytes(study.canonical_json())
    (root / "noise.key").write_bytes(bytes(range(32)))
    return replace(
        job,
        charter=str(root / "charter.json"),
        vault=str(root / "updates"),
        noise_key=str(root / "noise.key"),
    )


@pytest.mark.long
def test_a_killed_private_training_goes_on_with_the_same_draws_and_noise(
    private_job: TrainingJob, tmp_path: Path
) -> None:
    """R4.13.4: repeated, it is one release; under another key it is another one."""
    log = tmp_path / "trainer.log"
    whole, said = train(private_job, log)
    assert said[0] < 10
    often = replace(private_job, checkpoint_seconds=0)
    for percent in (30, 60):
        kill_at(often, log, percent)
    rest, left = train(often, log)
    assert left[0] >= 60
    assert rest.delta.tobytes() == whole.delta.tobytes()
    assert (rest.n_notes, rest.loss, dict(rest.mentions)) == (1, 0.0, {})
    key = tmp_path / "other.key"
    key.write_bytes(bytes(32))
    other, _ = train(replace(private_job, noise_key=str(key)), log)
    assert other.delta.tobytes() != whole.delta.tobytes()


def test_a_private_training_without_its_key_is_refused(private_job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="noise of a key of its own"):
        train(replace(private_job, noise_key=""), tmp_path / "trainer.log")


def test_a_killed_training_goes_on_and_ends_with_the_same_bytes(job: TrainingJob, tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    whole, said = train(job, log)
    assert said[0] < 10
    often = replace(job, checkpoint_seconds=0)
    for percent in (30, 60):  # killed twice
        kill_at(often, log, percent)
        assert Vault(Path(job.vault), bytes(32)).holds(CHECKPOINT_NAME)
    rest, left = train(often, log)
    assert left[0] >= 60  # nothing before it was trained again
    assert rest.delta.tobytes() == whole.delta.tobytes()
    assert (rest.loss, rest.n_notes) == (whole.loss, whole.n_notes)
    assert list(Path(job.vault).iterdir()) == []  # neither update nor state is left


@pytest.mark.long
def test_without_states_a_killed_training_begins_anew(job: TrainingJob, tmp_path: Path) -> None:
    """The test above would fail if states were not kept."""
    log = tmp_path / "trainer.log"
    kill_at(job, log, 30)
    assert list(Path(job.vault).glob("*.sealed")) == []
    assert train(job, log)[1][0] < 10


@pytest.mark.long
def test_a_state_of_another_round_is_not_gone_on_from(job: TrainingJob, tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    later = replace(job, round=2, seed=job.seed + 1)
    whole, _ = train(later, log)
    kill_at(replace(job, checkpoint_seconds=0), log, 30)
    again, said = train(later, log)
    assert said[0] < 10
    assert again.delta.tobytes() == whole.delta.tobytes()


@pytest.mark.long
def test_two_processes_train_what_one_does(job: TrainingJob, tmp_path: Path) -> None:
    """Real processes that add their gradients up with Accelerate; here over gloo, on CPUs."""
    log = tmp_path / "trainer.log"
    study = Study.from_canonical_json(Path(job.charter).read_bytes())
    # Few and small steps: in many large ones AdamW carries the last bits of a gradient anywhere.
    study = changed(study, "training", batch_size=16, local_epochs=1, learning_rate_micro=500)
    (tmp_path / "charter.json").write_bytes(study.canonical_json())
    job = replace(job, charter=str(tmp_path / "charter.json"))
    alone, said = train(job, log)
    together, said_together = train(replace(job, processes=2), log)
    again, _ = train(replace(job, processes=2), log)
    assert said_together == said
    assert together.delta.tobytes() == again.delta.tobytes()
    scale = float(np.abs(alone.delta).max())
    assert 0 < float(np.abs(together.delta - alone.delta).max()) < 0.02 * scale


def test_a_dead_member_ends_the_training(job: TrainingJob, tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"

    async def act() -> None:
        trainer = ProcessTrainer(log)

        def said(progress: TrainingProgress) -> None:
            if progress.percent >= 10:
                for process in trainer.child_processes():
                    for member in _children(process):
                        os.kill(member, signal.SIGKILL)

        try:
            with pytest.raises(TrainingError, match=r"the trainer died|RuntimeError"):
                await asyncio.wait_for(trainer.train(replace(job, processes=2), said), timeout=600)
        finally:
            await trainer.close()

    asyncio.run(act())


def _children(process: int) -> list[int]:
    return [int(c) for c in Path(f"/proc/{process}/task/{process}/children").read_text().split()]


def test_more_gpus_than_there_are_is_refused_by_all(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"needs 2 CUDA GPUs"):
        train(replace(job, device="cuda", processes=2), tmp_path / "trainer.log")
