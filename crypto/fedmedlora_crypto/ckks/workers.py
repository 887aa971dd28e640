"""Encrypting and decrypting on several cores (PROTOCOL §6.16).

TenSEAL holds the interpreter's lock while it works (two threads take as long as one after the other), so the
cores are reached by processes. They are started fresh, not forked: a fork would copy an agent with its open
connections and threads. A short vector is not worth their start and stays in this process.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from types import TracebackType
from typing import Any, Final, Self, TypeVar

import numpy as np

from fedmedlora_crypto.ckks.keys import PublicContext, SecretKey, generate
from fedmedlora_crypto.ckks.library import Cipher
from fedmedlora_crypto.ckks.parameters import CHUNK_VALUES, SLOTS, SizePlan, SlotTerms
from fedmedlora_crypto.ckks.stream import (
    ChunkSum,
    OpenedChunk,
    RingVector,
    chunk_count,
    encrypt_chunk,
    open_sum,
)

WORTH_PROCESSES: Final = 16
"""Chunks from which on several processes are started; below, their start takes longer than the work."""
MOST_WORKERS: Final = 16
CALIBRATION_CIPHERTEXTS: Final = 8
T = TypeVar("T")
Progress = Callable[[int, int], None]
"""(chunks done, chunks in all)."""

_worker: dict[str, Any] = {}


class Workers:
    """Encrypts and opens chunks in order, on several cores when there are enough of them.

    Args:
        terms: The charter's terms.
        context: The study's public context.
        secret: The secret key, where sums are to be opened.
        chunks: How many chunks there will be.
        cores: Cores to use; all that this process may use when None.
    """

    def __init__(
        self,
        terms: SlotTerms,
        context: PublicContext,
        *,
        secret: SecretKey | None = None,
        chunks: int,
        cores: int | None = None,
    ) -> None:
        """Build the cipher, and start processes where they pay."""
        self._terms = terms
        self.count = worker_count(chunks, cores)
        self._pool: ProcessPoolExecutor | None = None
        if self.count > 1:
            self._pool = ProcessPoolExecutor(
                self.count,
                mp_context=multiprocessing.get_context("spawn"),
                initializer=_begin,
                initargs=(terms, context.encode(), secret.encode() if secret else None),
            )
        else:
            self._cipher = cipher_of(terms, context, secret)

    def __repr__(self) -> str:
        """Say how many; the key is secret."""
        return f"Workers({self.count})"

    def __enter__(self) -> Self:
        """Use as a context manager: the processes end with it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the processes."""
        self.close()

    def close(self) -> None:
        """End the processes, without waiting for work that nobody will collect."""
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)

    def encrypt(self, vector: RingVector, *, progress: Progress | None = None) -> Iterator[bytes]:
        """Yield the chunks of an encrypted vector in order; at most two a worker are in flight.

        Args:
            vector: Ring words, at least one.
            progress: Told (chunks done, chunks in all) after each.
        """
        total = chunk_count(vector.shape[0])
        slices = (vector[at : at + CHUNK_VALUES] for at in range(0, vector.shape[0], CHUNK_VALUES))
        chunks: Iterator[bytes]
        if self._pool is None:
            chunks = (encrypt_chunk(self._cipher, self._terms, part) for part in slices)
        else:
            chunks = self._ordered(_encrypt, ((part,) for part in slices))
        for done, chunk in enumerate(chunks, start=1):
            yield chunk
            if progress is not None:
                progress(done, total)

    def open(self, sums: Iterable[ChunkSum]) -> Iterator[OpenedChunk]:
        """Open sums of chunks, in order.

        Raises:
            ShortSurvivorsError: A sum of fewer than T parties.
            MalformedError: A sum that is none of ring integers.
        """
        if self._pool is None:
            return (found.open(self._cipher) for found in sums)
        return self._ordered(_open, (_ready(found) for found in sums))

    def _ordered(self, work: Callable[..., T], arguments: Iterable[tuple[Any, ...]]) -> Iterator[T]:
        pool = self._pool
        if pool is None:  # pragma: no cover - callers have looked
            return
        waiting: deque[Future[T]] = deque()
        for given in arguments:
            waiting.append(pool.submit(work, *given))
            if len(waiting) >= 2 * self.count:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def worker_count(chunks: int, cores: int | None = None) -> int:
    """Return how many processes a number of chunks is worth."""
    if chunks < WORTH_PROCESSES:
        return 1
    return max(1, min(cores or len(os.sched_getaffinity(0)), MOST_WORKERS))


def cipher_of(terms: SlotTerms, context: PublicContext, secret: SecretKey | None) -> Cipher:
    """Return the cipher of a public context, with its secret key where there is one."""
    return context.cipher(terms) if secret is None else secret.cipher(context, terms)


def plan(
    values: int, sites: int, *, ring_bits: int, clock: Callable[[], float], cores: int | None = None
) -> SizePlan:
    """Plan a round's sizes and measure this machine on a few ciphertexts (PROTOCOL §6.16).

    Args:
        values: Integers in an encoded update.
        sites: Members of the study.
        ring_bits: Width of the ring.
        clock: Seconds that only grow; this package reads none of its own.
        cores: Cores to use; all when None.

    Raises:
        TermsError: The noise of such a sum could reach half a quantum.
        LibraryError: TenSEAL is not installed.
    """
    terms = SlotTerms(ring_bits, sites)
    context, secret = generate()
    cipher = secret.cipher(context, terms)
    sample = np.arange(SLOTS, dtype=np.int64)
    cipher.decrypt(cipher.encrypt(sample))  # the first call also fills the library's tables
    started = clock()
    sealed = [cipher.encrypt(sample) for _ in range(CALIBRATION_CIPHERTEXTS)]
    between = clock()
    for coefficients in sealed:
        cipher.decrypt(coefficients)
    ended = clock()
    return SizePlan(
        values,
        sites,
        workers=worker_count(chunk_count(values), cores),
        encrypt_seconds=(between - started) / CALIBRATION_CIPHERTEXTS,
        decrypt_seconds=(ended - between) / CALIBRATION_CIPHERTEXTS,
    )


def _ready(found: ChunkSum) -> tuple[bytes, int]:
    """Return what another process needs to open a sum, once it may be opened."""
    found.need_enough()
    return found.coefficients, found.values


def _begin(terms: SlotTerms, context: bytes, secret: bytes | None) -> None:
    """Build a worker's own cipher once."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    _worker["terms"] = terms
    key = None if secret is None else SecretKey.decode(secret)
    _worker["cipher"] = cipher_of(terms, PublicContext.decode(context), key)


def _end_with_parent() -> None:
    """End when the parent does, however it does: a worker left behind would keep the key in its memory."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encrypt(part: RingVector) -> bytes:
    return encrypt_chunk(_worker["cipher"], _worker["terms"], part)


def _open(coefficients: bytes, values: int) -> OpenedChunk:
    return open_sum(_worker["cipher"], _worker["terms"], coefficients, values=values)
