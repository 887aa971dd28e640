"""Keystreams: known bytes, seeking, chunks, threads."""

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_crypto.xof import SEGMENT_WORDS, Keystream, Vector, add_keystreams

KEY = bytes(range(32))


def raw_words(key: bytes, count: int) -> Vector:
    """The definition, in plain counter mode (R6.4.1)."""
    words = [np.empty(0, dtype=np.uint32)]
    for segment in range(-(-count // SEGMENT_WORDS)):
        mode = modes.CTR(segment.to_bytes(12, "big") + (2).to_bytes(4, "big"))
        stream = Cipher(algorithms.AES256(key), mode).encryptor().update(bytes(4 * SEGMENT_WORDS))
        words.append(np.frombuffer(stream, dtype="<u4").astype(np.uint32))
    return np.concatenate(words)[:count]


def test_the_first_block_is_that_of_a_published_gcm_vector() -> None:
    # The GCM specification's test case 14: zero key, zero nonce, one zero block.
    expected = np.frombuffer(bytes.fromhex("cea7403d4d606b6e074ec5d3baf39d18"), dtype="<u4")
    assert Keystream(bytes(32)).words(0, 4).tolist() == expected.tolist()


@given(start=st.integers(0, 200), count=st.integers(0, 200))
def test_words_anywhere_equal_the_whole_stream(start: int, count: int) -> None:
    assert np.array_equal(Keystream(KEY).words(start, count), raw_words(KEY, 400)[start : start + count])


@pytest.mark.parametrize("start", [SEGMENT_WORDS - 6, 2 * SEGMENT_WORDS - 4, SEGMENT_WORDS + 5])
@pytest.mark.parametrize("count", [3, 9, SEGMENT_WORDS, 2 * SEGMENT_WORDS + 7])
def test_words_across_segments_equal_the_whole_stream(start: int, count: int) -> None:
    whole = raw_words(KEY, 5 * SEGMENT_WORDS)
    assert np.array_equal(Keystream(KEY).words(start, count), whole[start : start + count])


def test_words_far_out_are_those_of_their_segment() -> None:
    segment = 2**40 + 3  # more than four bytes count
    mode = modes.CTR(segment.to_bytes(12, "big") + (2).to_bytes(4, "big"))
    expected = Cipher(algorithms.AES256(KEY), mode).encryptor().update(bytes(64))
    start = segment * SEGMENT_WORDS
    assert Keystream(KEY).words(start, 16).astype("<u4").tobytes() == expected
    assert Keystream(KEY).words(start + 5, 11).astype("<u4").tobytes() == expected[20:]


@pytest.mark.parametrize(
    "size", [0, 1, 3, 4, 5, SEGMENT_WORDS - 1, SEGMENT_WORDS, SEGMENT_WORDS + 1, 5 * SEGMENT_WORDS + 7]
)
@pytest.mark.parametrize("threads", [1, 2, 3])
def test_add_into_equals_the_definition_for_any_size_and_threads(size: int, threads: int) -> None:
    # R6.4.3: same bytes whatever the number of threads
    start = np.arange(size, dtype=np.uint32)
    vector = start.copy()
    Keystream(KEY).add_into(vector, threads=threads)
    assert np.array_equal(vector, start + raw_words(KEY, size))
    Keystream(KEY).add_into(vector, sign=-1, threads=threads)
    assert np.array_equal(vector, start)


def test_add_keystreams_signs_wrap_modulo_2_32() -> None:
    other = bytes(31) + b"\1"
    vector = np.full(1000, 2**32 - 1, dtype=np.uint32)
    add_keystreams(vector, [(Keystream(KEY), 1), (Keystream(other), -1)])
    wide = 2**32 - 1 + raw_words(KEY, 1000).astype(np.int64) - raw_words(other, 1000).astype(np.int64)
    assert np.array_equal(vector, (wide % 2**32).astype(np.uint32))


@given(bit=st.integers(0, 255))
def test_every_bit_of_the_key_counts(bit: int) -> None:
    # R6.4.1: the generator is keyed with the whole seed
    changed = bytearray(KEY)
    changed[bit // 8] ^= 1 << bit % 8
    assert not np.array_equal(Keystream(bytes(changed)).words(0, 8), Keystream(KEY).words(0, 8))


@pytest.mark.parametrize(
    "vector",
    [
        np.zeros(4, dtype=np.int32),
        np.zeros(4, dtype=np.uint64),
        np.zeros((2, 2), dtype=np.uint32),
        np.zeros(8, dtype=np.uint32)[::2],
        np.zeros(4, dtype=">u4"),
        np.frombuffer(bytes(16), dtype=np.uint32),
    ],
)
def test_add_into_other_arrays_refused(vector: Vector) -> None:
    with pytest.raises(ValueError, match="ring vector"):
        Keystream(KEY).add_into(vector)


def test_arguments_out_of_range_refused() -> None:
    vector = np.zeros(4, dtype=np.uint32)
    with pytest.raises(ValueError, match="sign"):
        Keystream(KEY).add_into(vector, sign=2)
    with pytest.raises(ValueError, match="threads"):
        Keystream(KEY).add_into(vector, threads=0)
    with pytest.raises(ValueError, match="32 bytes"):
        Keystream(KEY[:16])
    with pytest.raises(ValueError, match="not negative"):
        Keystream(KEY).words(-1, 1)
    with pytest.raises(ValueError, match="not negative"):
        Keystream(KEY).words(0, -1)


def test_repr_is_silent() -> None:
    assert repr(Keystream(KEY)) == "Keystream(...)"


def test_words_read_on_are_the_words_of_the_stream() -> None:
    stream = Keystream(bytes(range(32)))
    read, at = stream.reader(8), 8
    for count in (4, 8, SEGMENT_WORDS, 4, 3 * SEGMENT_WORDS, 5):
        assert read(count).tolist() == stream.words(at, count).tolist()
        at += count
    for start in (-4, 3):
        with pytest.raises(ValueError, match="whole block"):
            stream.reader(start)
