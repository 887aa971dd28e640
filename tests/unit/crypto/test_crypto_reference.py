"""The whole session: the unmasked sum is the plain sum, bit for bit, whoever drops out where."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.errors import (
    ShortInboxError,
    ShortOpeningsError,
    ShortRosterError,
    ShortSurvivorsError,
)
from fedmedlora_crypto.secagg import MASKED_SUITE, SUITES, run_round
from fedmedlora_crypto.secagg.reference import STEPS, repeatable_source
from fedmedlora_crypto.xof import Vector
from fedmedlora_testkit.secagg import plain_sum, terms_of, vectors_of


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_unmasked_sum_equals_plain_sum_for_any_drop_outs(data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 9), label="n")
    terms = terms_of(n, suite=data.draw(st.sampled_from(sorted(SUITES))))
    order = data.draw(st.permutations(range(1, n + 1)))
    lost = order[: data.draw(st.integers(0, n - terms.threshold))]
    dropped: dict[str, list[int]] = {step: [] for step in STEPS}
    for party in lost:
        dropped[data.draw(st.sampled_from(STEPS))].append(party)
    vectors = vectors_of(range(1, n + 1), data.draw(st.sampled_from([0, 1, 2, 3, 5, 17, 1000, 40_000])))
    before = {i: vector.copy() for i, vector in vectors.items()}

    result = run_round(terms, vectors, dropped=dropped, threads=data.draw(st.integers(1, 2)))

    early = {*dropped["advertise"], *dropped["share"], *dropped["upload"]}
    assert result.u1 == tuple(i for i in vectors if i not in dropped["advertise"])
    assert result.u3 == tuple(i for i in vectors if i not in early)
    assert np.array_equal(result.total, plain_sum(vectors[i] for i in result.u3))
    assert all(np.array_equal(before[i], vectors[i]) for i in vectors)
    assert result.unmasking.refused == {}


def test_convicting_inputs_show_who_was_counted() -> None:
    # party i submits 2**i: a bit that is missing or carried names the party that was lost or counted twice
    vectors = {i: np.full(3, 2**i, dtype=np.uint32) for i in range(1, 11)}
    result = run_round(terms_of(10), vectors, dropped={"advertise": [1], "share": [2], "upload": [3]})
    assert result.total.tolist() == [sum(2**i for i in range(4, 11))] * 3


@pytest.mark.parametrize(
    ("step", "error"),
    [
        ("advertise", ShortRosterError),
        ("share", ShortInboxError),
        ("upload", ShortSurvivorsError),
        ("survivors", ShortSurvivorsError),
        ("unmask", ShortOpeningsError),
    ],
)
def test_below_threshold_at_any_step_stops(step: str, error: type[Exception]) -> None:
    # R6.9.3, R6.10.2, R6.11.3, R6.12.6: n = 4 has T = 3
    vectors = vectors_of(range(1, 5))
    run_round(terms_of(4), vectors, dropped={step: [2]})
    with pytest.raises(error):
        run_round(terms_of(4), vectors, dropped={step: [2, 3]})


def test_unready_member_takes_no_part() -> None:
    vectors = vectors_of([1, 2, 4])
    result = run_round(terms_of(4), vectors)
    assert result.u1 == (1, 2, 4)
    assert np.array_equal(result.total, plain_sum(vectors.values()))


@pytest.mark.parametrize("threads", [1, 2])
def test_same_randomness_gives_the_same_bytes(threads: int) -> None:
    # R6.4.3
    def run() -> tuple[dict[int, bytes], dict[int, bytes], dict[int, bytes], dict[int, bytes]]:
        sources = {i: repeatable_source(bytes([i])) for i in range(1, 5)}
        made = run_round(terms_of(4), vectors_of(range(1, 5), 70_000), randomness=sources, threads=threads)
        return made.keys, made.shares, {i: v.tobytes() for i, v in made.masked.items()}, made.opened

    sources = {i: repeatable_source(bytes([i])) for i in range(1, 5)}
    once = run_round(terms_of(4), vectors_of(range(1, 5), 70_000), randomness=sources)
    assert run() == (once.keys, once.shares, {i: v.tobytes() for i, v in once.masked.items()}, once.opened)


def test_fresh_randomness_gives_fresh_masks() -> None:
    # R6.8.3
    vectors = vectors_of(range(1, 5))
    one, two = run_round(terms_of(4), vectors), run_round(terms_of(4), vectors)
    assert one.keys != two.keys
    assert all(not np.array_equal(one.masked[i], two.masked[i]) for i in vectors)
    assert np.array_equal(one.total, two.total)


def chi_square(vector: Vector) -> float:
    """Distance of the byte histogram from uniform; 255 degrees of freedom, mean 255, deviation 22.6."""
    counts = np.bincount(np.frombuffer(vector.tobytes(), dtype=np.uint8), minlength=256)
    expected = counts.sum() / 256
    return float(((counts - expected) ** 2 / expected).sum())


@pytest.mark.parametrize("dropped", [{}, {"upload": [2]}, {"share": [2]}])
def test_masked_uploads_look_uniform_and_plain_ones_do_not(dropped: dict[str, list[int]]) -> None:
    # R6.4.1, R6.7.3. Eight deviations: a false alarm has odds below 1e-12, and the seeds are fixed anyway.
    limit = 255 + 8 * 22.6
    small = {i: np.arange(2**15, dtype=np.uint32) % 7 for i in range(1, 5)}
    for suite in SUITES:
        sources = {i: repeatable_source(bytes([i])) for i in range(1, 5)}
        result = run_round(terms_of(4, suite=suite), small, dropped=dropped, randomness=sources)
        for i, upload in result.masked.items():
            assert (chi_square(upload) < limit) == SUITES[suite].masked, (suite, i)
            # ... and neither does the difference from what went in correlate between parties
            assert np.array_equal(upload, small[i]) == (not SUITES[suite].masked)
    assert MASKED_SUITE in SUITES


def test_uploads_of_two_parties_are_masked_independently() -> None:
    sources = {i: repeatable_source(bytes([i])) for i in range(1, 5)}
    zeros = {i: np.zeros(2**14, dtype=np.uint32) for i in range(1, 5)}
    masked = run_round(terms_of(4), zeros, randomness=sources).masked
    limit = 255 + 8 * 22.6
    for i in range(1, 5):
        for j in range(1, i):
            assert chi_square(masked[i] - masked[j]) < limit
            assert chi_square(masked[i] + masked[j]) < limit


def test_repr_of_a_round_is_silent() -> None:
    # R6.13.2
    result = run_round(terms_of(3), vectors_of(range(1, 4)))
    assert "opened" not in repr(result)
