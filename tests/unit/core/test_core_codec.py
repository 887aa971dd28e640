"""The ring codec: weighted updates go in, their weighted mean comes out, within the stated bound."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.codec import (
    CHUNK_VALUES,
    Codec,
    RingVector,
    choose_wire_bits,
    clip_update,
    clipped_permille,
)
from fedmedlora_core.errors import CodecError, NonFiniteError


def words_of(seed: int):  # type: ignore[no-untyped-def]
    """A seekable uniform stream, as a keystream is: word i does not depend on where reading starts."""
    stream = np.random.default_rng(seed).integers(0, 2**32, size=200_000, dtype=np.uint32)

    def words(start: int, count: int) -> RingVector:
        return stream[start : start + count]

    return words


@settings(deadline=None)
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
    bits = data.draw(st.sampled_from([16, 24, 32] if n <= 32 else [24, 32]))
    codec = Codec(clip=clip, n=n, weight_max=1000, ring_bits=bits)
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
    in_place, again = clip_update(update, clip_value=0.7, clip_norm=1.0, out=update)
    assert in_place is update
    assert (update == clipped).all()
    assert again == fraction


@pytest.mark.parametrize("bits", [16, 24, 32])
def test_bytes_do_not_depend_on_the_number_of_threads(bits: int) -> None:
    codec = Codec(clip=1.0, n=3, weight_max=1000, ring_bits=bits)
    update = np.random.default_rng(4).uniform(-1, 1, 700_001).astype(np.float32)
    stream = np.random.default_rng(5).integers(0, 2**32, update.size, dtype=np.uint32)
    encoded = [
        codec.encode(update, weight=7, words=lambda at, n: stream[at : at + n], extras=(3,), threads=threads)
        for threads in (1, 2, 3)
    ]
    assert encoded[0].tobytes() == encoded[1].tobytes() == encoded[2].tobytes()
    assert int(encoded[0].max()) < 2**bits
    plain, _, _ = codec.decode(encoded[0], extras=1)
    for threads in (1, 2):
        total = encoded[0].copy()
        in_place, weight_sum, extras = codec.decode(
            total, extras=1, out=total[:-2].view(np.float32), threads=threads
        )
        assert in_place.tobytes() == plain.tobytes()
        assert (weight_sum, extras) == (7, (3,))


@pytest.mark.parametrize("threads", [1, 2])
def test_an_error_in_any_range_reaches_the_caller(threads: int) -> None:
    update = np.zeros(700_001, dtype=np.float32)
    update[-CHUNK_VALUES - 3] = np.nan
    with pytest.raises(NonFiniteError):
        Codec(clip=1.0, n=3, weight_max=10).encode(
            update, weight=1, words=lambda _, n: np.zeros(n, np.uint32), threads=threads
        )
    with pytest.raises(ValueError, match="threads"):
        Codec(clip=1.0, n=3, weight_max=10).encode(update, weight=1, words=words_of(0), threads=0)


def test_exact_integers_that_could_wrap_are_refused_with_the_charter() -> None:
    # R4.2.2
    Codec(clip=1.0, n=32, weight_max=1000, ring_bits=16)
    with pytest.raises(CodecError, match="the clipped share"):
        Codec(clip=1.0, n=33, weight_max=1, ring_bits=16)
    Codec(clip=1.0, n=127, weight_max=65_536, ring_bits=24)
    with pytest.raises(CodecError, match="weight_max"):
        Codec(clip=1.0, n=128, weight_max=65_536, ring_bits=24)
    with pytest.raises(CodecError, match="16, 24 or 32"):
        Codec(clip=1.0, n=3, weight_max=1, ring_bits=20)


def test_an_exact_integer_that_wraps_would_be_another_number() -> None:
    # The partner of the test above: with the check out of the way, the sum of the weights is a wrong one.
    codec = Codec(clip=1.0, n=3, weight_max=30, ring_bits=16)
    object.__setattr__(codec, "weight_max", 30_000)
    total = np.array([0, 3 * 30_000], dtype=np.uint32)
    assert codec.decode(total)[1] == 3 * 30_000 - 2**16


def test_the_narrowest_ring_that_leaves_sixteen_bits_is_chosen() -> None:
    # R4.5.3
    assert choose_wire_bits(n=3, weight_max=65_536) == 24
    assert choose_wire_bits(n=127, weight_max=65_536) == 24
    assert choose_wire_bits(n=128, weight_max=1) == 32, "24 bits would leave 15 to a value"
    assert choose_wire_bits(n=3, weight_max=2_796_203) == 32, "the weights need more than 24 bits"
    codec = Codec(clip=1.0, n=5, weight_max=65_536, ring_bits=24)
    assert codec.value_bits == 20
    assert 0 < codec.head_room_bits < 1


def test_the_clipped_share_is_told_in_thousandths_only() -> None:
    # R4.5.5
    assert [clipped_permille(x) for x in (0.0, 1e-9, 0.0499, 0.05, 1.0)] == [0, 1, 50, 50, 1000]
    for bad in (-0.1, 1.1, float("nan")):
        with pytest.raises(CodecError):
            clipped_permille(bad)


@pytest.mark.parametrize(("clip_value", "clip_norm"), [(1.0, 1e6), (1.0, 5.0), (1e3, 5.0), (1e3, 1e6)])
def test_a_clipped_update_does_not_depend_on_the_number_of_threads(
    clip_value: float, clip_norm: float
) -> None:
    update = np.random.default_rng(6).standard_normal(700_001).astype(np.float32)
    plain, fraction = clip_update(update, clip_value=clip_value, clip_norm=clip_norm)
    for threads in (1, 2, 3):
        out = update.copy()
        clipped, again = clip_update(
            out, clip_value=clip_value, clip_norm=clip_norm, out=out, threads=threads
        )
        assert clipped is out
        assert (clipped.tobytes(), again) == (plain.tobytes(), fraction)
    assert float(np.abs(plain).max()) <= clip_value
    assert float(np.linalg.norm(plain.astype(np.float64))) <= clip_norm * (1 + 1e-6)


def test_a_stream_read_on_gives_the_bytes_of_one_read_in_pieces() -> None:
    class Stream:
        def reader(self, start: int) -> Callable[[int], RingVector]:
            at = [start]

            def read(count: int) -> RingVector:
                at[0] += count
                read_on: RingVector = words_of(3)(at[0] - count, count)
                return read_on

            return read

    codec = Codec(clip=1.0, n=3, weight_max=10)
    update = np.random.default_rng(7).uniform(-1, 1, 150_001).astype(np.float32)
    pieces = codec.encode(update, weight=3, words=words_of(3))
    assert codec.encode(update, weight=3, words=Stream()).tobytes() == pieces.tobytes()
