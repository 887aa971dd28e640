"""Expand a 32-byte key into ring elements and add them to a vector (PROTOCOL §6.4).

Rules:

* R6.4.1: the keystream is AES-256 in counter mode, keyed with all 256 bits, in segments of 2**16 words:
  segment j encrypts the counter blocks (j, 2), (j, 3), … with j in 12 and the count in 4 big-endian bytes;
  its word i is the little-endian number in bytes 4i..4i+3.
* R6.4.2: a key is used for one vector only, which is what makes counting from zero safe.
* R6.4.3: a segment can be made without those before it, so threads take ranges of the vector, and the bytes
  do not depend on how many there are.

Those counter blocks are the ones that AES-256-GCM counts under nonce j (SP 800-38D), so a segment is the
ciphertext of zeros under GCM, whose tag is dropped: GCM is what processors and libraries are tuned for, and
runs at up to twice the speed of plain counter mode. A place inside a segment is reached by counter mode.

The loop works on segments that stay in the cache: all masks are added to one before the next one is touched,
so that the vector is read and written once whatever the number of masks.

What is not here: where keys come from (`fedmedlora_crypto.secagg.masks`).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

Vector = npt.NDArray[np.uint32]

KEY_BYTES = 32
WORD_BYTES = 4
BLOCK_BYTES = 16
WORDS_PER_BLOCK = BLOCK_BYTES // WORD_BYTES
SEGMENT_WORDS = 1 << 16
"""Words of one segment: 256 KiB, so that it, its place in a vector and the zeros stay in the L2 cache."""
_TAG_BYTES = 16
_TAG_WORDS = _TAG_BYTES // WORD_BYTES
_NONCE_BYTES = 12
_FIRST_COUNT = 2  # GCM keeps counter block (nonce, 1) for its tag
_ZEROS = bytes(SEGMENT_WORDS * WORD_BYTES)
_LITTLE_ENDIAN_WORD = np.dtype("<u4")


class Keystream:
    """The words of one key; seekable, and silent about its key."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        """Take a 32-byte key.

        Raises:
            ValueError: The key has another size (the caller's mistake).
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"a keystream key has {KEY_BYTES} bytes, not {len(key)}")
        self._key = bytes(key)

    def __repr__(self) -> str:
        """Show the class only; the key is secret."""
        return "Keystream(...)"

    def words(self, start: int, count: int) -> Vector:
        """Return words start .. start+count-1 as a new array.

        Args:
            start: First word; >= 0.
            count: Number of words; >= 0.
        """
        if start < 0 or count < 0:
            raise ValueError("start and count are not negative")
        skip = start % WORDS_PER_BLOCK
        room = np.empty(skip + count + _TAG_WORDS, dtype=_LITTLE_ENDIAN_WORD)
        self._fill(AESGCM(self._key), start - skip, room)
        return room[skip : skip + count].astype(np.uint32, copy=False)

    def reader(self, start: int) -> Callable[[int], Vector]:
        """Return a function that gives the next so many words at each call, from word `start` on.

        One buffer serves all calls: what a call returns is overwritten by the next one. Whole segments are
        read fastest.

        Args:
            start: First word; a multiple of 4.
        """
        if start < 0 or start % WORDS_PER_BLOCK:
            raise ValueError("a reader starts at a whole block")
        cipher = AESGCM(self._key)
        room = np.empty(0, dtype=_LITTLE_ENDIAN_WORD)
        at = start

        def read(count: int) -> Vector:
            nonlocal room, at
            skip = at % WORDS_PER_BLOCK
            if len(room) < skip + count + _TAG_WORDS:
                room = np.empty(skip + count + _TAG_WORDS, dtype=_LITTLE_ENDIAN_WORD)
            self._fill(cipher, at - skip, room[: skip + count + _TAG_WORDS])
            at += count
            return room[skip : skip + count].astype(np.uint32, copy=False)

        return read

    def add_into(self, vector: Vector, *, sign: int = 1, threads: int = 1) -> None:
        """Add (sign 1) or subtract (sign -1) this keystream in place, modulo 2**32."""
        add_keystreams(vector, [(self, sign)], threads=threads)

    def _fill(self, cipher: AESGCM, start: int, room: Vector) -> None:
        """Write the words from `start`, the first of a block, into all of `room` but its last four.

        Those take the tag of a segment, which the next segment's words then overwrite.
        """
        count, done = len(room) - _TAG_WORDS, 0
        while done < count:
            segment, within = divmod(start + done, SEGMENT_WORDS)
            size = min(SEGMENT_WORDS - within, count - done)
            if within:
                counter = _nonce(segment) + (_FIRST_COUNT + within // WORDS_PER_BLOCK).to_bytes(4, "big")
                place = room[done : done + size].view(np.uint8).data
                Cipher(AES256(self._key), CTR(counter)).encryptor().update_into(_zeros(size), place)
            else:
                place = room[done : done + size + _TAG_WORDS].view(np.uint8).data
                cipher.encrypt_into(_nonce(segment), _zeros(size), None, place)
            done += size


def _nonce(segment: int) -> bytes:
    return segment.to_bytes(_NONCE_BYTES, "big")


def _zeros(words: int) -> memoryview:
    return memoryview(_ZEROS)[: words * WORD_BYTES]


def add_keystreams(vector: Vector, terms: Sequence[tuple[Keystream, int]], *, threads: int = 1) -> None:
    """Add signed keystreams to a vector in place, modulo 2**32 (PROTOCOL §6.4).

    Args:
        vector: One-dimensional, contiguous, writable array of uint32.
        terms: Keystreams with sign +1 or -1.
        threads: Worker threads, each with its own range of the vector; the result does not depend on it.

    Raises:
        ValueError: The vector has another shape or type, a sign is neither 1 nor -1, or threads < 1.
    """
    require_ring_vector(vector)
    if any(sign not in (1, -1) for _, sign in terms):
        raise ValueError("a sign is 1 or -1")
    if threads < 1:
        raise ValueError("threads is at least 1")
    ranges = list(_ranges(len(vector), threads))
    if len(ranges) <= 1:
        _add_range(vector, terms, 0, len(vector))
        return
    pool = _pool(len(ranges))
    for done in [pool.submit(_add_range, vector, terms, first, last) for first, last in ranges]:
        done.result()


def require_ring_vector(vector: Vector) -> None:
    """Demand a one-dimensional, contiguous, writable array of native uint32.

    Raises:
        ValueError: It is anything else (the caller's mistake).
    """
    if vector.dtype != np.uint32 or vector.ndim != 1:
        raise ValueError("a ring vector is a one-dimensional array of uint32")
    if not (vector.flags.c_contiguous and vector.flags.writeable):
        raise ValueError("a ring vector is contiguous and writable")


@cache
def _pool_of(process: int, threads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(threads, thread_name_prefix="masks")


def _pool(threads: int) -> ThreadPoolExecutor:
    """Return the pool of this size, which lives as long as the process; a forked child gets its own."""
    return _pool_of(os.getpid(), threads)


def _ranges(count: int, threads: int) -> Iterator[tuple[int, int]]:
    """Cut count words into at most `threads` ranges that begin at whole segments."""
    segments = -(-count // SEGMENT_WORDS)
    per_thread = -(-segments // threads) * SEGMENT_WORDS
    first = 0
    while first < count:
        yield first, min(first + per_thread, count)
        first += per_thread


def _add_range(vector: Vector, terms: Sequence[tuple[Keystream, int]], first: int, last: int) -> None:
    """Add all terms to vector[first:last]; first is a whole number of segments."""
    streams = [(AESGCM(stream._key), sign) for stream, sign in terms]
    scratch = np.empty(SEGMENT_WORDS + _TAG_WORDS, dtype=_LITTLE_ENDIAN_WORD)
    for at in range(first, last, SEGMENT_WORDS):
        count = min(SEGMENT_WORDS, last - at)
        chunk, mask, nonce = vector[at : at + count], scratch[:count], _nonce(at // SEGMENT_WORDS)
        zeros, place = _zeros(count), scratch[: count + _TAG_WORDS].view(np.uint8).data
        for cipher, sign in streams:
            cipher.encrypt_into(nonce, zeros, None, place)
            (np.add if sign > 0 else np.subtract)(chunk, mask, out=chunk)
