"""Own events: signed once, synced, then sent - the same bytes for ever (PROTOCOL §5.3).

A sequence number is never signed twice: two versions would look like equivocation, and the log could hold
either. What a crash interrupts is found here and sent again. An event that came too late is logged without
effect, so no second version is ever needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from fedmedlora_audit.chain import Author, Chain
from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.event_data import Data, KeyRotated, StepRefused
from fedmedlora_audit.events import Event, Object, Saw, open_event
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.note import VerifierKey
from fedmedlora_site.durable import make_folder, write_atomic
from fedmedlora_site.errors import FolderError
from fedmedlora_site.journal import Refusal
from fedmedlora_site.key_ring import KeyRing


@dataclass(frozen=True)
class Signed:
    """One own event.

    Args:
        note: The signed bytes.
        leaf: Its leaf hash, 32 bytes.
        event: What it says.
    """

    note: bytes
    leaf: bytes
    event: Event


class Outbox:
    """The chain of this site's own events on disk.

    Args:
        root: The folder; made when missing.
        author: Signs with this site's event key.
        first: The key that the charter names, if a later one may be in use: the events themselves say from
            where on (`key.rotated`).
        ring: Holds the keys that may be in use.

    Raises:
        FolderError: An event is missing or was changed, or the key in use is not there.
    """

    def __init__(
        self, root: Path, author: Author, *, first: VerifierKey | None = None, ring: KeyRing | None = None
    ) -> None:
        """Read the chain of earlier runs."""
        self._root = make_folder(root)
        self._author = author
        self._key = first or author.signer.verifier
        self._ring = ring
        self._signed: list[Signed] = []
        self._chain = Chain()
        for torn in root.glob(".*.tmp"):
            torn.unlink()
        for path in sorted(root.glob("*.note")):
            self._take(path)
        self._choose_signer()

    def _take(self, path: Path) -> None:
        note = path.read_bytes()
        try:
            event = open_event(note, self._key)
        except AuditError as exc:
            raise FolderError(f"{path}: {exc}") from None
        if (event.seq, event.prev) != (self._chain.seq + 1, self._chain.prev):
            raise FolderError(f"{path}: does not follow the event before it; was the folder restored?")
        self._append(Signed(note, leaf_hash(note), event))

    def _append(self, signed: Signed) -> None:
        self._signed.append(signed)
        self._chain = Chain(signed.event.seq, signed.leaf.hex())
        data = signed.event.data
        if isinstance(data, KeyRotated) and data.key == "event":  # R2.5.1: all that follows is the new key's
            self._key = VerifierKey.parse(data.vkey)

    def _choose_signer(self) -> None:
        if self._ring is not None:
            self._author = replace(self._author, signer=self._ring.need(self._key))

    @property
    def last_seq(self) -> int:
        """Sequence number of the newest own event; 0 when there is none."""
        return self._chain.seq

    def leaf(self, seq: int) -> bytes | None:
        """Leaf of the event with this sequence number, or None if it was not signed here."""
        return self._signed[seq - 1].leaf if 1 <= seq <= len(self._signed) else None

    def unlogged(self, logged_seq: int) -> Sequence[Signed]:
        """Events signed here that the mirror does not hold yet, oldest first."""
        return self._signed[logged_seq:]

    def events(self) -> Sequence[Signed]:
        """All own events, oldest first."""
        return tuple(self._signed)

    def has_refused(self, step: str, round_number: int | None, sid: str | None) -> bool:
        """Whether an event says that a step was refused, for whatever reason: the law takes one (R5.2.5)."""
        return any(
            isinstance(signed.event.data, StepRefused)
            and (signed.event.data.step, signed.event.round, signed.event.data.sid)
            == (step, round_number, sid)
            for signed in self._signed
        )

    def has_told(self, refusal: Refusal) -> bool:
        """Whether an event says what the journal says."""
        return self.has_refused(refusal.step, refusal.round, refusal.sid)

    def sign(
        self,
        *,
        type: str,
        data: Data,
        saw: Saw,
        time: datetime,
        round: int | None = None,
        refs: Sequence[str] = (),
        objects: Sequence[Object] = (),
    ) -> Signed:
        """Sign the next own event and make it durable; sending is the caller's next act."""
        note, _ = self._author.draft(
            self._chain,
            type=type,
            data=data,
            saw=saw,
            time=time,
            round=round,
            refs=refs,
            objects=objects,
        )
        event = open_event(note, self._author.signer.verifier)
        # R5.3.1: on the disk before anybody can send it.
        write_atomic(self._root / f"{event.seq:08d}.note", note)
        signed = Signed(note, leaf_hash(note), event)
        self._append(signed)
        self._choose_signer()
        return signed

    def file_receipt(self, seq: int, receipt: bytes) -> None:
        """Keep the coordinator's signed promise beside the event."""
        write_atomic(self._root / f"{seq:08d}.receipt", receipt)

    def receipt(self, seq: int) -> bytes | None:
        """The receipt of an event, if it came."""
        path = self._root / f"{seq:08d}.receipt"
        return path.read_bytes() if path.is_file() else None
