"""The trainer as the agent sees it: an interface, the process behind it, and a rehearsal without a model.

Training runs in a process of its own: its libraries, its memory and its crashes stay out of the agent, which
holds keys and never imports torch. The child is long-lived, so that the base model is loaded once. It speaks
JSON lines over its standard streams; the trained update comes back as a file that only this site can read.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import math
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import is_personal
from fedmedlora_core.codec import EXTRAS, FloatVector, RingVector
from fedmedlora_core.errors import CoreError, DataError
from fedmedlora_core.records import check_structure, iter_checked, mentions_in
from fedmedlora_core.scores import MatchScore
from fedmedlora_core.scores.counts import Counts
from fedmedlora_core.validation_counts import ValidationCounts
from fedmedlora_site.config import DeviceName, TrainerSection
from fedmedlora_site.errors import MemoryShortage, TrainingError
from fedmedlora_site.evaluation import (
    COUNT,
    EVALUATE,
    CountingJob,
    EvaluationJob,
    EvaluationOutcome,
    counts_of_line,
)
from fedmedlora_site.personal import load_start, personal_name
from fedmedlora_site.shortage import OUT_OF_MEMORY, death, kernel_kills
from fedmedlora_site.vault import Vault

UPDATE_NAME = "trained"
TRAINER_COMMAND = (sys.executable, "-m", "fedmedlora_site.trainer")
_LINE_BYTES = 1 << 16
_LAST_SECONDS = 10.0  # between the end of a child's output and its own


@dataclass(frozen=True)
class TrainingJob:
    """One round's local training; everything the trainer needs, by path.

    Args:
        charter: The accepted charter (canonical JSON of the study).
        base_model: Folder of the frozen base model; empty for the one in the package.
        adapter: Folder of the global adapter that the round starts from.
        notes: The site's notes.
        vault: Folder for the encrypted result.
        storage_key: File of the key it is encrypted with.
        site: This site's id.
        round: The round.
        seed: Training seed, from study seed, site and round.
        dimension: Values that the update must have.
        extras: Exact integers that will stand behind its weight.
        personal: In mode "sa": folder for what this site trains for itself, encrypted; else empty.
        personal_from: The round whose result of it this one goes on from; 0 for the beginning.
        device: Where the model computes: auto, cpu or cuda.
        processes: How many processes of this site train together, each on a GPU of its own.
        checkpoint_seconds: Least time between two states that a killed training can go on from.
        noise_key: In a study with privacy: file of the 32 bytes that draws and noise follow from, made for
            this training alone and removed after it (R4.13.4); else empty.
        micro_batch: At most so many examples are computed together; 0 for the charter's batch.
        gradient_checkpointing: Whether activations are computed again, even where the charter keeps them.
    """

    charter: str
    base_model: str
    adapter: str
    notes: str
    vault: str
    storage_key: str
    site: str
    round: int
    seed: int
    dimension: int
    extras: int = EXTRAS
    personal: str = ""
    personal_from: int = 0
    device: DeviceName = "auto"
    processes: int = 1
    checkpoint_seconds: float = 300.0
    noise_key: str = ""
    micro_batch: int = 0
    gradient_checkpointing: bool = False


@dataclass(frozen=True)
class TrainingProgress:
    """How far the training is; never a loss, a size or text."""

    epoch: int
    epochs: int
    percent: int


@dataclass(frozen=True, repr=False)
class TrainingOutcome:
    """A trained update. It stays in this process and in the vault.

    Args:
        delta: New minus old adapter, float32 `(d,)`, not clipped.
        n_notes: Size of the site: notes trained on, each counted by its sentences.
        loss: Mean validation loss in nats.
        room: uint32 of the length of the encoding, whose memory begins with `delta`: the update can be
            encoded in it.
        mentions: Label type to its mentions in the training notes.
    """

    delta: FloatVector
    n_notes: int
    loss: float
    room: RingVector | None = None
    mentions: Mapping[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Show nothing: size and loss are the site's own."""
        return "TrainingOutcome(…)"


Report = Callable[[TrainingProgress], None]


class Trainer(Protocol):
    """What the agent asks of a trainer."""

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        """Train one round.

        Deterministic: the same job on the same machine gives the same update. Cancelling stops the work.

        Raises:
            MemoryShortage: The memory did not suffice; the same job may do later, or with less of it.
            TrainingError: No usable update; its reason is "training_failed" or "not_finite".
        """

    async def evaluate(self, job: EvaluationJob) -> EvaluationOutcome:
        """Compare two adapters on the held-out notes; deterministic, and cancelling stops the work.

        Raises:
            TrainingError: No usable result; its reason is "evaluation_failed".
        """

    async def count(self, job: CountingJob) -> ValidationCounts:
        """Count what an adapter finds in the held-out notes; as `evaluate` otherwise."""

    def child_processes(self) -> tuple[int, ...]:
        """Process ids that must die with the agent."""

    async def close(self) -> None:
        """Stop; nothing may be asked afterwards."""


def training_seed(study_seed: int, site: str, round_number: int) -> int:
    """Seed of one site's training in one round, below 2**63 (PROTOCOL §4)."""
    text = f"train|{study_seed}|{site}|{round_number}"
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def trainer_of(section: TrainerSection, log: Path) -> Trainer:
    """Make the trainer that `site.toml` asks for."""
    return RehearsalTrainer() if section.kind == "rehearsal" else ProcessTrainer(log)


class RehearsalTrainer:
    """A small deterministic update without a model: for tests and rehearsals (see `config`).

    It follows from the seed alone and not from the notes, so it needs no noise under differential privacy.
    """

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        """Draw an update from the job's seed."""
        report(TrainingProgress(1, 1, 0))
        await asyncio.sleep(0)
        try:
            notes = list(iter_checked(Path(job.notes), check_structure))
        except DataError as exc:
            raise TrainingError("training_failed", str(exc)) from None
        generator = np.random.Generator(np.random.PCG64(job.seed))
        delta = generator.normal(0.0, 0.004, job.dimension).astype(np.float32)
        loss = float(generator.uniform(0.2, 0.6))
        _rehearse_personal(job, generator)
        report(TrainingProgress(1, 1, 100))
        return TrainingOutcome(delta, max(1, len(notes)), loss, mentions=mentions_in(notes))

    async def evaluate(self, job: EvaluationJob) -> EvaluationOutcome:
        """Take the root mean square of an adapter's values for its loss: large steps are worse ones."""
        await asyncio.sleep(0)
        try:
            before, after = (Adapter.load(Path(folder)).vector() for folder in (job.before, job.after))
        except CoreError as exc:
            raise TrainingError("evaluation_failed", str(exc)) from None
        losses = [float(np.sqrt(np.mean(np.square(v.astype(np.float64))))) for v in (before, after)]
        return EvaluationOutcome(*losses)

    async def count(self, job: CountingJob) -> ValidationCounts:
        """Let the adapter's digest say how many of the mentions it finds: the same at every site."""
        await asyncio.sleep(0)
        try:
            digest = Adapter.load(Path(job.adapter)).digest
            mentions = mentions_in(list(iter_checked(Path(job.notes), check_structure)))
        except CoreError as exc:
            raise TrainingError("evaluation_failed", str(exc)) from None
        share = int(digest[:4], 16)
        found = {label: share * gold >> 16 for label, gold in mentions.items()}
        rows = {label: Counts(tp, 1, mentions[label] - tp) for label, tp in found.items()}
        return ValidationCounts(MatchScore(rows), MatchScore(rows))

    def child_processes(self) -> tuple[int, ...]:
        """None: it works in this process."""
        return ()

    async def close(self) -> None:
        """Nothing to stop."""


def _rehearse_personal(job: TrainingJob, generator: np.random.Generator) -> None:
    """Move what is this site's own by a draw, where the study has such a part."""
    if not job.personal:
        return
    tensors = Adapter.load(Path(job.adapter)).tensors
    names = [name for name in sorted(tensors) if is_personal(name, "sa")]
    vault = Vault(Path(job.personal), Path(job.storage_key).read_bytes())
    before = load_start(vault, job.personal_from)
    if before is None:
        before = np.concatenate([tensors[name].ravel() for name in names])
    step = generator.normal(0.0, 0.004, (before.shape[0],)).astype(np.float32)
    vault.store_floats(personal_name(job.round), before + step)


class ProcessTrainer:
    """The real trainer: `python -m fedmedlora_site.trainer`, started when first needed.

    Args:
        log: File that takes the child's standard error.
        command: What to start; another command only in tests of the protocol.
    """

    def __init__(self, log: Path, command: Sequence[str] = TRAINER_COMMAND) -> None:
        """Keep the log's path; start nothing yet."""
        self._log = log
        self._command = tuple(command)
        self._process: Process | None = None
        self._kills: int | None = None

    def child_processes(self) -> tuple[int, ...]:
        """The child, if it runs."""
        return () if self._process is None or self._process.returncode is not None else (self._process.pid,)

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        """Hand the job to the child and read its lines until the result."""
        return _outcome(await self._ask(asdict(job), report), job)

    async def evaluate(self, job: EvaluationJob) -> EvaluationOutcome:
        """Hand the two adapters to the child, which has model and notes loaded from the training."""
        try:
            answer = await self._ask({EVALUATE: asdict(job)}, lambda _: None)
        except TrainingError as exc:
            raise TrainingError("evaluation_failed", str(exc)) from None
        before, after = answer.get("before"), answer.get("after")
        if not isinstance(before, float) or not isinstance(after, float | None):
            raise TrainingError("evaluation_failed", "the held-out loss of the old adapter is not finite")
        return EvaluationOutcome(before, math.inf if after is None else after)

    async def count(self, job: CountingJob) -> ValidationCounts:
        """Hand the adapter to the child."""
        try:
            answer = await self._ask({COUNT: asdict(job)}, lambda _: None)
        except TrainingError as exc:
            raise TrainingError("evaluation_failed", str(exc)) from None
        return counts_of_line(answer)

    async def _ask(self, job: dict[str, Any], report: Report) -> dict[str, Any]:
        """Send one job and read the child's lines until its result."""
        process, self._kills = await self._running(), kernel_kills()
        finished = False
        try:
            answer = await self._converse(process, job, report)
            finished = True
        finally:
            if (
                not finished
            ):  # cancelled or broken in the middle: what the child does now is nobody's business
                await self.close()
        return answer

    async def close(self) -> None:
        """Kill the child; it keeps nothing that matters."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.kill()
            await process.wait()

    async def _running(self) -> Process:
        if self._process is None or self._process.returncode is not None:
            with self._log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command,
                    stdin=PIPE,
                    stdout=PIPE,
                    stderr=log,
                    env=_environment(),
                    limit=_LINE_BYTES,
                )
        return self._process

    async def _converse(self, process: Process, job: dict[str, Any], report: Report) -> dict[str, Any]:
        if process.stdin is None or process.stdout is None:  # pragma: no cover - both are pipes
            raise TrainingError("training_failed", "the trainer has no pipes")
        try:
            process.stdin.write(json.dumps(job).encode() + b"\n")
            await process.stdin.drain()
            while line := await process.stdout.readline():
                message = json.loads(line)
                if "progress" in message:
                    report(TrainingProgress(**message["progress"]))
                elif "error" in message:
                    raise _failure(str(message["error"]["reason"]), str(message["error"]["message"]))
                else:
                    return dict(message["result"])
        except (ValueError, KeyError, TypeError, ConnectionError):
            raise TrainingError("training_failed", "the trainer broke its protocol") from None
        raise death(await _exit_code(process), self._kills, self._log)


async def _exit_code(process: Process) -> int | None:
    """Wait for the end of a child that has said its last; None if it does not come."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_LAST_SECONDS):
            return await process.wait()
    return None


def _failure(reason: str, message: str) -> TrainingError:
    return MemoryShortage(message) if reason == OUT_OF_MEMORY else TrainingError(reason, message)


def _outcome(answer: dict[str, Any], job: TrainingJob) -> TrainingOutcome:
    """Read the child's result and take its update out of the vault."""
    vault = Vault(Path(job.vault), Path(job.storage_key).read_bytes())
    delta, room = vault.load_floats(UPDATE_NAME, spare=1 + job.extras)
    vault.delete(UPDATE_NAME)
    n_notes, loss, mentions = answer.get("n_notes"), answer.get("loss"), answer.get("mentions", {})
    if not isinstance(n_notes, int) or not isinstance(loss, float) or delta.shape != (job.dimension,):
        raise TrainingError("training_failed", "the trainer's result does not fit the study")
    if not math.isfinite(loss):
        raise TrainingError("not_finite", "the validation loss is not a finite number; nothing was sent")
    if not isinstance(mentions, dict) or not all(isinstance(count, int) for count in mentions.values()):
        raise TrainingError("training_failed", "the trainer's counts of mentions are none")
    return TrainingOutcome(delta, n_notes, loss, room, mentions)


def _environment() -> dict[str, str]:
    """Environment of the child: no network; one thread, since sums over several differ in the last bits."""
    fixed = {
        "HF_HUB_OFFLINE": "1",
        "TRANSFORMERS_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
        "OMP_NUM_THREADS": "1",
        "MKL_NUM_THREADS": "1",
        "PYTHONUNBUFFERED": "1",
    }
    path = os.pathsep.join(entry for entry in sys.path if entry)
    return {**os.environ, **fixed, "PYTHONPATH": path}
