"""The bounded sum: exact whatever the order, never moved by more than C, noise on the same grid."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fedmedlora_core.learning.private.clipped_sum import GRID, ClippedSum, row_norms
from fedmedlora_core.learning.private.draws import Draws
from fedmedlora_crypto.xof import Keystream

SHAPES = ((3, 4), (5,))
rows = arrays.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(17)), elements=st.floats(width=32))
clips = st.sampled_from([1e-3, 0.1, 1.0, 3.7, 1e4])


def parts(values: np.ndarray) -> list[torch.Tensor]:
    """The rows of two parameters."""
    whole = torch.from_numpy(values.copy())
    return [whole[:, :12].reshape(-1, 3, 4), whole[:, 12:]]


def summed(values: np.ndarray, clip: float) -> torch.Tensor:
    total = ClippedSum([torch.zeros(shape) for shape in SHAPES], clip)
    total.add(parts(values))
    return torch.cat([part.flatten() for part in total.sums])


@given(rows, clips)
@settings(max_examples=300, deadline=None)
def test_one_row_moves_the_sum_by_the_clip_at_most(values: np.ndarray, clip: float) -> None:
    """R4.13.1: also one that is huge, infinite or no number; exactly, in steps of the grid."""
    whole = summed(values, clip)
    assert bool(torch.isfinite(whole).all())
    for row in range(len(values)):
        others = summed(np.delete(values, row, axis=0), clip)
        steps = (whole - others).tolist()
        assert all(step == int(step) for step in steps)
        assert sum(int(step) ** 2 for step in steps) <= GRID**2


@given(rows, clips)
@settings(max_examples=100, deadline=None)
def test_order_and_pieces_do_not_matter(values: np.ndarray, clip: float) -> None:
    whole = summed(values, clip)
    assert torch.equal(whole, summed(values[::-1].copy(), clip))
    pieces = ClippedSum([torch.zeros(shape) for shape in SHAPES], clip)
    for row in values:
        pieces.add(parts(row[None]))
    assert torch.equal(whole, torch.cat([part.flatten() for part in pieces.sums]))


def test_a_short_row_keeps_its_length_and_a_long_one_gets_the_clips() -> None:
    values = np.zeros((2, 17), np.float32)
    values[0, 0], values[1, 13] = 0.25, 80
    found = summed(values, 1.0) / GRID
    assert float(found[0]) == pytest.approx(0.25, rel=1e-5)
    assert 1 - 1e-5 < float(found[13]) <= 1


def test_large_adapters_lose_little_to_the_grid() -> None:
    values = torch.from_numpy(np.linspace(-1, 1, 300_000, dtype=np.float32)).reshape(1, -1)
    total = ClippedSum([torch.zeros(300_000)], 1.0)
    total.add([values.clone()])
    length = math.sqrt(math.fsum(float(v) ** 2 for v in total.sums[0])) / GRID
    assert 0.9998 < length <= 1
    direction = values[0].double() / float(row_norms([values]))
    assert float((total.sums[0] / GRID - direction).norm()) < 2e-4


def test_noise_has_its_size_divides_by_the_constant_and_lies_on_the_grid() -> None:
    shape, clip, divisor = (200, 300), 0.5, 32
    total = ClippedSum([torch.zeros(shape)], clip)
    rows_b = torch.zeros(1, *shape)
    rows_b[0, 0, 0] = 7.0
    empty = total.noised(Draws(Keystream(bytes(32)), 0), 1.3, divisor)[0].double()
    total.add([rows_b])
    drawn = total.noised(Draws(Keystream(bytes(32)), 0), 1.3, divisor)[0].double()
    assert float(empty.std()) == pytest.approx(clip * 1.3 / divisor, rel=6 / math.sqrt(2 * 60_000))
    assert float(drawn[0, 0] - empty[0, 0]) == pytest.approx(clip / divisor, rel=1e-4)
    assert torch.equal(drawn[1:], empty[1:])
    exact = ClippedSum([torch.zeros(shape, dtype=torch.float64)], clip)
    steps = exact.noised(Draws(Keystream(bytes(32)), 0), 1.3, divisor)[0] * divisor * GRID / clip
    assert torch.equal(steps, steps.round())
