"""A trainer without memory: what is seen of it, what the operator is told, and how the training goes on."""

from __future__ import annotations

import errno
import json
import logging
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_core.study import Study
from fedmedlora_site import watching
from fedmedlora_site.config import SiteConfig, TrainerSection
from fedmedlora_site.errors import MemoryShortage
from fedmedlora_site.ledger import Ledger
from fedmedlora_site.shortage import Patience, death, is_shortage, kernel_kills, remedy
from fedmedlora_site.training import UPDATE_NAME, ProcessTrainer, TrainingJob
from fedmedlora_testkit.spending import overrides
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.stage_site import ADAPTER, OWN
from fedmedlora_testkit.studies import changed, make_study

PRIVATE = overrides(rounds=4)
DIES_TWICE = f"""
import json, os, pathlib, signal, sys
job = json.loads(sys.stdin.readline())
tries = pathlib.Path(job["vault"]) / "tries"
tries.parent.mkdir(exist_ok=True)
with tries.open("a") as file:
    file.write(str(pathlib.Path(job["noise_key"]).exists() if job["noise_key"] else None) + "\\n")
if len(tries.read_text().splitlines()) < 3:
    os.kill(os.getpid(), signal.SIGKILL)
import numpy as np
from fedmedlora_site.vault import Vault
vault = Vault(pathlib.Path(job["vault"]), pathlib.Path(job["storage_key"]).read_bytes())
vault.store_floats("{UPDATE_NAME}", np.full({ADAPTER.dimension}, 0.001, dtype=np.float32))
print(json.dumps({{"result": {{"n_notes": 1, "loss": 0.0}}}}), flush=True)
sys.stdin.readline()
"""


def test_the_kernels_count_is_read_where_there_is_one(tmp_path: Path) -> None:
    found = tmp_path / "vmstat"
    assert kernel_kills(found) is None
    found.write_text("nr_free_pages 1\n")
    assert kernel_kills(found) is None
    found.write_text("nr_free_pages 1\noom_kill 7\n")
    assert kernel_kills(found) == 7


@pytest.mark.parametrize(
    ("error", "short"),
    [
        (MemoryError(), True),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("shapes cannot be multiplied"), False),
        (ImportError("libtorch.so: cannot allocate memory in static TLS block"), True),
        (ValueError("a note that says: out of memory"), False),
    ],
)
def test_lack_of_memory_is_told_from_other_faults(error: Exception, short: bool) -> None:
    assert is_shortage(error) is short


def test_what_a_trainer_died_of(tmp_path: Path) -> None:
    log, kills = tmp_path / "trainer.log", kernel_kills()
    seen = death(-signal.SIGKILL, -1 if kills is None else kills - 1, log)
    assert isinstance(seen, MemoryShortage)
    if kills is not None:
        assert "the kernel ended it for lack of memory" in str(seen)
    guessed = death(-signal.SIGKILL, kills, log)
    assert isinstance(guessed, MemoryShortage) and "SIGKILL" in str(guessed)
    assert isinstance(death(128 + signal.SIGKILL, kills, log), MemoryShortage)  # one of a crew
    other = death(-signal.SIGSEGV, kills, log)
    assert not isinstance(other, MemoryShortage)
    assert (other.reason, str(other)) == ("training_failed", f"the trainer died of SIGSEGV; see {log}")
    assert str(death(1, kills, log)) == f"the trainer died; see {log}"


def test_the_remedy_names_only_what_is_left() -> None:
    study = changed(make_study(), "training", batch_size=8)
    said = remedy(study, TrainerSection())
    assert "trainer.gradient_checkpointing = true or trainer.micro_batch = 4 (now 8)" in said
    assert "gradient" not in remedy(study, TrainerSection(gradient_checkpointing=True, micro_batch=2))
    assert "micro_batch = 1 (now 2)" in remedy(study, TrainerSection(micro_batch=2))
    last = remedy(study, TrainerSection(gradient_checkpointing=True, micro_batch=1))
    assert last == "free memory: this site's settings need no less"
    private = Study.model_validate(make_study(overrides=PRIVATE).model_dump(by_alias=True))
    assert "charged as another training" in remedy(private, TrainerSection())


def test_patience_ends_only_without_progress() -> None:
    now = [0.0]
    patience = Patience(60.0, 150.0, lambda: now[0])
    waited = []
    for moment, percent in ((0, 10), (80, 10), (100, 40), (180, 40), (195, 40)):
        now[0] = moment
        patience.got_to(percent)
        waited.append(patience.pause())
    assert waited == [60.0, 60.0, 60.0, 60.0, None]
    assert Patience(60.0, 0.0).pause() is None


def _retrying(root: Path, **settings: Any) -> None:
    path = root / "site.toml"
    config = SiteConfig.load(path)
    trainer = config.trainer.model_copy(update=settings)
    config.model_copy(update={"trainer": trainer}).write(path)


@pytest.mark.parametrize("private", [False, True])
def test_a_killed_trainer_is_started_again_and_nothing_is_refused(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, private: bool
) -> None:
    """Killed twice: one update, and under privacy one charge, whose key never outlives a try (R4.13.5)."""

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        _retrying(stage.root, memory_retry_seconds=0.01)
        stage.start(ProcessTrainer(tmp_path / "trainer.log", (sys.executable, "-c", DIES_TWICE)))
        stage.log.plan()
        stage.say()
        await stage.own("update.ready")
        assert stage.agent is not None and not stage.agent.standing.short

    caplog.set_level(logging.WARNING, "fedmedlora_site.round_steps")
    stage = play(tmp_path, scene, **(PRIVATE if private else {}))
    assert reasons(stage) == []
    tries = (stage.root / "run" / "updates" / "tries").read_text().split()
    assert tries == [str(True) if private else str(None)] * 3
    assert not (stage.root / "run" / "noise.key").exists()
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert all("the trainer died" in line and "trainer.gradient_checkpointing" in line for line in said)
    waits = {**watching.look(stage.root), "running": True, "training_short_of_memory": True}
    assert [a.name for a in watching.alarms(waits) if "lacks memory" in a.sentence] == ["TrainerFailed"]
    told = [event for event in stage.heard if event.type == "dp.spent"]
    assert len(told) == private
    charges = Ledger(stage.root / "ledger.jsonl", stage.root / "ledger.head").charges() if private else []
    assert len(charges) == private


class Short:
    """A trainer that never gets the memory."""

    def __init__(self) -> None:
        self.jobs: list[TrainingJob] = []

    async def train(self, job: TrainingJob, report: object) -> Any:
        self.jobs.append(job)
        raise MemoryShortage("the trainer got no more memory (MemoryError)")

    def child_processes(self) -> tuple[int, ...]:
        return ()

    async def close(self) -> None:
        pass


def test_out_of_patience_the_step_is_refused_with_what_helps(tmp_path: Path) -> None:
    short: Any = Short()

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        _retrying(stage.root, memory_patience_seconds=0, gradient_checkpointing=True, micro_batch=1)
        stage.start(short)
        stage.log.plan()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene)
    assert reasons(stage) == [("train", "training_failed")]
    (job,) = short.jobs
    assert (job.micro_batch, job.gradient_checkpointing) == (1, True)
    (line,) = (tmp_path / OWN / "run" / "journal.jsonl").read_text().splitlines()
    assert json.loads(line)["sentence"] == (
        "the trainer got no more memory (MemoryError); free memory: this site's settings need no less"
    )
