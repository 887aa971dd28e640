"""What a session sums at this site: its update, its vote, or its validation counts (PROTOCOL §4.7, §4.15).

All three go through the very same steps. What differs is where the vector lies, how long it is, under which
name it is spent, and which other sums its own could be subtracted from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from fedmedlora_audit.law import Session
from fedmedlora_audit.law.state import COUNTS
from fedmedlora_core.codec import RingVector
from fedmedlora_core.packing import Packing
from fedmedlora_core.validation_counts import CountLayout
from fedmedlora_core.vote import vote_packing
from fedmedlora_crypto.secagg.aggregator import Aggregator
from fedmedlora_site.errors import StepRefusal
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.logged_session import logged_terms

VOTE = "score"
"""The purpose of a vote's session."""


def is_vote(session: Session) -> bool:
    """Whether a session sums votes."""
    return session.purpose == VOTE


def is_counts(session: Session) -> bool:
    """Whether a session sums validation counts."""
    return session.purpose == COUNTS


def step_name(session: Session) -> str:
    """Name of the upload among the steps at which a fault test can kill this site."""
    return "vote" if is_vote(session) else "counts" if is_counts(session) else "upload"


def vector_name(held: Holdings, session: Session) -> str:
    """Name under which the vault keeps what a session sums."""
    if is_vote(session):
        return f"vote-{session.round:05d}"
    return f"counts-{session.round:05d}" if is_counts(session) else held.update_name(session.round)


def vector_id(held: Holdings, session: Session) -> str:
    """Name of it in the markers: once released under this name, it is spent.

    A vote's name, and that of counts, is the adapter it is about, in every round, study and log (R4.7.8,
    R4.15.5): a second sum on one adapter, over other sites, would show what is in only one of them.
    """
    if is_vote(session):
        return f"vote/{session.base}"
    return f"counts/{session.base}" if is_counts(session) else held.update_id(session.round)


def consent_base(held: Holdings, session: Session) -> str:
    """What a consent is recorded under: the base; of counts the charter, whose sums are of the same notes.

    R4.15.5: so a site agrees to sums of counts of one set of sites only, in all rounds of a study.
    """
    return held.terms.digest if is_counts(session) else session.base


def need_accepted(held: Holdings, step: str, session: Session, what: str) -> None:
    """Refuse a session about another adapter than the one that this site computed and accepted in its round.

    R4.7.2, R4.15.1.

    Args:
        held: The site's durable state.
        step: The step that is asked for.
        session: The session.
        what: What the session is of, for the sentence: "the vote is on", "the counts are of".

    Raises:
        StepRefusal: Reason "wrong_base".
    """
    summed = held.mirror.state.rounds[session.round].summed
    published = None if summed is None else summed.published
    if summed is None or published is None or held.site not in summed.accepted:
        raise StepRefusal(step, "wrong_base", "this site has not accepted the round's aggregate")
    if session.base != published.next_base or not held.bases.holds(session.base):
        raise StepRefusal(step, "wrong_base", f"{what} another adapter than this site computed")


def packing_of(held: Holdings, session: Session) -> Packing:
    """Frames of what a session sums."""
    if is_vote(session):
        return vote_packing(held.terms.n)
    if is_counts(session):
        return CountLayout.of(held.study, session.ready).packing
    return held.study.packing(session.round)


def load_vector(held: Holdings, session: Session) -> RingVector:
    """Load what this site adds to a session's sum, not masked yet.

    Raises:
        FolderError: The vault's file is missing or damaged.
    """
    vector = held.vault.load_ring(vector_name(held, session))
    if not is_counts(session):
        return vector
    # Kept are the counts of every type of the study; what travels is that of the session's layout (R4.15.4).
    counts = CountLayout.of(held.study).decode(vector, voters=1)
    return CountLayout.of(held.study, session.ready).encode(counts)


def opened_sum(
    held: Holdings, session: Session, opened: Mapping[str, str], payloads: Mapping[str, bytes]
) -> RingVector:
    """Sum the uploads of a session of votes or counts again, and take the masks off (R4.7.5, R4.15.6).

    Args:
        held: The site's durable state: charter and mirror.
        session: The session, its count published.
        opened: Site to digest of the shares that it opened before the count.
        payloads: Every payload that the session's lists and `opened` name, by digest.

    Raises:
        CryptoError: The shares do not open the sum.
        StepRefusal: An upload has another length than the session's vectors.
    """
    terms = held.terms
    index = {site: i for i, site in enumerate(terms.member_ids, start=1)}

    def by_party(digests: Mapping[str, str]) -> dict[int, bytes]:
        return {index[site]: payloads[digest] for site, digest in digests.items()}

    total = np.zeros(packing_of(held, session).count, dtype=np.uint32)
    for upload in by_party(session.u3).values():
        if len(upload) != total.nbytes:
            raise StepRefusal(session.step, "wrong_count", "an upload has another length than the session's")
        total += np.frombuffer(upload, dtype="<u4")
    survivors: Sequence[int] = sorted(by_party(session.u3))
    Aggregator(logged_terms(held, session)).unmask(
        total, by_party(session.u1), by_party(session.u2), survivors, by_party(opened)
    )
    return total
