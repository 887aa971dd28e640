"""The witnesses' cosignatures at the coordinator: taken, kept, and shown to everybody (AUDIT "Witnesses").

Nothing here is secret and nothing is trusted: whoever reads a cosigned head checks every line of it. A line
is durable before it is acknowledged. Which heads are cosigned follows from the log (`is_cosigned_after`).
"""

import asyncio

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.cosignature import (
    checkpoint_of,
    is_cosigned_after,
    open_line,
    with_cosignatures,
)
from fedmedlora_audit.errors import CheckpointError
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.ledger import Ledger
from fedmedlora_coordinator.store import LogStore
from fedmedlora_protos.wire import Reason


class Witnesses:
    """The cosignatures of one study's log."""

    def __init__(self, ledger: Ledger, store: LogStore) -> None:
        """Read what earlier processes kept."""
        self._ledger = ledger
        self._store = store
        self._terms: CharterTerms = ledger.terms
        self._lines: dict[int, dict[str, bytes]] = {}
        self._moved = asyncio.Event()
        for size, site, line in store.cosignatures():
            self._lines.setdefault(size, {})[site] = line
        self._quorums = sorted(size for size in self._lines if self.has_quorum(size))

    @property
    def demanded(self) -> bool:
        """Whether the charter lets nothing be opened without a quorum of witnesses."""
        return "C3" in self._terms.demands

    def take(self, site: str, note: bytes, line: bytes) -> None:
        """Take a site's cosignature of a head; the same head again is no error.

        Args:
            site: Whom the caller's certificate names.
            note: The head, as this log signed it.
            line: The site's signature line.

        Raises:
            PeerRefusedError: wrong_head: not a head of this log that is cosigned; bad_signature.
            StoreError: The disk refused, or the head is this log's own and this log lacks it: an older backup
                is being served. The process must end.
        """
        try:
            head = checkpoint_of(note)
        except CheckpointError:
            raise PeerRefusedError(Reason.WRONG_HEAD) from None
        entries = self._ledger.entries
        known = 0 < head.size <= len(entries) and is_cosigned_after(entries[head.size - 1].event.type)
        if not known or self._ledger.checkpoint(head.size) != note:
            self._ledger.need_head(note)
            raise PeerRefusedError(Reason.WRONG_HEAD)
        try:
            # R2.5.5: a key witnesses the heads of its time, and one who left witnesses none.
            open_line(line, self._ledger.state.book.witnesses_at(head.size)[site], head)
        except (CheckpointError, KeyError):
            raise PeerRefusedError(Reason.BAD_SIGNATURE, check="C3") from None
        lines = self._lines.setdefault(head.size, {})
        if site in lines:
            return
        self._store.add_cosignature(head.size, site, line)
        lines[site] = line
        if len(lines) == self._terms.threshold:
            self._quorums = sorted({*self._quorums, head.size})
            self._moved.set()
            self._moved = asyncio.Event()

    async def news(self, size: int, cosigned: int) -> None:
        """Return once the log is longer than `size`, or what a quorum stands behind of it than `cosigned`."""
        waits = [asyncio.ensure_future(w) for w in (self._ledger.grown_beyond(size), self._beyond(cosigned))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    async def _beyond(self, size: int) -> None:
        while self.newest_size() <= size:
            await self._moved.wait()

    def cosigners(self, size: int) -> frozenset[str]:
        """Return who has cosigned the head of a size."""
        return frozenset(self._lines.get(size, ()))

    def has_quorum(self, size: int) -> bool:
        """Tell whether T members have cosigned the head of a size."""
        return len(self._lines.get(size, ())) >= self._terms.threshold

    def newest_size(self) -> int:
        """Return the size of the newest head with a quorum, 0 if none has one."""
        return self._quorums[-1] if self._quorums else 0

    def quorum_count(self) -> int:
        """Return how many heads have a quorum."""
        return len(self._quorums)

    def newest(self, up_to: int) -> bytes:
        """Return the newest head of at most this size that has a quorum, with its lines; else nothing."""
        sizes = [size for size in self._quorums if size <= up_to]
        if not sizes:
            return b""
        return with_cosignatures(self._ledger.checkpoint(sizes[-1]), self._lines[sizes[-1]].values())
