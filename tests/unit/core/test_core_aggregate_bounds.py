"""The bounds that every party checks on an aggregate, and what passes without each of them."""

from __future__ import annotations

import importlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core import aggregate_bounds, global_step
from fedmedlora_core.aggregate_bounds import check_aggregate
from fedmedlora_core.codec import Codec, clip_update
from fedmedlora_core.errors import AggregateBoundError

CODEC = Codec(clip=0.5, n=4, weight_max=1000)
NORM = 2.0


def judged(average: np.ndarray, weight_sum: int, m: int = 3) -> None:
    check_aggregate(average.astype(np.float32), weight_sum, codec=CODEC, clip_norm=NORM, m=m)


BROKEN: dict[str, tuple[np.ndarray, int]] = {
    "weight_sum": (np.zeros(8), 3001),
    "value": (np.array([0.51, *[0.0] * 7]), 1500),
    "norm": (np.full(64, 0.4), 1500),  # every value within the clip, the L2 norm 3.2
}


@pytest.mark.parametrize("bound", BROKEN)
def test_each_bound_refuses_with_its_own_name(bound: str) -> None:
    """R4.4.2, R4.4.4, R4.4.5."""
    with pytest.raises(AggregateBoundError) as found:
        judged(*BROKEN[bound])
    assert found.value.bound == bound


@pytest.mark.parametrize("bound", BROKEN)
def test_without_its_bound_the_same_aggregate_passes(bound: str) -> None:
    """The partner: with the one bound out of reach nothing else refuses it."""
    average, weight_sum = BROKEN[bound]
    codec, norm, m = CODEC, NORM, 3
    if bound == "weight_sum":
        m = 4
    elif bound == "value":
        codec = Codec(clip=1.0, n=4, weight_max=1000)
    else:
        norm = 100.0
    check_aggregate(average.astype(np.float32), weight_sum, codec=codec, clip_norm=norm, m=m)


def test_a_weight_of_nothing_is_refused() -> None:
    with pytest.raises(AggregateBoundError):
        judged(np.zeros(8), 0)


def test_a_value_that_is_no_number_is_refused() -> None:
    with pytest.raises(AggregateBoundError):
        judged(np.array([np.nan, 0.0]), 1500)


@given(
    st.integers(1, 4),
    st.integers(0, 2**32 - 1),
    st.floats(0.01, 30.0),
    st.lists(st.integers(1, 1000), min_size=4, max_size=4),
)
def test_no_sum_of_honest_updates_is_refused(m: int, seed: int, spread: float, weights: list[int]) -> None:
    """R4.4.4, R4.4.5: also at the edge of both clips, where rounding decides."""
    generator = np.random.default_rng(seed)
    total = np.zeros(301, dtype=np.uint32)
    shared = generator.normal(0, spread, 300)  # all push the same way: the worst case
    for weight in weights[:m]:
        update = (shared + generator.normal(0, 1e-3, 300)).astype(np.float32)
        clipped, _ = clip_update(update, clip_value=CODEC.clip, clip_norm=NORM)

        def words(_start: int, count: int) -> np.ndarray:
            return np.full(count, 2**32 - 1, dtype=np.uint32)  # always rounded up

        total += CODEC.encode(clipped, weight=weight, words=words)
    average, weight_sum, _ = CODEC.decode(total)
    check_aggregate(average, weight_sum, codec=CODEC, clip_norm=NORM, m=m)


def lying_update(weight: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
    """What a malicious site uploads: far beyond what its declared weight allows, in the ring's own units."""
    return np.concatenate([np.full(16, 480_000_000), [weight]]).astype(np.uint32)


def test_a_lying_site_moves_the_average_within_the_bounds_whatever_weight_it_declares() -> None:
    """R4.4.6: decision G43, shown; the declared weight of 1 in 2001 does not limit what it can do."""
    honest = np.full(16, -0.01, dtype=np.float32)
    total = np.zeros(17, dtype=np.uint32)
    for _ in range(2):
        total += CODEC.encode(honest, weight=1000, words=lambda _, count: np.zeros(count, np.uint32))
    average, weight_sum, _ = CODEC.decode(total + lying_update(1))
    assert weight_sum == 2001
    assert average.min() > 0.35, "almost the whole clip, against two sites of a thousand times its weight"
    judged(average, weight_sum)


def test_the_wrap_of_the_ring_is_found_by_the_bounds() -> None:
    total = CODEC.encode(
        np.full(16, 0.5, dtype=np.float32), weight=1000, words=lambda _, count: np.zeros(count, np.uint32)
    )
    average, weight_sum, _ = CODEC.decode(total + lying_update(1000) * np.uint32(2))
    with pytest.raises(AggregateBoundError):
        judged(average, weight_sum)


@pytest.mark.parametrize("party", ["fedmedlora_coordinator.model", "fedmedlora_site.bases"])
def test_coordinator_and_site_call_this_very_check(party: str) -> None:
    assert vars(importlib.import_module(party))["GlobalStep"] is global_step.GlobalStep
    assert vars(global_step)["check_aggregate"] is aggregate_bounds.check_aggregate
