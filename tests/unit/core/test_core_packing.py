"""Ring vectors in frames of 1 MiB: one encoding for one vector, and every frame can be judged by itself."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.errors import CodecError
from fedmedlora_core.packing import FRAME_BYTES, WIRE_BITS, Packing, RingVector

FRAME_WORDS_24 = FRAME_BYTES // 3


def vector_of(count: int, seed: int = 1) -> RingVector:
    return np.random.default_rng(seed).integers(0, 2**32, count, dtype=np.uint32)


def by_hand(vector: RingVector, bits: int) -> bytes:
    """The wire format, written down word by word."""
    words = [(int(word) & (2**bits - 1)).to_bytes(bits // 8, "little") for word in vector]
    per_frame = FRAME_BYTES // (bits // 8)
    frames = [b"".join(words[at : at + per_frame]) for at in range(0, len(words), per_frame)]
    return b"".join(frame.ljust(FRAME_BYTES, b"\0") for frame in frames[:-1]) + frames[-1]


@pytest.mark.parametrize("bits", WIRE_BITS)
@pytest.mark.parametrize("extra", [-1, 0, 1, 2, 70_001])
def test_frames_around_a_full_one_are_the_words_written_by_hand(bits: int, extra: int) -> None:
    # R4.5.1
    vector = vector_of(FRAME_BYTES // (bits // 8) + extra)
    packing = Packing(bits, vector.size)
    packed = b"".join(packing.frames_of(vector))
    assert packed == by_hand(vector, bits)
    assert len(packed) == packing.total_bytes
    assert all(packed[at] == 0 for at in packing.padding_offsets)


@settings(deadline=None)
@given(bits=st.sampled_from(WIRE_BITS), count=st.integers(1, 300), seed=st.integers(0, 2**32 - 1))
def test_a_vector_comes_back_modulo_the_ring(bits: int, count: int, seed: int) -> None:
    vector, packing = vector_of(count, seed), Packing(bits, count)
    packed = b"".join(packing.frames_of(vector))
    assert packed == by_hand(vector, bits)
    assert (packing.read_bytes(packed) == vector % 2**bits if bits < 32 else vector).all()


@pytest.mark.parametrize("bits", WIRE_BITS)
def test_a_sum_of_frames_is_the_sum_of_vectors_modulo_the_ring(bits: int) -> None:
    count = 2 * FRAME_WORDS_24 + 5
    packing = Packing(bits, count)
    total, plain = np.zeros(count, dtype=np.uint32), np.zeros(count, dtype=np.uint32)
    for seed in range(3):
        vector = vector_of(count, seed)
        plain += vector
        for index, frame in reversed(list(enumerate(packing.frames_of(vector)))):
            packing.add(total, memoryview(frame), index)
    assert list(packing.frames_of(total)) == list(packing.frames_of(plain))


def test_a_24_bit_vector_takes_three_bytes_a_value() -> None:
    packing = Packing(24, 41_943_042)
    assert packing.total_bytes / 41_943_042 < 3.000004


def test_padding_that_is_not_zero_is_refused() -> None:
    # R4.5.2: else one vector would have 256 digests a frame.
    packing = Packing(24, FRAME_WORDS_24 + 1)
    frame = bytearray(next(packing.frames_of(vector_of(packing.count))))
    total = np.zeros(packing.count, dtype=np.uint32)
    frame[-1] = 1
    with pytest.raises(CodecError, match="padding of frame 0"):
        packing.add(total, frame, 0)
    assert not total.any()
    frame[-1] = 0
    packing.add(total, frame, 0)
    assert total.any()


@pytest.mark.parametrize("bits", WIRE_BITS)
def test_every_other_length_is_refused(bits: int) -> None:
    packing = Packing(bits, FRAME_BYTES // (bits // 8) + 3)
    frames = list(map(bytes, packing.frames_of(vector_of(packing.count))))
    for index, frame in enumerate(frames):
        for wrong in (frame[:-1], frame + b"\0", b""):
            with pytest.raises(CodecError, match="bytes, expected"):
                packing.words(wrong, index)
    with pytest.raises(CodecError, match="ends after 1 of 2"):
        packing.read(frames[:1])
    with pytest.raises(CodecError, match="outside"):
        packing.read([*frames, b"\0"])
    with pytest.raises(CodecError, match="expected"):
        packing.read_bytes(b"".join(frames) + b"\0")


def test_what_is_no_vector_of_the_packing_is_refused() -> None:
    for bits, count in ((8, 1), (24, 0), (64, 3)):
        with pytest.raises(CodecError, match="16, 24 or 32"):
            Packing(bits, count)
    with pytest.raises(CodecError, match="vector of 3 words"):
        list(Packing(24, 3).frames_of(vector_of(4)))
    with pytest.raises(CodecError, match="frame 0 has 3 words"):
        Packing(24, 3).pack_words(vector_of(4), 0)


@settings(max_examples=300, deadline=None)
@given(bits=st.sampled_from(WIRE_BITS), count=st.integers(1, 40), data=st.binary(max_size=130))
def test_any_bytes_are_refused_or_are_the_only_encoding_of_what_they_say(
    bits: int, count: int, data: bytes
) -> None:
    packing = Packing(bits, count)
    try:
        vector = packing.read_bytes(data)
    except CodecError:
        return
    assert b"".join(packing.frames_of(vector)) == data
