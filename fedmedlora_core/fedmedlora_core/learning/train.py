"""The local training loop: read top to bottom, the same bytes for the same seed.

One round at one site is `local_epochs` passes over its examples with AdamW. The learning rate falls in a
straight line over all rounds of the study to a tenth, with a short warm-up in each round, because the
optimiser's moments start anew there.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from fedmedlora_core.errors import ConfigError, NonFiniteError
from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.fusing import fused
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.study import Study

__all__ = [
    "OnStep",
    "TrainResult",
    "TrainTerms",
    "bucketed_batches",
    "epoch_samples",
    "mean_loss",
    "train_local",
]

OnStep = Callable[[int, int, float], None]
"""(step, steps, loss): called after each step of the optimiser."""

_BUCKET_BATCHES = 16
_FINAL_FRACTION = 0.1


@dataclass(frozen=True)
class TrainTerms:
    """Local training of one round; a round's place in the schedule decides its learning rates.

    Args:
        local_epochs: Passes over the examples; >= 1.
        batch_size: Examples in a step; >= 1.
        learning_rate: At the start of the study; > 0.
        warmup_steps: Steps of linear warm-up at the start of the round.
        weight_decay: Of AdamW.
        gradient_clip: Largest L2 norm of a step's gradient; > 0.
        round: This round, from 1.
        rounds: All rounds of the study.
        relation_cap: RE examples of an epoch for each NER example, drawn anew for each epoch; None for all.
            A sentence has one NER example and one RE example for each of its entities, which all show the
            same words: without a cap they take most of the time.
        max_steps: Stop the round after so many steps; None for whole epochs.
        proximal: mu of FedProx: mu / 2 times the squared distance to the round's base adapter is added to the
            loss of every step; 0 for none.
    """

    local_epochs: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 0
    weight_decay: float = 0.0
    gradient_clip: float = 1.0
    round: int = 1
    rounds: int = 1
    relation_cap: float | None = None
    max_steps: int | None = None
    proximal: float = 0.0

    @classmethod
    def of(cls, study: Study, round_number: int) -> TrainTerms:
        """Terms of one round of a study."""
        terms = study.training
        return cls(
            local_epochs=terms.local_epochs,
            batch_size=terms.batch_size,
            learning_rate=terms.learning_rate_micro / 1e6,
            warmup_steps=terms.warmup_steps,
            weight_decay=terms.weight_decay_micro / 1e6,
            gradient_clip=terms.gradient_clip_micro / 1e6,
            round=round_number,
            rounds=terms.rounds,
            relation_cap=terms.relation_cap_percent / 100 if terms.relation_cap_percent else None,
            proximal=(terms.proximal_micro or 0) / 1e6,
        )

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step `step` (from 0) of the `steps` of this round."""
        progress = (self.round - 1 + step / steps) / self.rounds
        warmup = min(1.0, (step + 1) / self.warmup_steps) if self.warmup_steps else 1.0
        return self.learning_rate * warmup * (1.0 - (1.0 - _FINAL_FRACTION) * progress)


@dataclass(frozen=True)
class TrainResult:
    """Steps taken, mean training loss of the last epoch (nats per answer token) and answer tokens seen."""

    steps: int
    loss: float
    tokens: int


def train_local(
    learner: Learner, samples: Sequence[Any], terms: TrainTerms, *, seed: int, on_step: OnStep | None = None
) -> TrainResult:
    """Train the adapter of a learner in place.

    Args:
        learner: Model with adapter; only its trainable parameters change.
        samples: From `learner.samples`; not empty.
        terms: Epochs, batch, rates.
        seed: Order of the examples.
        on_step: Called after each step.

    Raises:
        ConfigError: There is nothing to train on (the operator's).
        NonFiniteError: The loss or a gradient is NaN or infinite; the adapter must be discarded.
    """
    if not samples:
        raise ConfigError(
            "there is no training example: no note of this site has annotated types of the study"
        )
    per_epoch = math.ceil(_epoch_size(samples, terms.relation_cap) / terms.batch_size)
    steps = min(per_epoch * terms.local_epochs, terms.max_steps or per_epoch * terms.local_epochs)
    parameters = [p for p in learner.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=terms.learning_rate, weight_decay=terms.weight_decay)
    pull = _Pull(parameters, terms.proximal) if terms.proximal else None
    losses: list[float] = []
    tokens = 0
    with reproducible(seed), fused(learner.model):
        order = np.random.default_rng(seed)
        batches = (
            batch
            for _ in range(terms.local_epochs)
            for batch in bucketed_batches(
                epoch_samples(samples, terms.relation_cap, order), terms.batch_size, order
            )
        )
        for step, batch in zip(range(steps), batches, strict=False):
            for group in optimizer.param_groups:
                group["lr"] = terms.rate(step, steps)
            loss, n_tokens = _step(
                learner, batch, optimizer, parameters, terms.gradient_clip, step=step, pull=pull
            )
            losses.append(loss)
            tokens += n_tokens
            if on_step is not None:
                on_step(step + 1, steps, loss)
    last = losses[-per_epoch:]
    return TrainResult(len(losses), sum(last) / len(last), tokens)


class _Pull:
    """The proximal term of FedProx (Li et al. 2020), as its gradient: mu times the way from the base.

    Added before the clip, because it is a part of the loss that is minimised; the loss that is reported is
    that of the notes alone, so that it means the same under every strategy.
    """

    def __init__(self, parameters: list[torch.nn.Parameter], strength: float) -> None:
        self._parameters = parameters
        self._strength = strength
        self._start = [parameter.detach().clone() for parameter in parameters]

    def add(self) -> None:
        """Add the term's gradient to the one that lies there."""
        with torch.no_grad():
            for parameter, start in zip(self._parameters, self._start, strict=True):
                if parameter.grad is not None:
                    parameter.grad.add_(parameter - start, alpha=self._strength)


def _step(
    learner: Learner,
    batch: Sequence[Any],
    optimizer: torch.optim.Optimizer,
    parameters: list[torch.nn.Parameter],
    gradient_clip: float,
    *,
    step: int,
    pull: _Pull | None,
) -> tuple[float, int]:
    """Take one step; refuse a loss or gradient that is not finite before it reaches a parameter."""
    optimizer.zero_grad(set_to_none=True)
    total, n_tokens = learner.loss(batch)
    loss = total / n_tokens
    value = float(loss.detach())
    if not math.isfinite(value):
        raise NonFiniteError(f"the training loss of step {step + 1} is not finite")
    loss.backward()  # type: ignore[no-untyped-call]
    # R4.8.1
    if pull is not None:
        pull.add()
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, gradient_clip))
    if not math.isfinite(norm):
        raise NonFiniteError(f"the gradient of step {step + 1} is not finite")
    optimizer.step()
    return value, n_tokens


def _epoch_size(samples: Sequence[Any], relation_cap: float | None) -> int:
    """Examples of one epoch."""
    relations = sum(1 for sample in samples if sample.task == "re")
    others = len(samples) - relations
    if relation_cap is None or not others:
        return len(samples)
    return others + min(relations, math.ceil(relation_cap * others))


def epoch_samples(
    samples: Sequence[Any], relation_cap: float | None, order: np.random.Generator
) -> list[Any]:
    """Draw the examples of one epoch: every NER example, and RE examples up to the cap."""
    size = _epoch_size(samples, relation_cap)
    if size == len(samples):
        return list(samples)
    relations = [sample for sample in samples if sample.task == "re"]
    others = [sample for sample in samples if sample.task != "re"]
    chosen = order.permutation(len(relations))[: size - len(others)]
    return [*others, *(relations[index] for index in sorted(chosen.tolist()))]


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
