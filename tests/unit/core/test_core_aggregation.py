"""Weights on the ladder, and the deterministic server step."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.aggregation import WeightRule, server_step
from fedmedlora_core.errors import NonFiniteError

LADDER = WeightRule(size_exponent=1, tau=1, weights="ladder", weight_scale=64, weight_max=2**24)
EXACT = WeightRule(size_exponent=1, tau=1, weights="exact", weight_scale=64, weight_max=2**24)


def test_exact_weight_is_the_papers_product() -> None:
    assert EXACT.weight_of(n_notes=400, loss=0.3) == round(64 * 400 * math.exp(0.7))


def test_plain_rule_ignores_the_loss() -> None:
    rule = WeightRule(size_exponent=1, tau=0, weights="exact", weight_scale=1, weight_max=2**20)
    assert rule.weight_of(n_notes=123, loss=0.1) == rule.weight_of(n_notes=123, loss=3.0) == 123


@given(n=st.integers(1, 50_000), loss=st.floats(0, 5))
def test_ladder_shows_a_bucket_never_a_count(n: int, loss: float) -> None:
    # R4.3.1
    buckets = {2**k for k in range(18)}
    factors = {math.exp(1 - 0.25 * k) for k in range(8)}
    possible = {max(1, round(64 * b * f)) for b in buckets for f in factors}
    assert LADDER.weight_of(n_notes=n, loss=loss) in possible


def test_ladder_is_what_hides_the_size() -> None:
    """With the ladder off the very difference that an observer would compute is the count."""
    plain = WeightRule(size_exponent=1, tau=0, weights="exact", weight_scale=1, weight_max=2**20)
    assert plain.weight_of(n_notes=403, loss=0) - plain.weight_of(n_notes=1, loss=0) == 402
    hidden = WeightRule(size_exponent=1, tau=0, weights="ladder", weight_scale=1, weight_max=2**20)
    assert hidden.weight_of(n_notes=403, loss=0) == hidden.weight_of(n_notes=470, loss=0) == 512


@given(n=st.integers(1, 10**6), loss=st.floats(0, 1e6))
def test_weight_stays_in_the_ring(n: int, loss: float) -> None:
    rule = WeightRule(size_exponent=1, tau=2, weights="exact", weight_scale=64, weight_max=1000)
    assert 1 <= rule.weight_of(n_notes=n, loss=loss) <= 1000


@pytest.mark.parametrize("loss", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_is_refused(loss: float) -> None:
    with pytest.raises(NonFiniteError):
        LADDER.weight_of(n_notes=4, loss=loss)


def test_server_step_is_plain_averaging_at_rate_one() -> None:
    base = np.array([1.0, -2.0], dtype=np.float32)
    assert server_step(base, np.array([0.5, 0.25], dtype=np.float32)).tolist() == [1.5, -1.75]
    assert server_step(base, base, learning_rate=0.5).dtype == np.float32
    with pytest.raises(ValueError, match="shape"):
        server_step(base, np.zeros(3, dtype=np.float32))
