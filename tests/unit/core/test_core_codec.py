"""The ring codec: weighted updates go in, their weighted mean comes out, within the stated bound."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.codec import Codec, RingVector, clip_update
from fedmedlora_core.errors import CodecError, NonFiniteError


def words_of(seed: int):  # type: ignore[no-untyped-def]
    """A seekable uniform stream, as a keystream is: word i does not depend on where reading starts."""
    stream = np.random.default_rng(seed).integers(0, 2**32, size=200_000, dtype=np.uint32)

    def words(start: int, count: int) -> RingVector:
        return stream[start : start + count]

    return words


@given(
    n=st.integers(3, 40),
    d=st.integers(0, 50),
    clip=st.floats(1e-3, 100),
    seed=st.integers(0, 2**32 - 1),
    data=st.data(),
)
def test_sum_of_encodings_decodes_to_the_weighted_mean_within_the_bound(
    n: int, d: int, clip: float, seed: int, data: st.DataObject
) -> None:
    codec = Codec(clip=clip, n=n, weight_max=1000)
    m = data.draw(st.integers(1, n))
    rng = np.random.default_rng(seed)
    updates = [rng.uniform(-clip, clip, d).astype(np.float32).clip(-clip, clip) for _ in range(m)]
    weights = [data.draw(st.integers(1, 1000)) for _ in range(m)]

    total = np.zeros(d + 2, dtype=np.uint32)
    for k in range(m):
        total += codec.encode(updates[k], weight=weights[k], words=words_of(k), extras=(k,))
    mean, weight_sum, extras = codec.decode(total, extras=1)

    exact = sum((w * u.astype(np.float64) for w, u in zip(weights, updates, strict=True)), np.zeros(d))
    exact = exact / sum(weights)
    bound = codec.error_bound(weight_sum=weight_sum, m=m) + np.spacing(np.float32(clip))
    assert weight_sum == sum(weights)
    assert extras == (sum(range(m)),)
    assert (np.abs(mean - exact) <= bound).all()


def test_extreme_values_of_all_members_do_not_wrap() -> None:
    # R4.2.1
    codec = Codec(clip=0.05, n=127, weight_max=16_000_000)
    update = np.array([0.05, -0.05], dtype=np.float32)
    total = np.zeros(3, dtype=np.uint32)
    for k in range(127):
        total += codec.encode(update, weight=16_000_000, words=words_of(k))
    mean, _, _ = codec.decode(total)
    assert np.allclose(mean, update, atol=1e-7)


def test_rounding_is_unbiased() -> None:
    codec = Codec(clip=1.0, n=3, weight_max=1)
    value = np.full(100_000, 0.3 / codec.scale, dtype=np.float32)
    encoded = codec.encode(value, weight=1, words=words_of(5))[:-1]
    assert set(np.unique(encoded)) == {0, 1}
    assert abs(float(encoded.mean()) - 0.3) < 0.01


def test_same_stream_same_bytes() -> None:
    # R4.1.3
    codec = Codec(clip=1.0, n=3, weight_max=10)
    update = np.random.default_rng(1).uniform(-1, 1, 100_000).astype(np.float32)
    first = codec.encode(update, weight=3, words=words_of(9))
    assert first.tobytes() == codec.encode(update, weight=3, words=words_of(9)).tobytes()
    assert first.tobytes() != codec.encode(update, weight=3, words=words_of(8)).tobytes()


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite_are_refused_before_encoding(bad: float) -> None:
    # R4.1.2
    update = np.array([0.0, bad], dtype=np.float32)
    with pytest.raises(NonFiniteError):
        Codec(clip=1.0, n=3, weight_max=10).encode(update, weight=1, words=words_of(0))
    with pytest.raises(NonFiniteError):
        clip_update(update, clip_value=1.0, clip_norm=1.0)


def test_out_of_range_inputs_are_refused() -> None:
    codec = Codec(clip=1.0, n=3, weight_max=10)
    with pytest.raises(CodecError, match="weight"):
        codec.encode(np.zeros(1, dtype=np.float32), weight=11, words=words_of(0))
    with pytest.raises(CodecError, match="clip"):
        codec.encode(np.array([1.5], dtype=np.float32), weight=1, words=words_of(0))
    with pytest.raises(CodecError, match="fit the ring"):
        Codec(clip=1.0, n=1000, weight_max=2**30)
    with pytest.raises(CodecError, match="weight sum"):
        codec.decode(np.array([5, 31], dtype=np.uint32))


def test_clip_bounds_norm_and_values_and_counts_what_it_changed() -> None:
    update = np.array([3.0, 4.0, 0.0, 0.0], dtype=np.float32)
    clipped, fraction = clip_update(update, clip_value=0.7, clip_norm=1.0)
    assert np.allclose(clipped, [0.6, 0.7, 0, 0])
    assert fraction == 0.25
    assert update[0] == 3.0
