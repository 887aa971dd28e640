"""The local training loop: read top to bottom, the same bytes for the same seed.

One round at one site is `local_epochs` passes over its examples with AdamW, with a short warm-up in each
round, because the optimiser's moments start anew there. A step's loss is the mean over its answer tokens,
however its examples are spread over batches and processes.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import torch

from fedmedlora_core.errors import ConfigError, NonFiniteError
from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.checkpoint import CheckpointStore, Position, job_digest, restore, snapshot
from fedmedlora_core.learning.fusing import fused
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import read_adapter
from fedmedlora_core.learning.recomputing import recomputed
from fedmedlora_core.learning.team import ALONE, Team
from fedmedlora_core.learning.terms import TrainTerms

__all__ = [
    "OnStep",
    "TrainResult",
    "TrainingLoop",
    "bucketed_batches",
    "epoch_samples",
    "mean_loss",
    "relation_counts",
    "train_local",
]

OnStep = Callable[[int, int, float], None]
"""(step, steps, loss): called after each step of the optimiser."""

_BUCKET_BATCHES = 16


@dataclass(frozen=True)
class TrainResult:
    """Steps taken, mean training loss of the last epoch (nats per answer token) and answer tokens seen."""

    steps: int
    loss: float
    tokens: int


def train_local(
    learner: Learner,
    samples: Sequence[Any],
    terms: TrainTerms,
    *,
    seed: int,
    on_step: OnStep | None = None,
    team: Team = ALONE,
    checkpoints: CheckpointStore | None = None,
    charter: str = "",
) -> TrainResult:
    """Train the adapter of a learner in place.

    Args:
        learner: Model with adapter; only its trainable parameters change.
        samples: From `learner.samples`; not empty.
        terms: Epochs, batch, rates.
        seed: Order of the examples.
        on_step: Called after each step that is taken here.
        team: The processes that train together.
        checkpoints: Where the state is kept, so that a killed training can go on; None keeps none. A training
            that goes on ends with the bytes of one that was never killed.
        charter: Digest of the study; a kept state of another study is not taken.

    Raises:
        ConfigError: There is nothing to train on (the operator's).
        NonFiniteError: The loss or a gradient is NaN or infinite; the adapter must be discarded.
    """
    if not samples:
        raise ConfigError(
            "there is no training example: no note of this site has annotated types of the study"
        )
    per_epoch = math.ceil(_epoch_size(samples, terms) / terms.step_size)
    steps = min(per_epoch * terms.local_epochs, terms.max_steps or per_epoch * terms.local_epochs)
    loop = TrainingLoop(learner, terms, team)
    job = b"" if checkpoints is None else loop.job(samples, seed, charter)
    with reproducible(seed), fused(learner.model), recomputed(learner.model, wanted=terms.recomputes):
        done = 0 if checkpoints is None else loop.go_on(checkpoints.read(), job)
        batches = _batches(samples, terms, np.random.default_rng(seed))
        for step, batch in islice(zip(range(steps), batches, strict=False), done, None):
            loss = loop.step(batch, terms.rate(step, steps))
            if checkpoints is not None and team.place == 0 and step + 1 < steps and checkpoints.due():
                checkpoints.write(snapshot(job, loop.parameters, loop.optimizer, loop.position))
            if on_step is not None:
                on_step(step + 1, steps, loss)
    losses = loop.position.losses
    last = losses[-per_epoch:]
    return TrainResult(len(losses), sum(last) / len(last), loop.position.tokens)


class Pull:
    """The proximal term of FedProx (Li et al. 2020), as its gradient: mu times the way from the base.

    Added before the clip, because it is a part of the loss that is minimised; the loss that is reported is
    that of the notes alone, so that it means the same under every strategy. It is made before a kept state is
    taken up: the way is from where the round began.

    Args:
        parameters: What trains, as the round begins.
        strength: mu > 0.
    """

    def __init__(self, parameters: Sequence[torch.nn.Parameter], strength: float) -> None:
        """Remember where the round began."""
        self._parameters = parameters
        self._strength = strength
        self._start = [parameter.detach().clone() for parameter in parameters]

    def add(self) -> None:
        """Add the term's gradient to the one that lies there."""
        with torch.no_grad():
            for parameter, start in zip(self._parameters, self._start, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - start, alpha=self._strength)


class TrainingLoop:
    """Optimiser and position of one training.

    Args:
        learner: Model with adapter.
        terms: Epochs, batch, rates.
        team: The processes that train together.
    """

    def __init__(self, learner: Learner, terms: TrainTerms, team: Team = ALONE) -> None:
        """Begin with no step taken."""
        self.parameters = [p for p in learner.model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=terms.learning_rate, weight_decay=terms.weight_decay
        )
        self._pull = Pull(self.parameters, terms.proximal) if terms.proximal else None
        self.position = Position([], 0)
        self._learner = learner
        self._terms = terms
        self._team = team

    def job(self, samples: Sequence[Any], seed: int, charter: str = "") -> bytes:
        """Digest of everything that decides the result: study, whole adapter, examples, terms, seed.

        The study names the base model and the adapter's scale. The adapter goes in with its frozen half,
        which trains nothing and yet decides every gradient.
        """
        adapter = read_adapter(self._learner.model).digest
        return job_digest([charter, adapter, self._terms, seed, *samples])

    def go_on(self, state: bytes | None, job: bytes) -> int:
        """Take up a kept state if it is this job's; returns the steps that were taken."""
        found = None if state is None else restore(state, job, self.parameters, self.optimizer)
        self.position = found or self.position
        return self.position.steps

    def step(self, batch: Sequence[Any], rate: float) -> float:
        """Take one step; refuse a loss or gradient that is not finite before it reaches a parameter."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        counted = sum(sample.counted for sample in batch)
        own, size = self._team.share(batch), self._terms.together
        summed = torch.zeros((), device=self._learner.model.device)
        for first in range(0, len(own), size):
            total, _ = self._learner.loss(own[first : first + size])
            loss = total / counted
            loss.backward()
            summed = summed + loss.detach()
        _fill_gradients(self.parameters)
        value = float(self._team.add_up(self.parameters, summed))
        number = self.position.steps + 1
        if not math.isfinite(value):
            raise NonFiniteError(f"the training loss of step {number} is not finite")
        if self._pull is not None:  # R4.8.1: once, whatever the processes that the loss was added up over
            self._pull.add()
        norm = float(torch.nn.utils.clip_grad_norm_(self.parameters, self._terms.gradient_clip))
        if not math.isfinite(norm):
            raise NonFiniteError(f"the gradient of step {number} is not finite")
        self.optimizer.step()
        self.position.losses.append(value)
        self.position.tokens += counted
        return value


def _fill_gradients(parameters: Sequence[torch.nn.Parameter]) -> None:
    """Give what a step did not use a gradient of zero, as the sum over several processes does.

    AdamW passes over a parameter without a gradient, and keeps neither moments nor a count for it: one
    process would train otherwise than two, and a kept state would not lead to the same bytes.
    """
    for parameter in parameters:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)


def _batches(samples: Sequence[Any], terms: TrainTerms, order: np.random.Generator) -> Iterator[list[Any]]:
    """The batches of all epochs, each epoch drawn when it begins."""
    for _ in range(terms.local_epochs):
        yield from bucketed_batches(epoch_samples(samples, terms, order), terms.step_size, order)


def _epoch_size(samples: Sequence[Any], terms: TrainTerms) -> int:
    """Examples of one epoch."""
    others = sum(1 for sample in samples if sample.task != "re")
    return others + sum(relation_counts(samples, terms))


def relation_counts(samples: Sequence[Any], terms: TrainTerms) -> tuple[int, int]:
    """Count the RE examples of one epoch: those with a tail, and those with none.

    Most heads have no tail, and a tagger that sees them as they come learns to answer "none" for a long time.
    Where fewer have a tail than the share asks for, there are fewer examples, not fewer of these.
    """
    relations = [sample for sample in samples if sample.task == "re"]
    filled = sum(1 for sample in relations if sample.finds)
    empty, others = len(relations) - filled, len(samples) - len(relations)
    room = len(relations)
    if terms.relation_cap is not None and others:
        room = min(room, math.ceil(terms.relation_cap * others))
    share = max(terms.relation_filled or 0.0, filled / max(1, len(relations)))
    kept = min(filled, round(share * room))
    # One at least: a site whose relations are all empty still has something to train on.
    most_empty = max(1, math.ceil(kept / share) - kept) if terms.relation_filled else room
    return kept, min(empty, room - kept, most_empty)


def epoch_samples(samples: Sequence[Any], terms: TrainTerms, order: np.random.Generator) -> list[Any]:
    """Draw the examples of one epoch: every NER example, and RE examples by cap and share."""
    filled, empty = relation_counts(samples, terms)
    if _epoch_size(samples, terms) == len(samples):
        return list(samples)
    others = [sample for sample in samples if sample.task != "re"]
    relations = [sample for sample in samples if sample.task == "re"]
    chosen = []
    for finds, count in ((True, filled), (False, empty)):
        places = [place for place, sample in enumerate(relations) if sample.finds == finds]
        chosen += [places[index] for index in order.permutation(len(places))[:count].tolist()]
    return [*others, *(relations[place] for place in sorted(chosen))]


def bucketed_batches(samples: Sequence[Any], batch_size: int, order: np.random.Generator) -> list[list[Any]]:
    """Shuffle samples into batches of near lengths: padding is work for nothing."""
    shuffled = order.permutation(len(samples)).tolist()
    width = batch_size * _BUCKET_BATCHES
    batches = []
    for first in range(0, len(shuffled), width):
        bucket = sorted(shuffled[first : first + width], key=lambda index: (samples[index].length, index))
        batches += [bucket[start : start + batch_size] for start in range(0, len(bucket), batch_size)]
    return [
        [samples[index] for index in batches[place]] for place in order.permutation(len(batches)).tolist()
    ]


def mean_loss(learner: Learner, samples: Sequence[Any], *, batch_size: int = 32) -> float:
    """Mean loss per answer token over samples, in nats, without training.

    Raises:
        ConfigError: There is no sample (the operator's).
        NonFiniteError: The loss is NaN or infinite.
    """
    if not samples:
        raise ConfigError(
            "there is no validation example: no validation note has annotated types of the study"
        )
    ordered = sorted(samples, key=lambda sample: sample.length)
    total, count = 0.0, 0
    with torch.inference_mode(), reproducible(0):
        for first in range(0, len(ordered), batch_size):
            loss, n_tokens = learner.loss(ordered[first : first + batch_size])
            total += float(loss)
            count += n_tokens
    if not math.isfinite(total):
        raise NonFiniteError("the validation loss is not finite")
    return total / max(1, count)
