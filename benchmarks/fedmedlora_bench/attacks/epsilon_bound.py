"""A lower bound on epsilon from one training run (Steinke, Nasr and Jagielski 2023, theorem 5.2).

m canaries are each put in or left out by a fair coin; the auditor guesses the coins of the r canaries it is
surest of and abstains on the others. If training is (epsilon, delta)-private, v or more right guesses have at
most the probability `p_value`; an epsilon whose p-value is below 5 % is refuted with 95 % confidence.

    P[right >= v] <= P[Bin(r, q) >= v] + 2 m delta max_i P[v > Bin(r, q) >= v - i] / i,
    q = e^epsilon / (1 + e^epsilon)
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["EpsilonBound", "best_bound", "lower_bound", "p_value"]

_HALVINGS = 40
_MOST_EPSILON = 64.0


@dataclass(frozen=True)
class EpsilonBound:
    """What one run refutes.

    Args:
        epsilon: Every smaller epsilon is refuted at the stated confidence.
        guesses: r, canaries that were not abstained on.
        right: v, right guesses.
    """

    epsilon: float
    guesses: int
    right: int


def p_value(*, canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """Most probable this many right guesses can be under (epsilon, delta)-differential privacy.

    Args:
        canaries: m.
        guesses: r <= m.
        right: v <= r.
        epsilon: >= 0.
        delta: In [0, 1].

    Raises:
        ValueError: A number is out of range (the caller's mistake).
    """
    if not 0 <= right <= guesses <= canaries or epsilon < 0 or not 0 <= delta <= 1:
        raise ValueError("0 <= right <= guesses <= canaries, epsilon >= 0 and 0 <= delta <= 1")
    probabilities = _binomial(guesses, epsilon)
    beta = float(probabilities[right:].sum())
    # P[v > Bin >= v - i] for i = 1..v: sums from v - 1 downwards
    sums = np.cumsum(probabilities[:right][::-1])
    alpha = float((sums / np.arange(1, right + 1)).max()) if right else 0.0
    return min(1.0, beta + 2 * canaries * delta * alpha)


def lower_bound(*, canaries: int, guesses: int, right: int, delta: float, confidence: float = 0.95) -> float:
    """Largest epsilon that the guesses refute; 0 if they refute none."""

    def refuted(epsilon: float) -> bool:
        p = p_value(canaries=canaries, guesses=guesses, right=right, epsilon=epsilon, delta=delta)
        return p < 1 - confidence

    low, high = 0.0, 1.0
    if not refuted(low):
        return 0.0
    while refuted(high) and high < _MOST_EPSILON:
        low, high = high, 2 * high
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def best_bound(
    scores: NDArray[np.float64],
    included: NDArray[np.bool_],
    *,
    delta: float,
    guess_counts: Sequence[int],
    confidence: float = 0.95,
) -> EpsilonBound:
    """The best bound over several numbers of guesses, with the confidence shared out among them.

    Trying several numbers and keeping the best one is several tests; each gets its part of the error
    (Bonferroni), so the bound holds as stated.

    Args:
        scores: For each canary; high speaks for "was in".
        included: The coins.
        delta: Of the claim.
        guess_counts: How many canaries are guessed, half of them at each end of the scores.
        confidence: Of the bound as a whole.
    """
    canaries = int(scores.size)
    order = np.argsort(scores, kind="stable")
    each = 1 - (1 - confidence) / len(guess_counts)
    found = []
    for wanted in guess_counts:
        half = min(wanted, canaries) // 2
        right = int((~included[order[:half]]).sum() + included[order[canaries - half :]].sum())
        epsilon = lower_bound(canaries=canaries, guesses=2 * half, right=right, delta=delta, confidence=each)
        found.append(EpsilonBound(epsilon, 2 * half, right))
    return max(found, key=lambda bound: bound.epsilon)


def _binomial(n: int, epsilon: float) -> NDArray[np.float64]:
    """P[Bin(n, e^epsilon / (1 + e^epsilon)) = k] for k = 0..n; by logarithms, so that nothing overflows."""
    k = np.arange(n + 1)
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, n + 1)))])
    log_yes = -math.log1p(math.exp(-epsilon))
    log_no = -epsilon + log_yes
    chosen = factorials[n] - factorials[k] - factorials[n - k]
    return np.asarray(np.exp(chosen + k * log_yes + (n - k) * log_no), dtype=np.float64)
