"""The vote on a new adapter, on the coordinator's side: how the opened votes are counted (PROTOCOL §4.7).

A vote is one more session: whom to wait for and what to say at each step is that of any sum. Every voter
counts again for itself, so a wrong count is refused, not believed.
"""

from fedmedlora_coordinator.aggregate import Summation, sum_and_unmask
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.errors import RoundError
from fedmedlora_core.errors import VoteError
from fedmedlora_core.vote import count_votes


def count_opened(summation: Summation, blobs: BlobStore, n: int) -> int:
    """Sum, unmask and count a session's votes; returns how many are against.

    Args:
        summation: The session of a vote, as the log has it.
        blobs: Where its payloads are.
        n: Members of the charter.

    Raises:
        RoundError: The shares do not open the sum, or it is not one vote per voter: the round is aborted.
        StoreError: A stored payload is missing or damaged.
    """
    total = sum_and_unmask(summation, blobs)
    try:
        return count_votes(total, voters=len(summation.survivors), n=n)
    except VoteError as exc:  # R4.7.4: somebody wrote something else than one vote
        raise RoundError("bad_votes", str(exc)) from None
