"""An author's own chain: sequence number and hash of its previous event (E5, E6).

``Author.draft`` is pure: it returns the signed note and the chain after it. The shell stores both durably
before it sends, and keeps the old chain if it could not - one sequence number is never signed twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from fedmedlora_audit.event_data import Data
from fedmedlora_audit.events import Actor, Object, Peer, Role, Saw, encode_event, make_event
from fedmedlora_audit.merkle import EMPTY_ROOT, leaf_hash
from fedmedlora_audit.note import NoteSigner

NO_EVENT: Final = "0" * 64
"""What an author's first event names as its previous one."""
EMPTY_HEAD: Final = Saw(size=0, root=EMPTY_ROOT.hex())
"""What an author has seen that has seen nothing."""
DEFAULT_RUN: Final = "run-1"


@dataclass(frozen=True, slots=True)
class Chain:
    """Where an author stands: sequence number and leaf (64 hex) of its last event."""

    seq: int = 0
    prev: str = NO_EVENT


def event_time(now: datetime) -> str:
    """Write a moment as events do: UTC, whole seconds (G47)."""
    return now.astimezone(UTC).replace(microsecond=0).strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True)
class Author:
    """Someone who writes events into one log.

    Attributes:
        actor_id: The site's id, or ``coordinator``.
        role: site or coordinator.
        signer: The author's event key.
        origin: The log's origin.
    """

    actor_id: str
    role: Role
    signer: NoteSigner
    origin: str

    def draft(
        self,
        chain: Chain,
        *,
        type: str,
        data: Data,
        saw: Saw,
        time: str | datetime,
        run: str = DEFAULT_RUN,
        round: int | None = None,
        refs: Sequence[str] = (),
        objects: Sequence[Object] = (),
        reason: str | None = None,
        peer: Peer | None = None,
        policy: str | None = None,
    ) -> tuple[bytes, Chain]:
        """Sign the author's next event; returns the note and the chain after it.

        Action and outcome are fixed by the type.

        Args:
            chain: Where the author stands; unchanged.
            type: Type of the event.
            data: The data of that type.
            saw: The last head the author verified.
            time: A moment, or its text in whole seconds.
            run: Id of the run.
            round: Number of the round, for types that have one.
            refs: Leaves (64 hex) of the events this one answers.
            objects: The blob that goes with it, for types that have one.
            reason: Why, for ``round.aborted``.
            peer: The other end of the call.
            policy: Digest of the policy in force.

        Raises:
            EventError: The fields are not an event of that type (the caller's mistake).
        """
        event = make_event(
            {
                "log": self.origin,
                "type": type,
                "actor": Actor(id=self.actor_id, role=self.role, key=self.signer.key_id),
                "seq": chain.seq + 1,
                "prev": chain.prev,
                "saw": saw,
                "time": time if isinstance(time, str) else event_time(time),
                "run": run,
                "round": round,
                "reason": reason,
                "peer": peer,
                "objects": tuple(objects),
                "refs": tuple(refs),
                "policy": policy,
                "data": data,
            }
        )
        note = encode_event(event, self.signer)
        return note, Chain(event.seq, leaf_hash(note).hex())
