"""Which tokens a gradient of LoRA matrices came from: the span check (after DAGER, Petrov et al. 2024).

Rows of vectors x_V stand for the inputs that each vocabulary token would give to the first layer's
projections: its embedding, normalised. Positions come in after the projections (rotary embeddings), so a
token has one input wherever it stands. For a projection with y = W x + s B A x,

    dB = s sum_t dy_t (A x_t)^T        rows of dB lie in the span of A x_t, dimension at most R
    dA = s sum_t (B^T dy_t) x_t^T      rows of dA lie in the span of x_t; 0 as long as B is 0

so a token that was there lies in the span, and one that was not lies outside unless the span fills the space.
With n different tokens it does once n >= R (dB), or n >= the width (dA of all projections together).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Layer0", "Projection", "invert_first_adam_step", "token_scores"]

Floats = NDArray[np.float64]
_FALL = 8.0
"""Singular values that fall by this factor from one to the next end a span; those of noise never do."""


@dataclass(frozen=True)
class Projection:
    """One adapted projection of the first layer.

    Args:
        a: A_RK as the attacker knows it.
        gradient_a: dA_RK, or None where A does not train.
        gradient_b: dB_DR, or None where B does not train.
    """

    a: Floats
    gradient_a: Floats | None
    gradient_b: Floats | None


@dataclass(frozen=True)
class Layer0:
    """What the attacker knows of the first layer.

    Args:
        inputs: x_VK, one row for each token of the vocabulary.
        projections: Those that share this input (q, k and v).
    """

    inputs: Floats
    projections: tuple[Projection, ...]


def token_scores(layer: Layer0, *, rounding: float = 0.0) -> tuple[Floats, bool]:
    """Score every token: how much of it lies outside of the span of the gradient, negated; 0 is inside.

    Args:
        layer: Inputs and gradients.
        rounding: Standard deviation of the encoding's rounding, which is public; 0 for exact gradients.

    Returns:
        (scores, whether there is a span). Where singular values fall off at no place, because the gradient
        spans everything or noise does, tokens are scored by the stronger half of the directions: a weak
        hint that has to be compared with what an update of other notes gives.
    """
    rows = [(layer.inputs @ p.a.T, p.gradient_b) for p in layer.projections if p.gradient_b is not None]
    stacked = [p.gradient_a for p in layer.projections if p.gradient_a is not None and p.gradient_a.any()]
    if stacked:  # all projections share their inputs: one span, larger than that of any dB
        rows = [(layer.inputs, np.concatenate(stacked))]
    found = [_outside(candidates, gradient, rounding) for candidates, gradient in rows]
    sharp = [outside for outside, has_span in found if has_span]
    if sharp:
        return -np.max(sharp, axis=0), True
    return -np.mean([outside for outside, _ in found], axis=0), False


def _outside(candidates: Floats, rows: Floats, rounding: float) -> tuple[Floats, bool]:
    """Share of each candidate's length outside of a matrix's row space, and whether that space is one."""
    _, sizes, directions = np.linalg.svd(rows, full_matrices=False)
    place = _dimensions(sizes, 2 * rounding * (np.sqrt(rows.shape[0]) + np.sqrt(rows.shape[1])))
    kept = directions[: place or len(sizes) // 2]
    rest = candidates - candidates @ kept.T @ kept
    share: Floats = np.linalg.norm(rest, axis=1) / np.maximum(np.linalg.norm(candidates, axis=1), 1e-30)
    return share, place > 0


def _dimensions(sizes: Floats, floor: float) -> int:
    """Dimension of the span by its singular values; 0 where they end at no place."""
    if floor > 0:
        place = int((sizes > floor).sum())
        return place if place < len(sizes) - 1 else 0
    sizes = np.maximum(sizes, max(float(sizes[0]), 1e-21) * 1e-9)
    falls = sizes[:-2] / sizes[1:-1]  # the very last one of a square matrix is small by chance
    place = int(np.argmax(falls))
    return place + 1 if falls[place] > _FALL else 0


def invert_first_adam_step(change: Floats, *, rate: float, epsilon: float = 1e-8) -> Floats:
    """Gradient from the change of the very first step of AdamW without weight decay.

    That step is -rate * g / (|g| + epsilon): nearly the sign of g, but not quite, and what is missing to 1
    gives |g| back, as far as the number format shows it. A second step ends that.

    Args:
        change: What the step changed.
        rate: Its learning rate.
        epsilon: Of AdamW.
    """
    ratio = np.clip(np.abs(change) / rate, 0.0, 1.0 - 2.0**-24)
    return np.asarray(-np.sign(change) * epsilon * ratio / (1.0 - ratio), dtype=np.float64)
