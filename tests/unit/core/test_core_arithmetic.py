"""The loops over values: the compiled ones and those with numpy are one definition, to the bit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as drawn_arrays

from fedmedlora_core import arithmetic
from fedmedlora_core.arithmetic import LANES, Loops, arrays, compiled
from fedmedlora_core.codec import Codec, FloatVector, RingVector, clip_update

built = pytest.mark.skipif(compiled is None, reason="this installation has no compiled loops: no C compiler")
BOTH = [pytest.param(arrays, id="numpy"), pytest.param(compiled, id="compiled", marks=built)]
LENGTHS = st.one_of(st.integers(0, 3 * LANES), st.integers((1 << 15) - 2, (1 << 15) + 2))
EXTREMES = [0.0, -0.0, 1e-45, -1e-38, 3e38, -3e38, 0.013, -0.013, 1.0, -1.0]


@st.composite
def float_vectors(draw: st.DrawFn) -> FloatVector:
    """Values of all sizes, some of them at the ends of what a float32 can be."""
    size, seed, spread = (
        draw(LENGTHS),
        draw(st.integers(0, 2**32 - 1)),
        draw(st.sampled_from([1e-30, 1, 1e30])),
    )
    rng = np.random.default_rng(seed)
    values = (rng.standard_normal(size) * spread).astype(np.float32)
    for at in draw(st.lists(st.integers(0, max(0, size - 1)), max_size=5)) if size else ():
        values[at] = draw(st.sampled_from(EXTREMES))
    return values


def words_like(values: FloatVector) -> RingVector:
    return np.random.default_rng(values.size).integers(0, 2**32, values.size, dtype=np.uint32)


@built
@settings(deadline=None)
@given(values=float_vectors(), chunk=st.sampled_from([1, 7, LANES, 1000, 1 << 15]))
def test_both_measure_the_same(values: FloatVector, chunk: int) -> None:
    found = []
    for loops in (arrays, compiled):
        chunks = -(-values.size // chunk)
        squares, largest = np.full((chunks, LANES), 7.0), np.full(chunks, 7, dtype=np.float32)
        loops.measure(values, squares, largest, chunk)
        found.append((squares.tobytes(), largest.tobytes()))
    assert found[0] == found[1]


@built
@settings(deadline=None)
@given(
    values=float_vectors(),
    shrink=st.floats(0, 1, width=32),
    limit=st.floats(0, 1e3, width=32),
    in_place=st.booleans(),
)
def test_both_clip_the_same(values: FloatVector, shrink: float, limit: float, in_place: bool) -> None:
    found = []
    for loops in (arrays, compiled):
        source = values.copy()
        out = source if in_place else np.full_like(source, 7)
        found.append((loops.clip(source, out, shrink, limit), out.tobytes()))
    assert found[0] == found[1]


@built
@settings(deadline=None)
@given(
    values=float_vectors(),
    bits=st.sampled_from([16, 24, 32]),
    quanta=st.floats(0, 2**31, allow_subnormal=False),
    in_place=st.booleans(),
)
def test_both_encode_the_same(values: FloatVector, bits: int, quanta: float, in_place: bool) -> None:
    largest = float(np.abs(values).max(initial=0.0))
    factor = quanta / largest if largest > 1e-30 else quanta  # |value| * factor stays within a ring
    found = []
    for loops in (arrays, compiled):
        source = values.copy()
        out = source.view(np.uint32) if in_place else np.full(values.size, 7, dtype=np.uint32)
        measured = loops.encode(source, words_like(values), out, factor, 2**bits - 1)
        assert measured == largest
        found.append(out.tobytes())
    assert found[0] == found[1]


@built
def test_the_compiled_encoding_fuses_no_product_with_a_sum() -> None:
    values = np.random.default_rng(8).uniform(0.55, 0.99, 10_000).astype(np.float32)
    factor = 2**28 * 0.999  # products lie in 2**27..2**28 and are rounded to multiples of 2**-25
    product = values.astype(np.float64) * factor
    # So close below a whole number that the rounded product's sum is that number; that of the exact product,
    # rounded once, is often below it.
    words = ((np.ceil(product) - product) * 2**32 - 63).clip(0).astype(np.uint32)
    found = [np.empty(values.size, dtype=np.uint32) for _ in range(2)]
    for loops, out in zip((arrays, compiled), found, strict=True):
        loops.encode(values, words, out, factor, 2**32 - 1)
    assert np.array_equal(found[0], np.ceil(product).astype(np.uint32))
    assert found[0].tobytes() == found[1].tobytes()


@built
@settings(deadline=None)
@given(
    total=drawn_arrays(np.uint32, st.integers(0, 3 * LANES)),
    bits=st.integers(1, 32),
    factor=st.floats(1e-30, 1e20),
    in_place=st.booleans(),
)
def test_both_decode_the_same(total: RingVector, bits: int, factor: float, in_place: bool) -> None:
    found = []
    for loops in (arrays, compiled):
        source = total.copy()
        mean = source.view(np.float32) if in_place else np.full(total.size, 7, dtype=np.float32)
        loops.decode(source, mean, factor, bits)
        found.append(mean.tobytes())
    assert found[0] == found[1]


@pytest.mark.parametrize("loops", BOTH)
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("at", [0, 40, (1 << 15) + 3])
def test_a_value_that_is_not_finite_is_seen(loops: Loops, bad: float, at: int) -> None:
    values = np.zeros((1 << 15) + 5, dtype=np.float32)
    values[at] = bad
    out = np.empty(values.size, dtype=np.uint32)
    squares, largest = np.empty((2, LANES)), np.empty(2, dtype=np.float32)
    assert not np.isfinite(loops.encode(values, words_like(values), out, 1.0, 2**32 - 1))
    loops.measure(values, squares, largest, 1 << 15)
    assert np.isfinite(largest).tolist() == [at >= 1 << 15, at < 1 << 15]


def misfits() -> Iterator[tuple[str, tuple[Any, ...]]]:
    """Calls with one array that does not fit."""
    f, u = np.zeros(32, dtype=np.float32), np.zeros(32, dtype=np.uint32)
    yield "measure", (f, np.zeros((2, LANES)), np.zeros(3, dtype=np.float32), 16)
    yield "measure", (f, np.zeros((1, LANES)), np.zeros(2, dtype=np.float32), 16)
    yield "measure", (f, np.zeros((2, LANES)), np.zeros(2, dtype=np.float32), 0)
    yield "clip", (f, f[:31], 1.0, 1.0)
    yield "encode", (f, u[:31], u, 1.0, 1)
    yield "encode", (f, u, u[:31].copy(), 1.0, 1)
    yield "decode", (u, f[:31], 1.0, 32)
    yield "decode", (u, f, 1.0, 0)
    yield "decode", (u, f, 1.0, 33)


@pytest.mark.parametrize("loops", BOTH)
@pytest.mark.parametrize(("name", "arguments"), list(misfits()))
def test_arrays_that_do_not_fit_each_other_are_refused(
    loops: Loops, name: str, arguments: tuple[Any, ...]
) -> None:
    with pytest.raises(ValueError, match="do not fit each other"):
        getattr(loops, name)(*arguments)


@built
def test_the_compiled_loops_take_no_other_memory_than_that_of_their_types() -> None:
    f: Any = np.zeros(32, dtype=np.float32)
    u: Any = np.zeros(32, dtype=np.uint32)
    d: Any = np.zeros(32)
    read_only = f.copy()
    read_only.flags.writeable = False
    swapped = f.astype(f.dtype.newbyteorder())
    for arguments in ((d, d, 1.0, 1.0), (u, f, 1.0, 1.0), (f, u, 1.0, 1.0), (swapped, f, 1.0, 1.0)):
        with pytest.raises(ValueError, match="do not fit each other"):
            compiled.clip(*arguments)
    for arguments in ((f[::2], f[:16], 1.0, 1.0), (f, read_only, 1.0, 1.0)):
        with pytest.raises((ValueError, BufferError)):
            compiled.clip(*arguments)
    with pytest.raises(ValueError, match="do not fit each other"):  # not one place, and not apart
        compiled.clip(f[:31], f[1:], 1.0, 1.0)
    with pytest.raises(TypeError):
        compiled.clip([1.0], f, 1.0, 1.0)  # type: ignore[arg-type]


@built
@pytest.mark.parametrize("bits", [16, 24, 32])
def test_an_update_has_one_encoding_and_a_sum_one_mean(monkeypatch: pytest.MonkeyPatch, bits: int) -> None:
    # R4.4.1: every party decodes to the same bytes, whatever was built at its place
    codec = Codec(clip=0.01, n=5, weight_max=1000, ring_bits=bits)
    update = np.random.default_rng(3).normal(0, 0.004, 400_001).astype(np.float32)
    found = []
    for loops in (arrays, compiled):
        monkeypatch.setattr(arithmetic, "loops", loops)
        clipped, share = clip_update(update, clip_value=0.01, clip_norm=2.0, threads=2)
        encoded = codec.encode(clipped, weight=700, words=lambda at, n: words_like(update)[at : at + n])
        mean, *_ = codec.decode(encoded, threads=2)
        found.append((share, clipped.tobytes(), encoded.tobytes(), mean.tobytes()))
    assert found[0] == found[1]
    assert 0 < found[0][0] < 1
