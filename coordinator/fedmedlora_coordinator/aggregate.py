"""The sum of a session: verified uploads added chunk by chunk, masks taken off (PROTOCOL §6.12, decision 4).

The accumulator is derived from stored blobs after the survivors were fixed and is never updated in place,
so a kill in the middle costs a repetition and nothing else. Memory holds one vector and some chunks.
"""

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np

from fedmedlora_audit.law import Session, State
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.decryption import decrypted_digest
from fedmedlora_coordinator.errors import RoundError
from fedmedlora_coordinator.model import GlobalModel, Step, sum_uploads
from fedmedlora_coordinator.neighbourhoods import commitments_of, party_of, session_terms
from fedmedlora_coordinator.steps import live_session
from fedmedlora_core.codec import RingVector
from fedmedlora_core.errors import CodecError
from fedmedlora_core.packing import Packing
from fedmedlora_crypto.errors import CryptoError, QuorumError
from fedmedlora_crypto.secagg.aggregator import Aggregator
from fedmedlora_crypto.secagg.graph import Graph, chain_link
from fedmedlora_crypto.secagg.session import SessionTerms

MAX_THREADS: Final = 4  # the sum is bound by memory beyond that


def terms_of_session(state: State, session: Session) -> SessionTerms:
    """Return the constants of a session of this log."""
    heads = state.rounds[session.round].commitments
    link = chain_link(session.purpose, session.attempt)
    commitments = commitments_of(state.terms, link=link, ready=session.ready, heads=heads)
    return session_terms(state.terms, session.sid, commitments)


def check_windows(graph: Graph, parties: Collection[int]) -> None:
    """Refuse to fix a list that every honest site would refuse (R6.15.5).

    Raises:
        RoundError: below_threshold.
    """
    try:
        graph.check_windows(parties, QuorumError)
    except QuorumError as error:
        raise RoundError("below_threshold", f"the graph is too thin: {error}") from None


@dataclass(frozen=True)
class Summation:
    """Everything one sum needs, by digest; a copy, so that a thread can work while the log grows.

    Attributes:
        terms: Constants of the session.
        packing: Frames of the vector.
        uploads: Digests of U3's uploads.
        keys: Party to digest of its keys payload, U1.
        shares: Party to digest of its shares payload, U2.
        survivors: Parties of U3.
        opened: Party to digest of its opened shares.
        decrypted: Digest of the sum where the holders of a CKKS key decrypted it; None where masks are used.
    """

    terms: SessionTerms
    packing: Packing
    uploads: tuple[str, ...]
    keys: dict[int, str]
    shares: dict[int, str]
    survivors: tuple[int, ...]
    opened: dict[int, str]
    decrypted: str | None = None

    @classmethod
    def of(cls, state: State, session: Session, packing: Packing) -> "Summation":
        """Read the summation of a session from the log.

        Raises:
            RoundError: Under CKKS, no sum may be published.
        """

        def parties(digests: dict[str, str]) -> dict[int, str]:
            return {party_of(state.terms, site): digest for site, digest in digests.items()}

        return cls(
            terms=terms_of_session(state, session),
            packing=packing,
            uploads=tuple(session.u3.values()),
            keys=parties(session.u1),
            shares=parties(session.u2),
            survivors=tuple(sorted(parties(session.u3))),
            opened=parties(session.responses),
            decrypted=decrypted_digest(state, session),
        )


class _Stored(Mapping[int, bytes]):
    """Payloads by party, each read when it is asked for: those of all n sites grow with n squared."""

    def __init__(self, blobs: BlobStore, digests: Mapping[int, str]) -> None:
        self._blobs = blobs
        self._digests = digests

    def __getitem__(self, party: int) -> bytes:
        return self._blobs.read(self._digests[party])

    def __iter__(self) -> Iterator[int]:
        return iter(self._digests)

    def __len__(self) -> int:
        return len(self._digests)


def sum_and_unmask(summation: Summation, blobs: BlobStore, *, out: RingVector | None = None) -> RingVector:
    """Return the unmasked ring sum of U3's uploads.

    Args:
        summation: What to sum.
        blobs: Holds the uploads.
        out: uint32 of the packing's count that takes the sum; a new vector when left out.

    Raises:
        RoundError: What the sites handed in does not open the sum; the round is refused.
        StoreError: A stored payload is missing or damaged.
    """
    threads = worker_threads()
    total = np.empty(summation.packing.count, dtype=np.uint32) if out is None else out
    sum_uploads(
        total,
        summation.packing,
        summation.uploads,
        blobs.checked,
        threads=threads,
    )
    try:
        Aggregator(summation.terms).unmask(
            total,
            _Stored(blobs, summation.keys),
            _Stored(blobs, summation.shares),
            summation.survivors,
            _Stored(blobs, summation.opened),
            threads=threads,
        )
    except CryptoError as error:
        notes = "; ".join(getattr(error, "__notes__", ()))
        raise RoundError("refused", f"{error}{': ' + notes if notes else ''}") from None
    return total


def aggregate(
    summation: Summation, blobs: BlobStore, model: GlobalModel, round_number: int
) -> tuple[Step, str]:
    """Sum, unmask, store the sum and decode it where it lies; memory holds the one vector.

    Args:
        summation: What to sum.
        blobs: Holds the uploads, and takes the sum.
        model: The adapter that the round started from.
        round_number: The round.

    Returns:
        (what the sum leads to, digest of the ring sum).

    Raises:
        RoundError: What the sites handed in gives no sum of honest uploads; the round is refused.
        StoreError: A stored payload is missing or damaged.
    """
    threads = worker_threads()
    if summation.decrypted is None:
        total = sum_and_unmask(summation, blobs, out=model.accumulator(round_number))
    else:
        chunks = blobs.chunks(summation.decrypted)
        total = _decrypted_sum(summation.packing, chunks, model.accumulator(round_number))
    ring = blobs.put_chunks(summation.packing.frames_of(total), threads=threads)
    survivors = len(summation.survivors)
    return model.step(total, round_number=round_number, survivors=survivors, threads=threads), ring


def _decrypted_sum(packing: Packing, chunks: Iterable[bytes], out: RingVector) -> RingVector:
    try:
        return packing.read(chunks, out=out)
    except CodecError as error:
        raise RoundError("refused", f"the decrypted sum is malformed: {error}") from None


def worker_threads() -> int:
    """Return how many threads sums and hashes use on this machine; no result depends on it."""
    return min(MAX_THREADS, len(os.sched_getaffinity(0)))


def admit_keys(state: State, blobs: BlobStore) -> tuple[list[str], dict[str, str]]:
    """Judge the advertised keys: sites whose keys may be used, and for each other one the reason."""
    session = live_session(state)
    ids = state.terms.member_ids
    payloads = {
        party_of(state.terms, site): blobs.read(digest)
        for site, digest in session.advertised.items()
        if not session.is_out(site)
    }
    admitted, refused = Aggregator(terms_of_session(state, session)).admit(payloads)
    return [ids[party - 1] for party in admitted], {ids[p - 1]: reason for p, reason in refused.items()}
