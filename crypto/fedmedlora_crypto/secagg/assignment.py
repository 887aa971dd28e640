"""Who checks which chunk of a published sum, and how surely a wrong one is caught (PROTOCOL §4.6).

Up to `FULL_CHECK_MEMBERS` members every chunk is assigned to K = n - T + c + 1 of them. Any T acceptors
include at least T + K - n = c + 1 of these, hence an honest one: no altered chunk can be accepted. Nothing
hangs on who is assigned, so the coordinator gains nothing by trying sums until it likes the assignment; the
rule only spreads the work evenly.

In larger studies each site draws its chunks with a secret of its own and the sum's digest, so that the
coordinator cannot know which chunks will be looked at when it commits to the sum. The draw is the same
whenever it is repeated: otherwise a coordinator would break the connection at a chunk that it altered until
the site draws others.
"""

import itertools
import math
from typing import Final

from fedmedlora_crypto import labels
from fedmedlora_crypto.encoding import digest_fields
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream

FULL_CHECK_MEMBERS: Final = 16
"""Largest study in which every chunk is checked for certain."""
_DRAW_WORDS: Final = 1024
MISSED_PER_MILLE: Final = 10
"""In larger studies: the most that the honest acceptors together may miss one altered chunk."""


def checkers(terms: SessionTerms, ring: bytes, chunk: int) -> tuple[int, ...]:
    """Return the parties that a chunk is assigned to, in index order (R4.6.3).

    Args:
        terms: Constants of the session; n, T and c are the charter's, not those of who is left.
        ring: Digest of the published sum, 32 bytes.
        chunk: Index of the chunk.
    """
    seed = digest_fields(labels.CHUNK_ASSIGNMENT, terms.sid, ring)
    first = (int.from_bytes(seed, "big") + chunk) % terms.n
    return tuple(sorted((first + step) % terms.n + 1 for step in range(checkers_per_chunk(terms))))


def checkers_per_chunk(terms: SessionTerms) -> int:
    """Return K = n - T + c + 1: any T of n parties include c + 1 of any K (R4.6.3)."""
    return terms.n - terms.threshold + terms.colluding + 1


def spot_chunks(terms: SessionTerms, chunks: int) -> int:
    """Return how many chunks a site of a larger study draws (R4.6.4).

    The least q for which the at least T - c honest ones among T acceptors together miss a single altered
    chunk in at most `MISSED_PER_MILLE` of 1000 cases; of more altered chunks they miss fewer.
    """
    honest = terms.threshold - terms.colluding
    missed: float = (MISSED_PER_MILLE / 1000) ** (1 / honest)
    return min(chunks, max(1, math.ceil(chunks * (1 - missed))))


def chunks_of(terms: SessionTerms, party: int, ring: bytes, chunks: int, key: bytes) -> tuple[int, ...]:
    """Return the chunks that a party has to check before it accepts a sum, ascending.

    Args:
        terms: Constants of the session.
        party: The one that is about to accept.
        ring: Digest of the published sum, 32 bytes, from the verified log.
        chunks: Number of chunks of the sum.
        key: 32 bytes that only this party can compute, for this sum alone; used in studies of more than
            `FULL_CHECK_MEMBERS`.
    """
    if terms.n <= FULL_CHECK_MEMBERS:
        return tuple(chunk for chunk in range(chunks) if party in checkers(terms, ring, chunk))
    return draw_chunks(key, chunks, spot_chunks(terms, chunks))


def draw_chunks(key: bytes, chunks: int, count: int) -> tuple[int, ...]:
    """Return `count` different chunks out of `chunks`, uniformly, the same for the same key; ascending.

    Args:
        key: 32 bytes, used for this draw only.
        chunks: 1 to 2**32 - 1.
        count: 0 to `chunks`.

    Raises:
        ValueError: More are wanted than there are (the caller's mistake).
    """
    if not 0 <= count <= chunks:
        raise ValueError("no more chunks can be drawn than there are")
    stream, limit = Keystream(key), 2**32 - 2**32 % chunks
    drawn: set[int] = set()
    for start in itertools.count(0, _DRAW_WORDS):  # pragma: no branch - it ends inside
        for word in stream.words(start, _DRAW_WORDS).tolist():
            if len(drawn) == count:
                return tuple(sorted(drawn))
            if word < limit:  # a remainder of the rest would favour the first chunks
                drawn.add(word % chunks)
    raise AssertionError("a keystream does not end")  # pragma: no cover


def catch_probability(chunks: int, altered: int, checked: int) -> float:
    """Return the probability that q random chunks out of N include one of k altered ones (R4.6.5).

    1 - C(N - k, q) / C(N, q), computed with whole numbers.

    Args:
        chunks: N, chunks of the sum; >= 1.
        altered: k, those that are wrong; 0 to N.
        checked: q, those that are checked, drawn without repetition; 0 to N.

    Raises:
        ValueError: The numbers do not fit together (the caller's mistake).
    """
    if not (chunks >= 1 and 0 <= altered <= chunks and 0 <= checked <= chunks):
        raise ValueError("altered and checked chunks are among the chunks")
    return 1 - math.comb(chunks - altered, checked) / math.comb(chunks, checked)
