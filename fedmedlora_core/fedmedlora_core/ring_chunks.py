"""How a ring vector is cut into the chunks of its blob, so that each can be checked alone (PROTOCOL §4.6).

Chunk i of the blob of an upload holds the same words of the vector as chunk i of every other upload and of
the published sum.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from fedmedlora_core.codec import RingVector
from fedmedlora_core.errors import CodecError

CHUNK_BYTES = 1 << 20
WORD_BYTES = 4


@dataclass(frozen=True)
class RingChunks:
    """The cut of one study's vectors.

    Args:
        length: Words of a vector; >= 1.
    """

    length: int

    @classmethod
    def of_blob(cls, total_bytes: int) -> RingChunks:
        """Return the cut of a blob of this size.

        Raises:
            CodecError: No ring vector has a blob of this size (the sender's fault).
        """
        if total_bytes < WORD_BYTES or total_bytes % WORD_BYTES:
            raise CodecError("the blob is no ring vector")
        return cls(total_bytes // WORD_BYTES)

    @property
    def total_bytes(self) -> int:
        """Size of the blob."""
        return self.length * WORD_BYTES

    @property
    def count(self) -> int:
        """Number of chunks."""
        return -(-self.total_bytes // CHUNK_BYTES)

    def words(self, index: int) -> tuple[int, int]:
        """Return (first word, number of words) of a chunk."""
        start = index * (CHUNK_BYTES // WORD_BYTES)
        return start, min(CHUNK_BYTES // WORD_BYTES, self.length - start)

    def unpack(self, index: int, data: bytes) -> RingVector:
        """Return the words of a chunk.

        Raises:
            CodecError: The chunk has another length (the sender's fault).
        """
        words = np.frombuffer(data, dtype="<u4") if len(data) % WORD_BYTES == 0 else np.empty(0, "<u4")
        if len(words) != self.words(index)[1]:
            raise CodecError(f"chunk {index} has a wrong length")
        return words.astype(np.uint32)
