"""Expand a 32-byte key into ring elements and add them to a vector (PROTOCOL §6.4).

Rules:

* R6.4.1: the keystream is AES-256 in counter mode from counter zero, keyed with all 256 bits; word i is the
  little-endian number in bytes 4i..4i+3.
* R6.4.2: a key is used for one vector only, which is what makes the zero nonce safe.
* R6.4.3: counter mode can start at any block, so threads take ranges of the vector, and the bytes do not
  depend on how many there are.

The loop works on chunks that stay in the cache: all masks are added to a chunk before the next one is
touched, so that the vector is read and written once whatever the number of masks.

What is not here: where keys come from (`fedmedlora_crypto.secagg.masks`).
"""

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext
from cryptography.hazmat.primitives.ciphers.algorithms import AES256
from cryptography.hazmat.primitives.ciphers.modes import CTR

Vector = npt.NDArray[np.uint32]

KEY_BYTES = 32
WORD_BYTES = 4
BLOCK_BYTES = 16
WORDS_PER_BLOCK = BLOCK_BYTES // WORD_BYTES
CHUNK_WORDS = 64 * 1024  # 256 KiB: vector chunk, keystream chunk and zeros stay in a second-level cache
_ZEROS = bytes(CHUNK_WORDS * WORD_BYTES)
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
        block, skip = divmod(start, WORDS_PER_BLOCK)
        words = np.empty(skip + count, dtype=_LITTLE_ENDIAN_WORD)
        _fill(self._encryptor(block), words)
        return words[skip:].astype(np.uint32, copy=False)

    def reader(self, start: int) -> Callable[[int], Vector]:
        """Return a function that gives the next so many words at each call, from word `start` on.

        One cipher and one buffer serve all calls: what a call returns is overwritten by the next one.

        Args:
            start: First word; a multiple of 4.
        """
        if start < 0 or start % WORDS_PER_BLOCK:
            raise ValueError("a reader starts at a whole block")
        encryptor = self._encryptor(start // WORDS_PER_BLOCK)
        buffer = np.empty(0, dtype=_LITTLE_ENDIAN_WORD)

        def read(count: int) -> Vector:
            nonlocal buffer
            if len(buffer) < count:
                buffer = np.empty(count, dtype=_LITTLE_ENDIAN_WORD)
            _fill(encryptor, buffer[:count])
            return buffer[:count].astype(np.uint32, copy=False)

        return read

    def add_into(self, vector: Vector, *, sign: int = 1, threads: int = 1) -> None:
        """Add (sign 1) or subtract (sign -1) this keystream in place, modulo 2**32."""
        add_keystreams(vector, [(self, sign)], threads=threads)

    def _encryptor(self, block: int) -> CipherContext:
        counter = block.to_bytes(BLOCK_BYTES, "big")
        return Cipher(AES256(self._key), CTR(counter)).encryptor()


def _fill(encryptor: CipherContext, words: Vector) -> None:
    """Write the next words of a stream into place: allocating them would cost more than AES does."""
    zeros = memoryview(_ZEROS)
    for at in range(0, len(words), CHUNK_WORDS):
        part = words[at : at + CHUNK_WORDS]
        encryptor.update_into(zeros[: part.nbytes], part.view(np.uint8).data)


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
    """Cut count words into at most `threads` ranges that begin at whole chunks."""
    chunks = -(-count // CHUNK_WORDS)
    per_thread = -(-chunks // threads) * CHUNK_WORDS
    first = 0
    while first < count:
        yield first, min(first + per_thread, count)
        first += per_thread


def _add_range(vector: Vector, terms: Sequence[tuple[Keystream, int]], first: int, last: int) -> None:
    """Add all terms to vector[first:last]; first is a whole number of chunks."""
    streams = [(stream._encryptor(first // WORDS_PER_BLOCK), sign) for stream, sign in terms]
    scratch = bytearray(CHUNK_WORDS * WORD_BYTES)
    keystream = np.frombuffer(scratch, dtype=_LITTLE_ENDIAN_WORD)
    zeros = memoryview(_ZEROS)
    for at in range(first, last, CHUNK_WORDS):
        count = min(CHUNK_WORDS, last - at)
        chunk, mask = vector[at : at + count], keystream[:count]
        for encryptor, sign in streams:
            encryptor.update_into(zeros[: count * WORD_BYTES], scratch)
            (np.add if sign > 0 else np.subtract)(chunk, mask, out=chunk)
