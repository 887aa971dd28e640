"""Draws from a keystream: exact probabilities, the Gaussian's shape, a stretch of its own for each step."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.codec import RingVector
from fedmedlora_core.learning.private.draws import MILLION, STEP_WORDS, Draws
from fedmedlora_crypto.xof import Keystream

keys = st.binary(min_size=32, max_size=32)


class Words:
    """A stream with known words at its beginning, and a counter of what was read from where."""

    def __init__(self, numbers: list[int]) -> None:
        self.numbers = numbers
        self.read: list[tuple[int, int]] = []

    def reader(self, start: int) -> Callable[[int], RingVector]:
        at = start

        def read(count: int) -> RingVector:
            nonlocal at
            self.read.append((at, count))
            parts = [word for number in self.numbers for word in (number & 0xFFFFFFFF, number >> 32)]
            found = np.array([parts[place] for place in range(at - start, at - start + count)], np.uint32)
            at += count
            return found

        return read


@given(keys, st.integers(0, 10**6), st.integers(0, 1000))
@settings(max_examples=30, deadline=None)
def test_places_are_drawn_at_the_rate(key: bytes, micro: int, step: int) -> None:
    """Six standard deviations: a wrong rate fails, and a right one once in 10^8 examples."""
    count = 20_000
    chosen = Draws(Keystream(key), step).chosen(count, micro)
    rate = micro / MILLION
    assert chosen == sorted(set(chosen))
    assert abs(len(chosen) - count * rate) <= 6 * math.sqrt(count * rate * (1 - rate)) + 1


def test_a_place_is_drawn_if_and_only_if_its_number_is_below_the_rate() -> None:
    numbers = [0, 249_999, 250_000, 999_999, MILLION, 7 * MILLION + 250_000]
    assert Draws(Words(numbers), 0).chosen(len(numbers), 250_000) == [0, 1, 4]
    assert Draws(Words(numbers), 0).chosen(len(numbers), MILLION) == [0, 1, 2, 3, 4, 5]
    assert Draws(Words(numbers), 0).chosen(len(numbers), 0) == []


def test_a_number_past_the_last_whole_multiple_is_drawn_again() -> None:
    """Else the first numbers would be more likely than the last ones."""
    last = (1 << 64) // MILLION * MILLION
    assert Draws(Words([last - 1, last, 5]), 0).chosen(2, MILLION // 2) == [1]
    assert Draws(Words([(1 << 64) - 1, (1 << 64) - 1, 4]), 0).below(3) == 1
    assert Draws(Words([8]), 0).below(1) == 0


@given(keys, st.integers(1, 12))
@settings(max_examples=20, deadline=None)
def test_whole_numbers_are_drawn_evenly(key: bytes, limit: int) -> None:
    draws, count = Draws(Keystream(key), 3), 600
    found = np.bincount([draws.below(limit) for _ in range(count)], minlength=limit)
    assert len(found) == limit
    expected = count / limit
    assert float(((found - expected) ** 2 / expected).sum()) < limit + 9 * math.sqrt(2 * limit) + 20


@given(keys, st.integers(0, 10**6))
@settings(max_examples=15, deadline=None)
def test_noise_has_the_moments_and_the_shape_of_a_gaussian(key: bytes, step: int) -> None:
    count = 60_000
    values = Draws(Keystream(key), step).gaussians(count).numpy()
    for power, moment, variance in ((1, 0, 1), (2, 1, 2), (3, 0, 15), (4, 3, 96), (6, 15, 10170)):
        assert abs(float((values**power).mean()) - moment) < 6 * math.sqrt(variance / count)
    ordered = np.sort(values)
    normal = 0.5 * (1 + torch.special.erf(torch.from_numpy(ordered) / math.sqrt(2)).numpy())
    apart = np.abs(normal - (np.arange(count) + 0.5) / count).max()
    assert apart < 2.7 / math.sqrt(count)  # Kolmogorov and Smirnov: once in 10^6
    halves = values[: count // 2] * values[count // 2 :]
    assert abs(float(halves.mean())) < 6 / math.sqrt(count / 2)


@pytest.mark.parametrize("count", [1, 2, 3, 32767, 32768, 32769, 70001])
def test_as_many_values_as_asked_for(count: int) -> None:
    values = Draws(Keystream(bytes(32)), 0).gaussians(count)
    assert values.shape == (count,)
    assert len(set(values.tolist())) == count


def test_steps_and_keys_draw_apart_and_repeat() -> None:
    def draw(key: bytes, step: int) -> tuple[list[int], list[float]]:
        draws = Draws(Keystream(key), step)
        return draws.chosen(500, 300_000), draws.gaussians(50).tolist()

    one = draw(bytes(32), 0)
    assert draw(bytes(32), 0) == one
    others = [draw(bytes(32), 1), draw(bytes(32), 10**6), draw(b"1" * 32, 0)]
    assert all(chosen != one[0] and not set(noise) & set(one[1]) for chosen, noise in others)


def test_a_step_reads_its_own_stretch_and_noise_does_not_depend_on_the_draws() -> None:
    words = Words([3] * 4000)
    draws = Draws(words, 5)
    draws.chosen(300, 10)
    draws.gaussians(100)
    assert all(5 * STEP_WORDS <= start < 6 * STEP_WORDS for start, _ in words.read)
    stretches = sorted((start, start + count) for start, count in words.read)
    assert all(before[1] <= after[0] for before, after in pairwise(stretches))
    noisy, quiet = Draws(Keystream(bytes(32)), 1), Draws(Keystream(bytes(32)), 1)
    noisy.chosen(1000, 500_000)
    assert torch.equal(noisy.gaussians(10), quiet.gaussians(10))
