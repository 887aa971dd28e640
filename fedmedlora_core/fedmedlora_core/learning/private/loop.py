"""One private step after another: draw, clip, add noise, step the optimiser (PROTOCOL §4.13)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from fedmedlora_core.codec import WordStream
from fedmedlora_core.errors import NonFiniteError
from fedmedlora_core.learning.checkpoint import Position, job_digest, restore
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import read_adapter
from fedmedlora_core.learning.private.clipped_sum import ClippedSum
from fedmedlora_core.learning.private.draws import STEP_WORDS, Draws
from fedmedlora_core.learning.private.gradients import RowGradients
from fedmedlora_core.learning.private.units import PrivateUnit
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import Pull
from fedmedlora_core.privacy_terms import PrivacyTerms

__all__ = ["PrivateLoop"]

_UNREAD_STEP = 1 << 40
"""A stretch of the keystream that no step reads: its first words tell one key from another."""


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
        key = self._noise.reader(_UNREAD_STEP * STEP_WORDS)(8)
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

    def summed(self, batch: Sequence[Any]) -> ClippedSum:
        """The clipped gradients of some rows, added up: whoever is added moves it by the clip at most."""
        total = ClippedSum(self.parameters, self._privacy.clip)
        size = 1 if self._rows.alone else self._terms.together
        for first in range(0, len(batch), size):
            total.add(self._rows.of(batch[first : first + size]))
        return total

    def step(self, batch: Sequence[Any], step: int) -> None:
        """Take one step, also on no row at all.

        Raises:
            NonFiniteError: A parameter is no longer finite.
        """
        rate = self._terms.rate(step, self._privacy.steps)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        draws, privacy = Draws(self._noise, step), self._privacy
        noised = self.summed(batch).noised(draws, privacy.noise_multiplier, privacy.batch_units)
        for parameter, gradient in zip(self.parameters, noised, strict=True):
            parameter.grad = gradient
        if self._pull is not None:
            self._pull.add()
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if not all(bool(torch.isfinite(parameter).all()) for parameter in self.parameters):
            raise NonFiniteError(f"the adapter of step {step + 1} is not finite")
        self.position.losses.append(0.0)
