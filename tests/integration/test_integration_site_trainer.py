"""The real trainer: a child process with torch, an agent without it, and what happens when either dies."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.learning.digest import base_digest
from fedmedlora_core.records import read_notes
from fedmedlora_core.splits import split_by_patient
from fedmedlora_core.study import Study
from fedmedlora_core.validation_counts import ValidationCounts
from fedmedlora_core.vote import is_worse
from fedmedlora_site.errors import TrainingError
from fedmedlora_site.evaluation import CountingJob, EvaluationJob, EvaluationOutcome
from fedmedlora_site.training import (
    TRAINER_COMMAND,
    ProcessTrainer,
    TrainingJob,
    TrainingOutcome,
    TrainingProgress,
    training_seed,
)
from fedmedlora_testkit.models import make_notes, write_causal
from fedmedlora_testkit.training_jobs import small_job

pytestmark = pytest.mark.slow

CANARY = "Zebulon"


@pytest.fixture(scope="module")
def job(tmp_path_factory: pytest.TempPathFactory) -> TrainingJob:
    """A small random model, a study that names it, and notes."""
    notes = [replace(note, text=note.text.replace("daily", CANARY)) for note in make_notes(12)]
    made = small_job(tmp_path_factory.mktemp("trainer"), notes)
    study = Study.from_canonical_json(Path(made.charter).read_bytes())
    assert study.model.digest == base_digest(Path(made.base_model))
    return made


def train(
    trainer: ProcessTrainer, *jobs: TrainingJob
) -> tuple[list[TrainingOutcome], list[TrainingProgress]]:
    said: list[TrainingProgress] = []

    async def act() -> list[TrainingOutcome]:
        try:
            return [await trainer.train(job, said.append) for job in jobs]
        finally:
            await trainer.close()

    return asyncio.run(act()), said


def test_the_child_trains_and_repeats_itself(job: TrainingJob, tmp_path: Path) -> None:
    later = replace(job, round=2, seed=training_seed(7, "site-a", 2))
    log = tmp_path / "trainer.log"
    (first, second), said = train(ProcessTrainer(log), job, later)
    (again,), _ = train(ProcessTrainer(log), later)  # another process, without the first round before it
    assert first.delta.shape == (job.dimension,)
    assert first.delta.any()
    assert second.delta.tobytes() == again.delta.tobytes()
    assert second.loss == again.loss
    assert 0 < first.n_notes < 24  # sentences; validation and test notes are held out
    assert [p.percent for p in said][-1] == 100
    assert not list(Path(job.vault).iterdir())  # the update is gone from the disk once it was taken
    assert CANARY not in log.read_text()


def test_the_child_finds_a_harmful_adapter_worse_and_itself_equal(job: TrainingJob, tmp_path: Path) -> None:
    """R4.7.3: the losses behind a vote, of a real model on held-out notes."""
    initial = Adapter.load(Path(job.adapter))
    same = EvaluationJob(job.charter, job.base_model, job.adapter, job.adapter, job.notes)
    log = tmp_path / "trainer.log"

    async def act() -> list[EvaluationOutcome]:
        trainer = ProcessTrainer(log)
        try:
            delta = (await trainer.train(job, lambda _: None)).delta
            initial.with_vector(initial.vector() + delta).save(tmp_path / "trained")
            initial.with_vector(initial.vector() - 10 * delta).save(tmp_path / "harmful")
            found = [await trainer.evaluate(same)]
            for name in ("trained", "harmful"):
                found.append(await trainer.evaluate(replace(same, after=str(tmp_path / name))))
            with pytest.raises(TrainingError) as refused:
                await trainer.evaluate(replace(same, after=str(tmp_path / "nowhere")))
            assert refused.value.reason == "evaluation_failed"
            return found
        finally:
            await trainer.close()

    equal, better, worse = asyncio.run(act())
    assert equal.before == equal.after == better.before == worse.before
    assert better.after < better.before
    assert is_worse(before=worse.before, after=worse.after, margin_milli=20)
    assert CANARY not in log.read_text()
    assert repr(worse) == "EvaluationOutcome(…)"


def test_the_child_counts_every_mention_of_the_held_out_notes_once(job: TrainingJob, tmp_path: Path) -> None:
    """R4.15.2: found and missed together are what was annotated there, whatever the adapter."""
    asked = CountingJob(job.charter, job.base_model, job.adapter, job.notes)
    study = Study.from_canonical_json(Path(job.charter).read_bytes())
    held_out = split_by_patient(
        read_notes(Path(job.notes)),
        seed=study.splits.seed,
        validation_fraction=study.splits.validation_percent / 100,
        test_fraction=study.splits.test_percent / 100,
    ).validation

    async def act() -> list[ValidationCounts]:
        trainer = ProcessTrainer(tmp_path / "trainer.log")
        try:
            found = [await trainer.count(asked) for _ in range(2)]
            with pytest.raises(TrainingError) as refused:
                await trainer.count(replace(asked, adapter=str(tmp_path / "nowhere")))
            assert refused.value.reason == "evaluation_failed"
            return found
        finally:
            await trainer.close()

    first, again = asyncio.run(act())
    assert first == again
    entities = [e for note in held_out for e in note.entities if e.type in study.labels.entities]
    assert first.entities.micro.tp + first.entities.micro.fn == len(entities) > 0
    assert CANARY not in (tmp_path / "trainer.log").read_text()


def test_a_broken_note_fails_by_file_and_line_without_its_text(job: TrainingJob, tmp_path: Path) -> None:
    broken = tmp_path / "broken.jsonl"
    broken.write_text(Path(job.notes).read_text().replace('"start"', "").replace(CANARY, CANARY + '"', 1))
    with pytest.raises(TrainingError, match=r"broken\.jsonl:1") as found:
        train(ProcessTrainer(tmp_path / "trainer.log"), replace(job, notes=str(broken)))
    assert found.value.reason == "training_failed"
    assert CANARY not in str(found.value)
    assert CANARY not in (tmp_path / "trainer.log").read_text()


def test_another_base_model_fails(job: TrainingJob, tmp_path: Path) -> None:
    other = write_causal(tmp_path / "other", seed=9)
    with pytest.raises(TrainingError, match="another base model"):
        train(ProcessTrainer(tmp_path / "trainer.log"), replace(job, base_model=str(other)))


def test_the_child_dies_with_its_agent(job: TrainingJob) -> None:
    lost = json.dumps(asdict(replace(job, charter="/nonexistent")))
    code = (
        "import subprocess, sys, time\n"
        "pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}\n"
        f"child = subprocess.Popen({list(TRAINER_COMMAND)!r}, **pipes)\n"
        f"child.stdin.write({lost!r}.encode() + b'\\n'); child.stdin.flush()\n"
        "child.stdout.readline()\n"  # an answer: the child is at work
        "print(child.pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    agent = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert agent.stdout is not None
    child = int(agent.stdout.readline())
    assert _alive(child)
    os.kill(agent.pid, signal.SIGKILL)
    agent.wait()
    agent.stdout.close()
    deadline = time.monotonic() + 20
    while _alive(child):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _alive(child: int) -> bool:
    try:
        return Path(f"/proc/{child}/stat").read_text().split()[2] != "Z"
    except FileNotFoundError:
        return False


def test_the_agent_loads_no_torch() -> None:
    code = (
        "import sys, fedmedlora_site.agent, fedmedlora_site.reports, fedmedlora_site.importing\n"
        "print(sorted({'torch', 'transformers', 'peft'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
