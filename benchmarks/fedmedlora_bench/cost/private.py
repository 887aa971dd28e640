"""A private step beside a plain one on the same rows: what single gradients, exact sums and noise cost.

Both train a copy of one model with one adapter, step by step in turn, in the seconds of the process's own
work. The private side does all that a step of a study with privacy does, noise included, but draws nobody: it
is given the plain side's batch.
"""

from __future__ import annotations

import hashlib
import importlib.util
import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np

from fedmedlora_core.learning.base import reproducible
from fedmedlora_core.learning.fusing import fused
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.private.gradients import row_gradients
from fedmedlora_core.learning.private.loop import PrivateLoop
from fedmedlora_core.learning.recomputing import recomputed
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import TrainingLoop, bucketed_batches
from fedmedlora_core.privacy_terms import PrivacyTerms
from fedmedlora_crypto.xof import Keystream

__all__ = ["LEAST_PRIVATE_RATIO", "compare_private_steps", "is_private_ready"]

LEAST_PRIVATE_RATIO = 0.5
"""Rows a second of private training, of those of plain training."""


def compare_private_steps(
    make: Callable[[], Learner], samples_of: Callable[[Learner], list[Any]], terms: TrainTerms, *, steps: int
) -> dict[str, Any]:
    """Time a private step and a plain one on the same batches, in turn.

    Args:
        make: Loads the model with its adapter; called twice.
        samples_of: Tokenised examples.
        terms: Batch size and rates.
        steps: Steps that count; two more warm up.

    Returns:
        Median seconds of each, and the median over steps of private rows a second by plain ones.
    """
    plain, private = make(), make()
    batches = bucketed_batches(samples_of(plain), terms.step_size, np.random.default_rng(0))
    batches = (batches * (1 + (steps + 2) // max(1, len(batches))))[: steps + 2]
    loop = TrainingLoop(plain, terms)
    seconds: dict[str, list[float]] = {"plain": [], "private": []}
    with (
        reproducible(0),
        fused(plain.model),
        recomputed(plain.model, wanted=terms.recompute),
        row_gradients(private, recompute=terms.recompute) as rows,
    ):
        noisy = PrivateLoop(rows, terms, _privacy(terms, steps + 2), Keystream(_key()))
        for number, batch in enumerate(batches):
            for name in ("plain", "private")[:: 1 if number % 2 else -1]:
                begin = time.process_time()
                if name == "plain":
                    loop.step(batch, terms.learning_rate)
                else:
                    noisy.step(batch, number)
                seconds[name].append(time.process_time() - begin)
    own, other = seconds["private"][2:], seconds["plain"][2:]
    return {
        "steps": steps,
        "batch_size": terms.batch_size,
        "trained": sum(p.numel() for p in noisy.parameters),
        "private_seconds": statistics.median(own),
        "plain_seconds": statistics.median(other),
        "throughput_ratio": statistics.median(b / a for a, b in zip(own, other, strict=True)),
    }


def is_private_ready() -> bool:
    """Whether the library of single gradients is installed here (extra `dp`)."""
    return importlib.util.find_spec("opacus") is not None


def _privacy(terms: TrainTerms, steps: int) -> PrivacyTerms:
    """Any mechanism: its numbers change no time."""
    return PrivacyTerms(
        unit="patient",
        delta="1e-5",
        epsilon_milli=8000,
        noise_milli=1000,
        clip_micro=1_000_000,
        sampling_micro=10_000,
        steps=steps,
        batch_units=terms.step_size,
    )


def _key() -> bytes:
    """A public key: nothing that is trained here is kept."""
    return hashlib.sha256(b"fedmedlora bench, private steps").digest()
