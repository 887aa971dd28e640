"""Noise from tables: how far it is from the discrete Gaussian, and that nothing but the stream decides it."""

from __future__ import annotations

import json
import math
from decimal import Decimal, localcontext
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.codec import RingVector
from fedmedlora_core.discrete_gaussian import DISTANCE, LARGEST_MILLI, DiscreteGaussian, _table
from fedmedlora_crypto.xof import Keystream

VECTORS = Path(__file__).resolve().parents[2] / "vectors" / "site_noise" / "discrete_gaussian.json"


def density(x: int, variance: Fraction) -> Decimal:
    """exp(-x^2 / (2 variance)), to the precision of the context."""
    exponent = Fraction(x * x) / (2 * variance)
    return (-Decimal(exponent.numerator) / Decimal(exponent.denominator)).exp()


@pytest.mark.parametrize("noise_milli", [1000, 4000, 12_345])
def test_a_table_is_within_the_stated_distance_of_the_discrete_gaussian(noise_milli: int) -> None:
    # R4.14.4
    (part,) = DiscreteGaussian(noise_milli).parts
    thresholds = (0, *_table(part.variance, part.tail).thresholds, 1 << 128)
    with localcontext(prec=80):
        weights = {x: density(x, part.variance) for x in range(-3 * part.tail, 3 * part.tail + 1)}
        whole = sum(weights.values())
        apart = Decimal(0)
        for x, weight in weights.items():
            place = x + part.tail
            mass = thresholds[place + 1] - thresholds[place] if 0 <= place < len(thresholds) - 1 else 0
            apart += abs(Decimal(mass) / (1 << 128) - weight / whole)
        assert 0 < apart / 2 < Decimal(DISTANCE.numerator) / DISTANCE.denominator
        # Cut at 6 sigma it would not be: the check can fail.
        short = sum(w for x, w in weights.items() if abs(x) > part.tail // 2) / whole
        assert short > Decimal(DISTANCE.numerator) / DISTANCE.denominator


def test_two_tables_give_the_discrete_gaussian_of_the_sum_of_variances() -> None:
    """P[A + k B = x] has the shape of one discrete Gaussian to within 2^-400 (R4.14.4)."""
    noise = DiscreteGaussian(1_025_000)
    fine, coarse = noise.parts
    variance = Fraction(1025) ** 2
    assert fine.variance + coarse.step**2 * coarse.variance == variance
    with localcontext(prec=150):

        def shape(x: int) -> Decimal:
            middle = round(x * coarse.step * coarse.variance / variance)
            terms = (
                density(x - coarse.step * j, fine.variance) * density(j, coarse.variance)
                for j in range(middle - 120, middle + 121)
            )
            return sum(terms, Decimal(0)) / density(x, variance)

        first = shape(0)
        for x in (1, 7, 8, 15, 16, 500, 1025, 4001, 9999):
            assert abs(shape(x) / first - 1) < Decimal(2) ** -390


@pytest.mark.parametrize("noise_milli", [4000, 40_500, 1_500_000, 900_000_000])
def test_moments_are_those_of_the_gaussian(noise_milli: int) -> None:
    count, sigma = 200_000, noise_milli / 1000
    drawn = DiscreteGaussian(noise_milli).sample(count, Keystream(b"m" * 32).words) / sigma
    assert abs(drawn.mean()) < 5 / math.sqrt(count)
    assert abs((drawn**2).mean() - 1) < 5 * math.sqrt(2 / count)
    assert abs((drawn**3).mean()) < 5 * math.sqrt(15 / count)
    assert abs((drawn**4).mean() - 3) < 5 * math.sqrt(96 / count)


@pytest.mark.parametrize("noise_milli", [4000, 7300, 1_200_000])
def test_chi_square_of_the_values_and_of_their_last_digits(noise_milli: int) -> None:
    """Last digits show what moments do not: a step of the two tables that is not filled evenly."""
    count, sigma = 200_000, noise_milli / 1000
    drawn = DiscreteGaussian(noise_milli).sample(count, Keystream(b"c" * 32).words)
    edges = np.linspace(-3 * sigma, 3 * sigma, 25)
    cells = np.round(edges) + 0.5  # between integers
    share = np.array([0.5 * math.erfc(-edge / sigma / math.sqrt(2)) for edge in cells])
    expected = np.diff(np.concatenate([[0.0], share, [1.0]])) * count
    found = np.bincount(np.searchsorted(cells, drawn), minlength=len(expected))
    assert chi_square(found, expected) < len(expected) - 1 + 6 * math.sqrt(2 * len(expected))
    if sigma > 100:
        digits = np.bincount(drawn % 64, minlength=64)
        assert chi_square(digits, np.full(64, count / 64)) < 63 + 6 * math.sqrt(126)


def chi_square(found: np.ndarray, expected: np.ndarray) -> float:
    return float((((found - expected) ** 2) / expected).sum())


def test_noise_of_another_size_would_be_seen() -> None:
    drawn = DiscreteGaussian(4000).sample(200_000, Keystream(b"m" * 32).words) / 4.05
    assert abs((drawn**2).mean() - 1) > 5 * math.sqrt(2 / 200_000)


@settings(max_examples=40, deadline=None)
@given(st.integers(4000, 200_000_000), st.binary(min_size=32, max_size=32), st.integers(0, 300))
def test_noise_never_passes_its_tail_and_follows_from_the_stream(
    noise_milli: int, key: bytes, count: int
) -> None:
    # R4.14.2
    noise, words = DiscreteGaussian(noise_milli), Keystream(key).words
    drawn = noise.sample(count, words)
    assert (abs(drawn) <= noise.tail).all()
    assert 12 * noise_milli <= 1000 * noise.tail <= 13.1 * noise_milli + 2000
    assert (noise.sample(count, words) == drawn).all()


@pytest.mark.parametrize(("word", "sign"), [(0, -1), (0xFFFFFFFF, 1)])
@pytest.mark.parametrize("noise_milli", [4000, 2_000_000])
def test_the_ends_of_the_stream_are_the_ends_of_the_tail(word: int, sign: int, noise_milli: int) -> None:
    noise = DiscreteGaussian(noise_milli)

    def words(_start: int, count: int) -> RingVector:
        return np.full(count, word, dtype=np.uint32)

    assert noise.sample(3, words).tolist() == [sign * noise.tail] * 3


def test_where_the_upper_half_is_a_thresholds_the_lower_half_decides() -> None:
    noise = DiscreteGaussian(4000)
    (part,) = noise.parts
    place = part.tail + 3
    threshold = _table(part.variance, part.tail).thresholds[place]

    def value(number: int) -> int:
        def words(start: int, count: int) -> RingVector:
            half = number >> 64 if start == 0 else number & ((1 << 64) - 1)
            assert count == 2
            return np.array([half & 0xFFFFFFFF, half >> 32], dtype=np.uint32)

        return int(noise.sample(1, words)[0])

    assert value(threshold - 1) == 3
    assert value(threshold) == 4


@pytest.mark.parametrize("ring_bits", [16, 24, 32])
def test_threads_and_ring_change_no_bit_of_what_is_added(ring_bits: int) -> None:
    noise, count = DiscreteGaussian(50_000), (1 << 18) + 777
    words = Keystream(b"t" * 32).words
    plain = (np.arange(count, dtype=np.uint64) * 2654435761 % (1 << ring_bits)).astype(np.uint32)
    one, two = plain.copy(), plain.copy()
    noise.add_into(one, words, ring_bits=ring_bits)
    noise.add_into(two, words, ring_bits=ring_bits, threads=2)
    assert (one == two).all()
    expected = (plain.astype(np.int64) + noise.sample(count, words)) % (1 << ring_bits)
    assert (one == expected).all()


@pytest.mark.parametrize("noise_milli", [999, LARGEST_MILLI + 1])
def test_sizes_without_a_table_are_refused(noise_milli: int) -> None:
    with pytest.raises(ValueError, match="thousandths"):
        DiscreteGaussian(noise_milli)


def test_the_committed_vectors_come_out_again() -> None:
    for case in json.loads(VECTORS.read_text(encoding="utf-8")):
        words = Keystream(bytes.fromhex(case["key"])).words
        noise = DiscreteGaussian(case["noise_milli"])
        assert noise.tail == case["tail"]
        assert noise.sample(len(case["noise"]), words).tolist() == case["noise"]
