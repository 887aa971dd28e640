"""What a session sums at this site: its update, or its vote; and how a vote is cast and counted again (§4.7).

A vote goes through the very same steps as an update. What differs is where its vector lies, under which name
it is spent, and that everybody counts the opened votes again.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

import numpy as np

from fedmedlora_audit.law import Session
from fedmedlora_core.codec import RingVector
from fedmedlora_core.vote import count_votes, encode_vote, is_worse, slots_of, vote_length
from fedmedlora_crypto.secagg.aggregator import Aggregator
from fedmedlora_site.errors import StepRefusal
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.logged_session import logged_terms
from fedmedlora_site.training import EvaluationOutcome

VOTE = "score"
"""The purpose of a vote's session."""


def is_vote(session: Session) -> bool:
    """Whether a session sums votes."""
    return session.purpose == VOTE


def vector_name(held: Holdings, session: Session) -> str:
    """Name under which the vault keeps what a session sums."""
    return f"vote-{session.round:05d}" if is_vote(session) else held.update_name(session.round)


def vector_id(held: Holdings, session: Session) -> str:
    """Name of it in the markers: once released under this name, it is spent.

    A vote's name is the adapter it is about, in every round, study and log (R4.7.8): a second count on one
    adapter, over other voters, would show the vote of whoever is in only one of them.
    """
    return f"vote/{session.base}" if is_vote(session) else held.update_id(session.round)


def cast(outcome: EvaluationOutcome, *, margin_milli: int, n: int) -> RingVector:
    """Write this site's vote: worse on its own held-out notes by more than the margin, or not (R4.7.3)."""
    worse = is_worse(before=outcome.before, after=outcome.after, margin_milli=margin_milli)
    # R4.7.4: nobody else knows the slot, so nobody can take this vote away
    return encode_vote(worse, slot=secrets.randbelow(slots_of(n)), n=n)


def recount(
    held: Holdings, session: Session, opened: Mapping[str, str], payloads: Mapping[str, bytes]
) -> int:
    """Count the opened votes of a session from its payloads (R4.7.5).

    Args:
        held: The site's durable state: charter and mirror.
        session: The session, its count published.
        opened: Site to digest of the shares that it opened before the count.
        payloads: Every payload that the session's lists and `opened` name, by digest.

    Returns:
        How many voters are against.

    Raises:
        CryptoError: The shares do not open the sum.
        VoteError: The sum is not one vote per voter.
        StepRefusal: An upload has another length than a vote.
    """
    terms = held.terms
    index = {site: i for i, site in enumerate(terms.member_ids, start=1)}

    def by_party(digests: Mapping[str, str]) -> dict[int, bytes]:
        return {index[site]: payloads[digest] for site, digest in digests.items()}

    total = np.zeros(vote_length(terms.n), dtype=np.uint32)
    for upload in by_party(session.u3).values():
        if len(upload) != total.nbytes:
            raise StepRefusal("count", "wrong_count", "an upload has another length than a vote")
        total += np.frombuffer(upload, dtype="<u4")
    survivors: Sequence[int] = sorted(by_party(session.u3))
    Aggregator(logged_terms(held, session)).unmask(
        total, by_party(session.u1), by_party(session.u2), survivors, by_party(opened)
    )
    return count_votes(total, voters=len(survivors), n=terms.n)
