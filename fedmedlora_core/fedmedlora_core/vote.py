"""One vote in a masked sum of votes: how it is written, and how the sum is counted (PROTOCOL §4.7).

A vote says whether the new adapter is worse than the old one on the voter's own held-out notes. In a masked
sum nobody sees what a single voter adds, so a plain 0/1 coordinate would let one liar add any number and
decide alone. Therefore a vote is a 1 in one slot, drawn at random by the voter, of one of two halves:

    worse (SLOTS) | not worse (SLOTS)

The sum must have no entry outside 0..voters, and its entries must add up to the number of voters. Who wants
to add a second vote has to take one away elsewhere, in a slot that it cannot see: it hits another voter's
slot with probability at most (voters - 1) / slots, and otherwise leaves a negative entry that refuses the
vote. The slots are uniform and nobody's, so the opened sum says nothing but the count.

This module is pure: where the slot comes from is the caller's business.
"""

from __future__ import annotations

import numpy as np

from fedmedlora_core.codec import RingVector
from fedmedlora_core.errors import VoteError
from fedmedlora_core.packing import Packing

SLOTS = 1 << 14
"""Slots of each half in studies of up to 128 members: 128 KiB a vote."""
SLOTS_PER_MEMBER = 128
"""At least so many slots for each member of a larger study: a second vote is found 127 times in 128."""


def slots_of(n: int) -> int:
    """Number of slots of each half for n members: a power of two."""
    return max(SLOTS, 1 << (SLOTS_PER_MEMBER * n - 1).bit_length())


def vote_length(n: int) -> int:
    """Values in a vote, each in the ring of 32 bits."""
    return 2 * slots_of(n)


def vote_packing(n: int) -> Packing:
    """Return the frames of a vote on the wire: 32 bits a value, whatever the study's updates have."""
    return Packing(bits=32, count=vote_length(n))


def is_worse(*, before: float, after: float, margin_milli: int) -> bool:
    """Decide one site's vote from its two held-out losses (R4.7.3).

    Args:
        before: Mean loss in nats under the adapter that the round started from; finite.
        after: The same under the new adapter; NaN or infinity counts as worse.
        margin_milli: Thousandths of a nat by which it may be worse unopposed.
    """
    return not after <= before + margin_milli / 1000


def encode_vote(worse: bool, *, slot: int, n: int) -> RingVector:
    """Write one vote (R4.7.4).

    Args:
        worse: The vote.
        slot: Uniform in 0..slots_of(n)-1, drawn by the voter and told to nobody.
        n: Members of the charter.

    Returns:
        uint32 of shape `(vote_length(n),)` with a single 1.

    Raises:
        VoteError: The slot is out of range (the caller's mistake).
    """
    slots = slots_of(n)
    if not 0 <= slot < slots:
        raise VoteError(f"a slot lies in 0..{slots - 1}")
    vector = np.zeros(2 * slots, dtype=np.uint32)
    vector[slot if worse else slots + slot] = 1
    return vector


def count_votes(total: RingVector, *, voters: int, n: int) -> int:
    """Count the votes against the new adapter in an opened sum (R4.7.4).

    Args:
        total: Ring sum of the votes, uint32 `(vote_length(n),)`.
        voters: Sites in the sum.
        n: Members of the charter.

    Returns:
        How many voters found it worse, 0..voters.

    Raises:
        VoteError: No set of one vote per voter gives this sum: somebody voted more than once, or not at all.
    """
    slots = slots_of(n)
    if total.shape != (2 * slots,):
        raise VoteError("the opened votes have another length than the study's")
    if int(total.max()) > voters:  # a negative number is a very large one in the ring
        raise VoteError("an entry of the opened votes lies outside what the voters can give")
    against, cast = int(total[:slots].sum(dtype=np.uint64)), int(total.sum(dtype=np.uint64))
    if cast != voters:
        raise VoteError(f"{cast} votes were cast by {voters} voters")
    return against
