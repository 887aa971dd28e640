"""Uploads as ciphertexts, and the sum that a key holder adds and opens itself (PROTOCOL §6.16, decision 24).

The coordinator may serve what it likes. A holder opens nothing but the sum of the uploads in the survivor set
it consented to, each fetched by the digest that its author signed, checked chunk by chunk, added here. One
chunk of every survivor is in memory at a time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from fedmedlora_crypto.ckks import (
    CHUNK_VALUES,
    ChunkSum,
    OpenedChunk,
    Workers,
    add_chunks,
    chunk_count,
    chunk_values,
    upload_bytes,
)
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_site.blobs import UploadFile, UploadFolder
from fedmedlora_site.client import Wire
from fedmedlora_site.custody import Custody
from fedmedlora_site.errors import FolderError, StepRefusal

RingVector = NDArray[np.uint32]
Progress = Callable[[int, int], None]
Survivors = Mapping[str, str]
"""Id -> digest of the upload, as the site agreed to it."""


def encrypt_upload(
    custody: Custody,
    vector: RingVector,
    uploads: UploadFolder,
    *,
    cores: int | None,
    progress: Progress | None = None,
) -> UploadFile:
    """Encrypt an encoded update into the upload folder, a few chunks at a time.

    Args:
        custody: The study's key.
        vector: The encoded update.
        uploads: Where the payload is to lie, whole, before its digest is signed.
        cores: Processes to use; one a core when None.
        progress: Told (chunks done, chunks in all), in this thread.
    """
    count = chunk_count(vector.shape[0])
    with Workers(custody.terms, custody.context, chunks=count, cores=cores) as workers:
        return uploads.store_chunks(workers.encrypt(vector, progress=progress))


class SumOpener:
    """Adds and opens one session's sum at a site that holds the key.

    Args:
        custody: The study's key, with its secret half.
        wire: The connection.
        values: Integers in an encoded update.
        threshold: T of the charter.
        index: Party index of each member.
    """

    def __init__(
        self, custody: Custody, wire: Wire, *, values: int, threshold: int, index: Mapping[str, int]
    ) -> None:
        """Keep the parts; nothing is fetched yet."""
        self._custody = custody
        self._wire = wire
        self._values = values
        self._threshold = threshold
        self._index = index

    async def open(
        self,
        survivors: Survivors,
        sizes: Mapping[str, int],
        *,
        cores: int | None,
        progress: Progress | None = None,
    ) -> RingVector:
        """Fetch, add and decrypt the sum of exactly these uploads (R6.16.6).

        Args:
            survivors: U3 as this site agreed to it.
            sizes: Signed sizes of the uploads, by digest.
            cores: Processes to use; one a core when None.
            progress: Told (chunks done, chunks in all).

        Returns:
            The ring sum, rounded; the noise has not left this function.

        Raises:
            StepRefusal: Fewer than T uploads, one upload under two names, or something that is no sum.
            TransportError: The connection broke; calling again starts over and gives the same sum.
            ForkError: A chunk is not what its author signed.
        """
        self._check(survivors, sizes)
        secret = self._custody.secret
        if secret is None:
            raise FolderError("this site does not hold the CKKS key")
        count = chunk_count(self._values)
        total = np.empty(self._values, dtype=np.uint32)
        workers = await asyncio.to_thread(
            Workers, self._custody.terms, self._custody.context, secret=secret, chunks=count, cores=cores
        )
        try:
            batch = 2 * workers.count
            for start in range(0, count, batch):
                indexes = range(start, min(start + batch, count))
                sums = [await self._sum(survivors, k) for k in indexes]
                opened = await asyncio.to_thread(lambda now: list(workers.open(now)), sums)
                self._place(total, indexes, opened)
                if progress is not None:
                    progress(indexes.stop, count)
        except CryptoError as exc:
            raise StepRefusal("unmask", exc.reason, self._sentence(exc)) from None
        finally:
            await asyncio.to_thread(workers.close)
        return total

    def _check(self, survivors: Survivors, sizes: Mapping[str, int]) -> None:
        """Refuse a list that is no sum of T sites before anything is fetched."""
        if len(survivors) < self._threshold:
            raise StepRefusal(
                "unmask", "short_survivors", f"a sum of {len(survivors)} sites is not decrypted"
            )
        if len(set(survivors.values())) != len(survivors):
            # R6.16.6: a copy of one site's ciphertexts under another's name doubles it in the sum.
            raise StepRefusal("unmask", "duplicate", "two survivors have one and the same upload")
        for site, digest in survivors.items():
            if sizes.get(digest) != upload_bytes(self._values):
                raise StepRefusal("unmask", "bad_share", f"the upload of {site} has an impossible size")

    async def _sum(self, survivors: Survivors, index: int) -> ChunkSum:
        """Fetch one chunk of every survivor and add them."""
        size = upload_bytes(self._values)
        chunks = await asyncio.gather(
            *(self._wire.get_chunk(digest, index, total_bytes=size) for digest in survivors.values())
        )
        parties = [self._index[site] for site in survivors]
        return await asyncio.to_thread(
            add_chunks,
            self._custody.terms,
            list(zip(parties, chunks, strict=True)),
            values=chunk_values(self._values, index),
            threshold=self._threshold,
        )

    def _place(self, total: RingVector, indexes: range, opened: list[OpenedChunk]) -> None:
        for index, found in zip(indexes, opened, strict=True):
            start = index * CHUNK_VALUES
            total[start : start + found.words.shape[0]] = found.words

    def _sentence(self, exc: CryptoError) -> str:
        party = getattr(exc, "party", None)
        names = {i: site for site, i in self._index.items()}
        return str(exc) if party is None else f"{names.get(party, '?')}: {exc}"
