"""How this site casts its vote on a new adapter (PROTOCOL §4.7)."""

from __future__ import annotations

import secrets

from fedmedlora_core.codec import RingVector
from fedmedlora_core.vote import encode_vote, is_worse, slots_of
from fedmedlora_site.evaluation import EvaluationOutcome


def cast(outcome: EvaluationOutcome, *, margin_milli: int, n: int) -> RingVector:
    """Write this site's vote: worse on its own held-out notes by more than the margin, or not (R4.7.3)."""
    worse = is_worse(before=outcome.before, after=outcome.after, margin_milli=margin_milli)
    # R4.7.4: nobody else knows the slot, so nobody can take this vote away
    return encode_vote(worse, slot=secrets.randbelow(slots_of(n)), n=n)
