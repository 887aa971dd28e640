"""A vector of ring integers as a stream of ciphertexts, and the exact sum of such streams (PROTOCOL §6.16).

Packing is flat over all tensors: integer i of the encoded update stands in slot i mod 4096 of ciphertext
i div 4096; the last ciphertext is filled up with zeros. A ciphertext travels as its two polynomials, 131072
bytes; eight of them are one chunk of 1 MiB, so that chunk i of a blob can be checked, added and decrypted by
itself. Nothing here holds more than a few chunks.

Sums are exact: ring words are lifted to signed integers, encrypted, added as polynomials, decrypted and
ROUNDED. The result modulo 2**ring_bits is the sum that masks would have given, bit for bit, and the noise of
decryption - which approximate CKKS would publish, and which says something about the key - is gone (R6.16.3).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedmedlora_crypto.ckks.library import Cipher
from fedmedlora_crypto.ckks.parameters import (
    CHUNK_CIPHERTEXTS,
    CHUNK_VALUES,
    CIPHERTEXT_BYTES,
    MODULUS,
    MOST_DEVIATION,
    SLOTS,
    SlotTerms,
)
from fedmedlora_crypto.errors import MalformedError, ShortSurvivorsError, TermsError

RingVector = NDArray[np.uint32]


@dataclass(frozen=True)
class OpenedChunk:
    """One chunk of a sum, decrypted and rounded.

    Attributes:
        words: The sum's ring words.
        deviation: Largest distance from an integer before rounding, in quanta; for measurements at the key
            holder only, it never leaves the site.
    """

    words: RingVector
    deviation: float


def chunk_count(values: int) -> int:
    """Return how many chunks a stream of that many integers has."""
    return -(-values // CHUNK_VALUES)


def chunk_values(values: int, index: int) -> int:
    """Return how many integers chunk `index` of a stream holds."""
    return min(CHUNK_VALUES, values - index * CHUNK_VALUES)


def encrypt_chunk(cipher: Cipher, terms: SlotTerms, words: RingVector) -> bytes:
    """Encrypt the integers of one chunk; up to 1 MiB.

    Raises:
        TermsError: A word lies outside the ring.
    """
    if words.size and int(words.max()) >> terms.ring_bits:
        raise TermsError("a word lies outside the ring")
    signed = words.astype(np.int64)
    signed[signed >= 1 << (terms.ring_bits - 1)] -= 1 << terms.ring_bits
    return b"".join(cipher.encrypt(signed[at : at + SLOTS]) for at in range(0, signed.shape[0], SLOTS))


def read_chunk(data: bytes, *, values: int, party: int | None = None) -> NDArray[np.uint64]:
    """Read the coefficients of one chunk (R6.16.4).

    Args:
        data: What a peer sent, already checked against its digest.
        values: Integers that the chunk holds.
        party: Who is to blame for what is wrong.

    Raises:
        MalformedError: Another size, or a coefficient that is not below the modulus.
    """
    if len(data) != -(-values // SLOTS) * CIPHERTEXT_BYTES:
        raise MalformedError("a chunk of ciphertexts has another size than the study's", party=party)
    words = np.frombuffer(data, dtype="<u8")
    if int(words.max(initial=0)) >= MODULUS:
        raise MalformedError("a coefficient of a ciphertext is not reduced", party=party)
    return words


class ChunkSum:
    """The sum of one chunk over all survivors; opened only when it holds enough of them.

    Args:
        terms: The charter's terms.
        values: Integers that the chunk holds.
        threshold: T; a sum of fewer is not decrypted (R6.16.6).
    """

    def __init__(self, terms: SlotTerms, *, values: int, threshold: int) -> None:
        """Start with nothing."""
        self._terms = terms
        self._values = values
        self._threshold = threshold
        self._total = np.zeros(-(-values // SLOTS) * CIPHERTEXT_BYTES // 8, dtype=np.uint64)
        self._parties: set[int] = set()

    def add(self, party: int, data: bytes) -> None:
        """Add one party's chunk, once.

        Raises:
            MalformedError: The chunk is not one of this study, or the party was added before.
        """
        if party in self._parties:
            raise MalformedError("a party's ciphertexts are to be added twice", party=party)
        words = read_chunk(data, values=self._values, party=party)
        # Coefficient-wise addition is what the library does, at the speed of memory; q < 2**60: no wrap.
        self._total += words
        self._total -= np.where(self._total >= MODULUS, np.uint64(MODULUS), np.uint64(0))
        self._parties.add(party)

    @property
    def values(self) -> int:
        """Integers that the chunk holds."""
        return self._values

    @property
    def coefficients(self) -> bytes:
        """The sum as ciphertexts."""
        return self._total.astype("<u8").tobytes()

    def open(self, cipher: Cipher) -> OpenedChunk:
        """Decrypt and round the sum (R6.16.3).

        Raises:
            ShortSurvivorsError: Fewer than T parties are in it: it could be one party's update.
            MalformedError: What is in it is no sum of integers that the ring holds.
        """
        self.need_enough()
        return open_sum(cipher, self._terms, self.coefficients, values=self._values)

    def need_enough(self) -> None:
        """Refuse to open a sum of fewer than T parties.

        Raises:
            ShortSurvivorsError: It could be one party's update.
        """
        # R6.16.6: the key never opens anything but a sum that was added here, of at least T parties.
        if len(self._parties) < self._threshold:
            raise ShortSurvivorsError(len(self._parties), self._threshold)


def open_sum(cipher: Cipher, terms: SlotTerms, coefficients: bytes, *, values: int) -> OpenedChunk:
    """Decrypt the coefficients of a sum and round them; only `ChunkSum.open` and its workers call this."""
    words = np.empty(values, dtype=np.uint32)
    half, deviation = 1 << (terms.ring_bits - 1), 0.0
    for at in range(0, values, SLOTS):
        start = at // SLOTS * CIPHERTEXT_BYTES
        real = cipher.decrypt(coefficients[start : start + CIPHERTEXT_BYTES])
        exact = np.rint(real)
        deviation = max(deviation, float(np.abs(real - exact).max()))
        if not deviation <= MOST_DEVIATION or float(np.abs(exact).max()) > half:
            # Somebody uploaded something else than encrypted integers; what it opens to could betray the key.
            raise MalformedError("the sum of the ciphertexts is no sum of ring integers")
        used = exact[: values - at].astype(np.int64)
        words[at : at + SLOTS] = (used & ((1 << terms.ring_bits) - 1)).astype(np.uint32)
    return OpenedChunk(words, deviation)


def add_chunks(
    terms: SlotTerms,
    chunks: Sequence[tuple[int, bytes]],
    *,
    values: int,
    threshold: int,
) -> ChunkSum:
    """Add one chunk of every survivor.

    Args:
        terms: The charter's terms.
        chunks: (party, bytes) of each survivor.
        values: Integers that the chunk holds.
        threshold: T.

    Raises:
        MalformedError: A chunk is not one of this study; `party` names whose.
    """
    found = ChunkSum(terms, values=values, threshold=threshold)
    for party, data in chunks:
        found.add(party, data)
    return found


__all__ = [
    "CHUNK_CIPHERTEXTS",
    "ChunkSum",
    "OpenedChunk",
    "add_chunks",
    "chunk_count",
    "chunk_values",
    "encrypt_chunk",
    "open_sum",
    "read_chunk",
]
