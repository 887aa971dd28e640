"""What must hold before the first private step (R4.13.8): what does nothing looks like what works.

Loss falls and epsilon is spent also where adapters are frozen, hooks are missing, the mean of a batch is
clipped instead of its rows, or no noise arrives. So each training tries its own parts on a few of the site's
examples first, and does not begin unless

* something trains, and the rows' gradients are finite, differ, and are those that the model gives for each
  row alone without any hook;
* rows are clipped one by one: the sum of a batch is that of its rows, each at most C long, and a planted
  outlier moves it by C and no more;
* a step on nobody is noise of C * multiplier / divisor, and noise does not depend on who is in the step;
* a step changes every part of the adapter that trains, and the adapter changes what the model says.

It reads no word of the training's keystream: its own noise is public, and thrown away with what it trained.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from fedmedlora_core.codec import RingVector
from fedmedlora_core.errors import SelfTestError
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.private.clipped_sum import GRID, ClippedSum, row_norms
from fedmedlora_core.learning.private.draws import Draws
from fedmedlora_core.learning.private.gradients import RowGradients
from fedmedlora_core.learning.private.loop import PrivateLoop
from fedmedlora_core.learning.private.units import PrivateUnit
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.privacy_terms import PrivacyTerms

__all__ = ["SelfTest"]

_PROBES = 4
_NEAR = 0.1
"""Share by which a row's gradient may differ from the one computed alone: bfloat16 rounds by the batch."""
_OUTLIER = 1e6


class SelfTest:
    """Tries the mechanism on a few examples of a site; made before the model is hooked.

    Args:
        learner: Model with adapter.
        units: Whose first examples are tried.

    Raises:
        SelfTestError: There are no two different examples, or nothing trains.
    """

    def __init__(self, learner: Learner, units: Sequence[PrivateUnit]) -> None:
        """Compute the gradients of some examples, each alone and without hooks."""
        self._learner = learner
        trainable = [p for p in learner.model.parameters() if p.requires_grad]
        if not trainable:
            raise SelfTestError("nothing of the adapter trains")
        self._batch: list[Any] = []
        self._alone: list[Sequence[torch.Tensor | None]] = []
        for sample in _different(units):
            gradient = torch.autograd.grad(learner.row_losses([sample])[0], trainable, allow_unused=True)
            # Training counts a row that is not finite as zero: no single patient decides whether it begins.
            if all(part is None or bool(torch.isfinite(part).all()) for part in gradient):
                self._batch.append(sample)
                self._alone.append(gradient)
            if len(self._batch) == _PROBES:
                break
        if len(self._batch) < 2:
            raise SelfTestError("there are no two different training examples with finite gradients")

    def run(self, rows: RowGradients, terms: TrainTerms, privacy: PrivacyTerms) -> None:
        """Try every part; afterwards model and adapter are as before.

        Raises:
            SelfTestError: Something does not do what it must; no example is named.
        """
        norms = self._check_rows(rows.of(self._batch))
        self._batch = [self._batch[place] for place in norms.argsort(descending=True).tolist()]
        _check_sum(rows, self._batch, privacy)
        _check_noise(rows, self._batch, privacy)
        self._check_step(rows, terms, privacy)

    def _check_rows(self, gradients: Sequence[torch.Tensor]) -> torch.Tensor:
        """Rows are finite, differ, and are those of the examples alone; returns their norms."""
        norms = row_norms(gradients)
        if not bool(torch.isfinite(norms).all()):
            raise SelfTestError("the gradient of a single example is not finite")
        if float(norms.max()) <= float(norms.min()) * (1 + 1e-6):
            raise SelfTestError("gradients of different examples do not differ")
        for row, alone in enumerate(self._alone):
            wanted = [_or_zero(part, rows[row]) for part, rows in zip(alone, gradients, strict=True)]
            apart = [(part - rows[row])[None] for part, rows in zip(wanted, gradients, strict=True)]
            if not float(row_norms(apart)) <= _NEAR * float(row_norms([part[None] for part in wanted])):
                raise SelfTestError("the gradient of a row is not the one of its example")
        return norms

    def _check_step(self, rows: RowGradients, terms: TrainTerms, privacy: PrivacyTerms) -> None:
        """A step moves the adapter, and the adapter the output."""
        before = [parameter.detach().clone() for parameter in rows.parameters]
        said = self._said()
        try:
            PrivateLoop(rows, terms, privacy, PublicWords()).step(self._batch, 0)
            moved = [not torch.equal(old, new) for old, new in zip(before, rows.parameters, strict=True)]
            changed = not torch.equal(said, self._said())
        finally:
            with torch.no_grad():
                for parameter, old in zip(rows.parameters, before, strict=True):
                    parameter.copy_(old)
        if not all(moved):
            raise SelfTestError("a step leaves a part of the adapter as it was")
        if not changed:
            raise SelfTestError("the adapter does not change what the model says")

    def _said(self) -> torch.Tensor:
        with torch.no_grad():
            return self._learner.row_losses(self._batch)


class PublicWords:
    """Fixed words for trying things out; nothing that is made from them may be kept."""

    def reader(self, start: int) -> Callable[[int], RingVector]:
        """Give consecutive words from word `start` on."""
        calls = 0

        def read(count: int) -> RingVector:
            nonlocal calls
            calls += 1
            name = f"fedmedlora/self-test/1|{start}|{calls}".encode()
            return np.frombuffer(hashlib.shake_256(name).digest(4 * count), dtype="<u4")

        return read


def _different(units: Sequence[PrivateUnit]) -> Iterator[Any]:
    """Examples with different tokens, the first one of each unit before the second one of any."""
    found: set[Any] = set()
    everything = [unit.samples for unit in units]
    for place in range(max(map(len, everything), default=0)):
        for samples in everything:
            if place < len(samples) and samples[place].ids not in found:
                found.add(samples[place].ids)
                yield samples[place]


def _check_sum(rows: RowGradients, batch: Sequence[Any], privacy: PrivacyTerms) -> None:
    """Each row is clipped by itself, and an outlier moves the sum by C and no more."""
    clip = privacy.clip

    def summed(gradients: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        total = ClippedSum(rows.parameters, clip)
        total.add([part.clone() for part in gradients])
        return total.sums

    def length(sums: Sequence[torch.Tensor]) -> float:
        return float(row_norms([part[None] for part in sums])) * clip / GRID

    gradients = rows.of(batch, [_OUTLIER] + [1.0] * (len(batch) - 1))
    singles = [summed([part[row : row + 1] for part in gradients]) for row in range(len(batch))]
    if any(length(single) > clip for single in singles):
        raise SelfTestError("a row is longer than the clip")
    whole, others = summed(gradients), summed([part[1:] for part in gradients])
    for part, *single in zip(whole, *singles, strict=True):
        if not torch.equal(part, torch.stack(single).sum(0)):
            raise SelfTestError("the sum of a batch is not the sum of its rows, each clipped alone")
    moved = length([one - other for one, other in zip(whole, others, strict=True)])
    if not 0.9 * clip <= moved <= clip:
        raise SelfTestError("a planted outlier does not move the sum by the clip")


def _check_noise(rows: RowGradients, batch: Sequence[Any], privacy: PrivacyTerms) -> None:
    """Noise has its size on an empty step, and the same one beside some rows."""

    def noised(total: ClippedSum) -> torch.Tensor:
        draws = Draws(PublicWords(), 0)
        parts = total.noised(draws, privacy.noise_multiplier, privacy.batch_units)
        return torch.cat([part.flatten().double() for part in parts])

    empty, some = ClippedSum(rows.parameters, privacy.clip), ClippedSum(rows.parameters, privacy.clip)
    some.add(rows.of(batch))
    nobody, somebody = noised(empty), noised(some)
    wanted = privacy.clip * privacy.noise_multiplier / privacy.batch_units
    spread = math.sqrt(float(nobody.square().mean())) / wanted
    if not abs(spread - 1) < 6 / math.sqrt(2 * len(nobody)) + 1e-3:
        raise SelfTestError("the noise of a step has another size than the study says")
    added = torch.cat([part.flatten() for part in some.sums]) * (privacy.clip / GRID / privacy.batch_units)
    largest = float(added.abs().max())
    if not float((somebody - nobody - added).abs().max()) < 1e-5 * (largest + wanted):
        raise SelfTestError("the noise or the divisor of a step depends on who is in it")


def _or_zero(part: torch.Tensor | None, like: torch.Tensor) -> torch.Tensor:
    return torch.zeros_like(like) if part is None else part
