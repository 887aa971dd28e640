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

from fedmedlora_core.codec import WordStream
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.checkpoint import CheckpointStore, snapshot
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.private.gradients import row_gradients
from fedmedlora_core.learning.private.loop import PrivateLoop
from fedmedlora_core.learning.private.self_test import SelfTest
from fedmedlora_core.learning.private.units import units_of
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import OnStep, TrainResult
from fedmedlora_core.privacy_terms import PrivacyTerms
from fedmedlora_core.records import Note
from fedmedlora_core.tasks.examples import Task

__all__ = ["train_private"]


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
        SelfTestError: The mechanism does not do here what it must; nothing was trained.
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
        test = SelfTest(learner, units)
        with row_gradients(learner, recompute=terms.recomputes) as rows:
            test.run(rows, terms, privacy)
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
