"""The real trainer without memory: refused by the system, or killed by the kernel in mid-round."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fedmedlora_site.checkpoints import CHECKPOINT_NAME
from fedmedlora_site.errors import MemoryShortage
from fedmedlora_site.shortage import is_shortage
from fedmedlora_site.training import (
    TRAINER_COMMAND,
    ProcessTrainer,
    TrainingJob,
    TrainingOutcome,
    TrainingProgress,
)
from fedmedlora_site.vault import Vault
from fedmedlora_testkit.memory_group import MemoryGroup
from fedmedlora_testkit.models import make_notes
from fedmedlora_testkit.training_jobs import small_job

pytestmark = pytest.mark.slow

LIMITED = """
import resource, runpy, sys
resource.setrlimit(resource.RLIMIT_AS, (600 << 20, 600 << 20))
sys.argv = ["fedmedlora_site.trainer"]
runpy.run_module("fedmedlora_site.trainer", run_name="__main__")
"""


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    return replace(
        small_job(tmp_path_factory.mktemp("trainer"), make_notes(24), batch_size=2, local_epochs=3),
        checkpoint_seconds=0,
    )


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    group = MemoryGroup(1536)
    yield group
    group.close()


def train(
    job: TrainingJob, log: Path, command: Sequence[str] = TRAINER_COMMAND
) -> tuple[TrainingOutcome, list[int]]:
    said: list[int] = []

    async def act() -> TrainingOutcome:
        trainer = ProcessTrainer(log, command)
        try:
            return await trainer.train(job, lambda progress: said.append(progress.percent))
        finally:
            await trainer.close()

    return asyncio.run(act()), said


def test_a_trainer_that_is_refused_memory_says_so(job: TrainingJob, tmp_path: Path) -> None:
    with pytest.raises(MemoryShortage, match="the trainer got no more memory"):
        train(job, tmp_path / "trainer.log", (sys.executable, "-c", LIMITED))
    assert is_shortage(torch.OutOfMemoryError("CUDA out of memory"))
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 58, dtype=torch.uint8)
    assert is_shortage(refused.value)


def test_a_trainer_that_the_kernel_killed_goes_on_from_its_last_state(
    job: TrainingJob, group: MemoryGroup, tmp_path: Path
) -> None:
    log, command = tmp_path / "trainer.log", group.command("fedmedlora_site.trainer")
    whole, _ = train(job, log)

    async def act() -> None:
        trainer = ProcessTrainer(log, command)

        def said(progress: TrainingProgress) -> None:
            if progress.percent >= 30 and group.kills() == 0:
                for process in trainer.child_processes():
                    os.kill(process, signal.SIGSTOP)  # it must not end before the memory does
                group.crowd()

        try:
            with pytest.raises(MemoryShortage, match="the kernel ended it for lack of memory"):
                await trainer.train(job, said)
        finally:
            await trainer.close()

    asyncio.run(act())
    assert group.kills() == 1
    assert Vault(Path(job.vault), bytes(32)).holds(CHECKPOINT_NAME)
    rest, left = train(
        replace(job, gradient_checkpointing=True), log, command
    )  # the operator lowers a setting
    assert left[0] >= 30
    assert rest.delta.tobytes() == whole.delta.tobytes()
    assert list(Path(job.vault).iterdir()) == []
