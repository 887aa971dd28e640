"""DP-SGD on an adapter, read top to bottom (Abadi et al. 2016; PROTOCOL §4.13).

A step: every unit is drawn by itself; each that is drawn gives one of its examples; the gradient of each
example's mean loss over its answer tokens is clipped; their sum gets noise and is divided by a constant;
AdamW steps. Nothing a step does depends on how many units were drawn: the noise, the divisor, the learning
rate and the number of steps are the study's. How many rows are computed together changes time and memory
alone, but for the last bits of a row's gradient.

A training guarantees (epsilon, delta) as the accountants have it for adding or removing one unit, given that
the keystream's key is secret and used for this training only. What comes back of it is the adapter: no loss,
no count of examples.

The clip of `gradient_clip_micro` is not used: a row is bounded by C, and cutting noise down would only make
the rate mean less. FedProx' pull is added after the noise: it follows from the adapter alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fedmedlora_core.codec import WordStream
from fedmedlora_core.errors import ConfigError, NonFiniteError
from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.checkpoint import CheckpointStore, Position, job_digest, restore, snapshot
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import read_adapter
from fedmedlora_core.learning.private.clipped_sum import ClippedSum
from fedmedlora_core.learning.private.draws import Draws
from fedmedlora_core.learning.private.gradients import RowGradients, row_gradients
from fedmedlora_core.learning.private.units import PrivateUnit, units_of
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import OnStep, Pull, TrainResult
from fedmedlora_core.privacy_terms import PrivacyTerms
from fedmedlora_core.records import Note
from fedmedlora_core.tasks.examples import Task

__all__ = ["PrivateLoop", "train_private"]

_FINGERPRINT_STEP = 1 << 40
"""A stretch of the keystream that no step reads: its first words tell one key from another."""


def train_private(
    learner: Learner,
    notes: Sequence[Note],
    tasks: Sequence[Task],
    terms: TrainTerms,
    privacy: PrivacyTerms,
    *,
    noise: WordStream,
    on_step: OnStep | None = None,
    checkpoints: CheckpointStore | None = None,
    charter: str = "",
) -> TrainResult:
    """Train the adapter of a learner in place under differential privacy.

    Args:
        learner: Model with adapter; only its trainable parameters change.
        notes: Training notes.
        tasks: Tasks of the study.
        terms: Batch (rows computed together), rates; epochs and step limits mean nothing here.
        privacy: Unit, mechanism and number of steps.
        noise: Keystream under a key of this training alone (R4.13.4).
        on_step: Called after each step that is taken here; the loss it is given is always 0.
        checkpoints: Where the state is kept, so that a killed training can go on.
        charter: Digest of the study; a kept state of another study is not taken.

    Returns:
        Steps; neither loss nor tokens, which would be exact figures of the notes. The same arguments give the
        same bytes on one machine, also after a kill.

    Raises:
        ConfigError: There is nothing to train on, a library is missing, or the base model is unfit.
        DataError: A note does not say to which unit it belongs.
        NonFiniteError: The adapter left the finite numbers; it must be discarded.
    """
    with reproducible(0):  # nothing draws from torch's generator; should anything, it is the same each time
        units = units_of(learner, notes, tasks, unit=privacy.unit, terms=terms)
        if not any(unit.kinds for unit in units):
            raise ConfigError(
                "there is no training example: no note of this site has annotated types of the study"
            )
        with row_gradients(learner, recompute=terms.recompute) as rows:
            loop = PrivateLoop(rows, terms, privacy, noise)
            job = b"" if checkpoints is None else loop.job(learner, units, charter)
            done = 0 if checkpoints is None else loop.go_on(checkpoints.read(), job)
            for step in range(done, privacy.steps):
                loop.step(loop.draw(units, step), step)
                if checkpoints is not None and step + 1 < privacy.steps and checkpoints.due():
                    checkpoints.write(snapshot(job, loop.parameters, loop.optimizer, loop.position))
                if on_step is not None:
                    on_step(step + 1, privacy.steps, 0.0)
    return TrainResult(privacy.steps, 0.0, 0)


class PrivateLoop:
    """Optimiser and position of one private training.

    Args:
        rows: Gradients of single rows.
        terms: Batch and rates.
        privacy: The mechanism.
        noise: The training's keystream.
    """

    def __init__(
        self, rows: RowGradients, terms: TrainTerms, privacy: PrivacyTerms, noise: WordStream
    ) -> None:
        """Begin with no step taken."""
        self.parameters = rows.parameters
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=terms.learning_rate, weight_decay=terms.weight_decay
        )
        self.position = Position([], 0)
        self._pull = Pull(self.parameters, terms.proximal) if terms.proximal else None
        self._rows = rows
        self._terms = terms
        self._privacy = privacy
        self._noise = noise

    def job(self, learner: Learner, units: Sequence[PrivateUnit], charter: str) -> bytes:
        """Digest of everything that decides the result, the key among it (by words no step reads)."""
        key = self._noise.reader(_FINGERPRINT_STEP << 40)(8)
        adapter = read_adapter(learner.model).digest
        parts = [unit.kinds for unit in units]
        return job_digest([charter, adapter, self._terms, self._privacy, np.array(key).tobytes(), *parts])

    def go_on(self, state: bytes | None, job: bytes) -> int:
        """Take up a kept state if it is this job's; returns the steps that were taken."""
        found = None if state is None else restore(state, job, self.parameters, self.optimizer)
        self.position = found or self.position
        return self.position.steps

    def draw(self, units: Sequence[PrivateUnit], step: int) -> list[Any]:
        """The rows of a step: one of each unit that is drawn; those of near lengths lie together."""
        draws = Draws(self._noise, step)
        chosen = draws.chosen(len(units), self._privacy.sampling_micro)
        rows = [row for place in chosen if (row := units[place].row(draws)) is not None]
        return sorted(rows, key=lambda row: row.length)

    def step(self, batch: Sequence[Any], step: int) -> None:
        """Take one step, also on no row at all.

        Raises:
            NonFiniteError: A parameter is no longer finite.
        """
        rate = self._terms.rate(step, self._privacy.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        total = ClippedSum(self.parameters, self._privacy.clip)
        for first in range(0, len(batch), self._terms.batch_size):
            total.add(self._rows.of(batch[first : first + self._terms.batch_size]))
        draws, privacy = Draws(self._noise, step), self._privacy
        noised = total.noised(draws, privacy.noise_multiplier, privacy.batch_units)
        for parameter, gradient in zip(self.parameters, noised, strict=True):
            parameter.grad = gradient
        if self._pull is not None:
            self._pull.add()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters):
            raise NonFiniteError(f"the adapter of step {step + 1} is not finite")
        self.position.losses.append(0.0)
