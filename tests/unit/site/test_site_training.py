"""The trainer's interface: its protocol, its failures, and the rehearsal."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_core.records import write_notes
from fedmedlora_site.errors import TrainingError
from fedmedlora_site.training import (
    UPDATE_NAME,
    ProcessTrainer,
    RehearsalTrainer,
    Trainer,
    TrainingJob,
    TrainingOutcome,
    TrainingProgress,
    training_seed,
)
from fedmedlora_site.vault import Vault
from fedmedlora_testkit.rehearsal import plain_notes

KEY = bytes(32)
READ = "import json, sys\njob = json.loads(sys.stdin.readline())\n"
RESULT = 'print(json.dumps({"result": {"n_notes": 4, "loss": LOSS}}), flush=True)\n'


@pytest.fixture
def job(tmp_path: Path) -> TrainingJob:
    (tmp_path / "storage.key").write_bytes(KEY)
    write_notes(tmp_path / "notes.jsonl", plain_notes("site-a", 5))
    return TrainingJob(
        charter=str(tmp_path / "charter.json"),
        base_model="",
        adapter="",
        notes=str(tmp_path / "notes.jsonl"),
        vault=str(tmp_path / "updates"),
        storage_key=str(tmp_path / "storage.key"),
        site="site-a",
        round=2,
        seed=training_seed(7, "site-a", 2),
        dimension=3,
    )


def train(trainer: Trainer, job: TrainingJob) -> tuple[TrainingOutcome, list[TrainingProgress]]:
    said: list[TrainingProgress] = []

    async def act() -> TrainingOutcome:
        try:
            return await trainer.train(job, said.append)
        finally:
            await trainer.close()

    return asyncio.run(act()), said


def child(tmp_path: Path, code: str) -> ProcessTrainer:
    return ProcessTrainer(tmp_path / "trainer.log", (sys.executable, "-c", READ + code))


def test_seeds_differ_by_site_and_round_and_fit_torch() -> None:
    seeds = {training_seed(7, site, number) for site in ("site-a", "site-b") for number in range(1, 50)}
    assert len(seeds) == 98
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_rehearsal_repeats_itself_and_differs_by_round(job: TrainingJob) -> None:
    one, said = train(RehearsalTrainer(), job)
    two, _ = train(RehearsalTrainer(), job)
    other, _ = train(RehearsalTrainer(), replace(job, seed=training_seed(7, "site-a", 3)))
    assert one.delta.tobytes() == two.delta.tobytes()
    assert one.delta.tobytes() != other.delta.tobytes()
    assert one.n_notes == 5
    assert one.delta.dtype == np.float32
    assert [p.percent for p in said] == [0, 100]


def test_the_rehearsal_reads_the_notes_like_the_real_one(job: TrainingJob, tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_text("{\n")
    with pytest.raises(TrainingError, match=r"notes\.jsonl:1"):
        train(RehearsalTrainer(), job)


def test_an_outcome_shows_nothing() -> None:
    outcome = TrainingOutcome(np.array([1.25], dtype=np.float32), 4321, 0.123)
    assert repr(outcome) == "TrainingOutcome(…)"


def test_a_result_is_taken_from_the_vault_and_removed(job: TrainingJob, tmp_path: Path) -> None:
    delta = np.array([0.5, -0.5, 0.25], dtype=np.float32)
    Vault(tmp_path / "updates", KEY).store_floats(UPDATE_NAME, delta)
    progress = 'print(json.dumps({"progress": {"epoch": 1, "epochs": 2, "percent": 40}}), flush=True)\n'
    outcome, said = train(child(tmp_path, progress + RESULT.replace("LOSS", "0.5")), job)
    assert outcome.delta.tolist() == delta.tolist()
    assert (outcome.n_notes, outcome.loss) == (4, 0.5)
    assert said == [TrainingProgress(1, 2, 40)]
    assert not Vault(tmp_path / "updates", KEY).holds(UPDATE_NAME)


@pytest.mark.parametrize(
    ("code", "reason", "sentence"),
    [
        ("sys.exit(3)", "training_failed", "died"),
        ("print('no json', flush=True)", "training_failed", "broke its protocol"),
        ("print('[1]', flush=True)", "training_failed", "broke its protocol"),
        ("print('{\"progress\": {}}', flush=True)", "training_failed", "broke its protocol"),
        (
            'print(json.dumps({"error": {"reason": "not_finite", "message": "NaN"}}), flush=True)',
            "not_finite",
            "NaN",
        ),
    ],
)
def test_a_failing_trainer_is_a_training_error(
    job: TrainingJob, tmp_path: Path, code: str, reason: str, sentence: str
) -> None:
    with pytest.raises(TrainingError, match=sentence) as found:
        train(child(tmp_path, code), job)
    assert found.value.reason == reason


def test_a_loss_that_is_not_finite_is_refused(job: TrainingJob, tmp_path: Path) -> None:
    Vault(tmp_path / "updates", KEY).store_floats(UPDATE_NAME, np.zeros(3, dtype=np.float32))
    with pytest.raises(TrainingError) as found:
        train(child(tmp_path, RESULT.replace("LOSS", "float('nan')")), job)
    assert found.value.reason == "not_finite"


def test_an_update_of_another_shape_is_refused(job: TrainingJob, tmp_path: Path) -> None:
    Vault(tmp_path / "updates", KEY).store_floats(UPDATE_NAME, np.zeros(4, dtype=np.float32))
    with pytest.raises(TrainingError, match="does not fit the study"):
        train(child(tmp_path, RESULT.replace("LOSS", "0.5")), job)


def test_cancelling_kills_the_child(job: TrainingJob, tmp_path: Path) -> None:
    started = 'print(json.dumps({"progress": {"epoch": 1, "epochs": 1, "percent": 1}}), flush=True)\n'
    trainer = child(tmp_path, started + "import time\ntime.sleep(600)")
    pids: list[int] = []

    async def act() -> None:
        running = asyncio.Event()
        task = asyncio.create_task(trainer.train(job, lambda _: running.set()))
        await asyncio.wait_for(running.wait(), 30)
        pids.extend(trainer.child_processes())
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(act())
    assert len(pids) == 1
    assert not Path(f"/proc/{pids[0]}").exists()
    assert trainer.child_processes() == ()
