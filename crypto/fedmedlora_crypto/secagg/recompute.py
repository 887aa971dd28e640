"""Check a published sum against the uploads, chunk by chunk (PROTOCOL §4.6).

Whoever holds the payloads of a session - keys of U1, shares of U2, opened shares, uploads of U3 - can take
the masks off any range of the sum of the uploads and compare it with the same range of the published sum: a
keystream can start anywhere. The masks are rebuilt once, by the code that the coordinator uses; memory is a
few chunks, whatever the length of the vector and the number of sites.

What is not here: fetching chunks and checking them against the digests that were signed, and who checks
which chunk (`assignment`).
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Final

import numpy as np

from fedmedlora_crypto.errors import WrongSumError
from fedmedlora_crypto.secagg.aggregator import Aggregator, Opening, Unmasking
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Vector

RING_BITS: Final = (16, 24, 32)


class ChunkSum:
    """One chunk on its way: the masks first, then each upload's words; then it is compared."""

    def __init__(self, opening: Opening, *, chunk: int, start: int, count: int, ring_bits: int) -> None:
        """Expand the masks of words start .. start+count-1; see `SumCheck.chunk`."""
        self._chunk, self._start = chunk, start
        self._mask = np.uint32((1 << ring_bits) - 1)
        self._sum: Vector = np.zeros(count, dtype=np.uint32)
        for stream, sign in opening.streams:
            words = stream.words(start, count)
            (np.add if sign > 0 else np.subtract)(self._sum, words, out=self._sum)

    def add(self, upload: Vector) -> None:
        """Add the words of one upload.

        Raises:
            WrongSumError: It has another number of words than the chunk: no sum of it can be right.
        """
        if upload.shape != self._sum.shape:
            raise WrongSumError(chunk=self._chunk, value=self._start)
        np.add(self._sum, upload, out=self._sum)

    def compare(self, published: Vector) -> None:
        """Demand that the published words are the sum of what was added, without the masks (R4.6.1).

        Raises:
            WrongSumError: They are not; the error names the chunk and the first wrong value.
        """
        if published.shape != self._sum.shape:
            raise WrongSumError(chunk=self._chunk, value=self._start)
        wrong = np.flatnonzero((self._sum & self._mask) != published)
        if wrong.size:
            raise WrongSumError(chunk=self._chunk, value=self._start + int(wrong[0]))


class SumCheck:
    """The masks of one published sum, rebuilt once; any chunk can then be checked."""

    def __init__(
        self,
        terms: SessionTerms,
        keys: Mapping[int, bytes],
        shares: Mapping[int, bytes],
        survivors: Collection[int],
        opened: Mapping[int, bytes],
        *,
        ring_bits: int = 32,
    ) -> None:
        """Rebuild the masks.

        Args:
            terms: Constants of the session.
            keys: Keys payloads of U1, by party.
            shares: Shares payloads of U2.
            survivors: U3.
            opened: Opened-shares payloads of parties in U3.
            ring_bits: Width of the ring; the sum is compared modulo 2**ring_bits.

        Raises:
            QuorumError: U1, U2, U3 or the usable opened shares are fewer than T.
            DealtWronglyError: A dealer's shares rebuild something else than it announced.
            PeerError: A payload is bad.
            ValueError: The ring has no such width (the caller's mistake).
        """
        if ring_bits not in RING_BITS:
            raise ValueError("a ring has 16, 24 or 32 bits")
        self._opening = Aggregator(terms).open_masks(keys, shares, survivors, opened)
        self._ring_bits = ring_bits

    def __repr__(self) -> str:
        """Show the class only; masks are secret until their sum is published."""
        return "SumCheck(...)"

    @property
    def unmasking(self) -> Unmasking:
        """Whose opened shares were used, and whose were refused for which defect."""
        return self._opening.unmasking

    def chunk(self, index: int, *, start: int, count: int) -> ChunkSum:
        """Begin the check of one chunk.

        Args:
            index: Number of the chunk, for errors.
            start: Its first word in the vector; >= 0.
            count: Its words; >= 0.
        """
        return ChunkSum(self._opening, chunk=index, start=start, count=count, ring_bits=self._ring_bits)

    def check(self, index: int, published: Vector, uploads: Iterable[Vector], *, start: int) -> None:
        """Check one chunk of the published sum against the same chunk of every upload (R4.6.1).

        Args:
            index: Number of the chunk.
            published: Its words in the published sum.
            uploads: Its words in the upload of each member of U3, in any order.
            start: Its first word in the vector.

        Raises:
            WrongSumError: The sum of the uploads without their masks is another one.
        """
        partial = self.chunk(index, start=start, count=len(published))
        for upload in uploads:
            partial.add(upload)
        partial.compare(published)
