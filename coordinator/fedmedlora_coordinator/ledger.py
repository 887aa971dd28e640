"""The coordinator's log as one object: store, tree, law and the coordinator's own pen (PROTOCOL §5).

Every entry takes one path: signature by its author's key at that entry, the law, one durable transaction,
and only then is it folded, shown to watchers and answered. The state in memory is nothing but the fold of
what is on the disk, so a kill at any instant loses no acknowledged event: the next start replays and goes
on.

Any StoreError is final for the process: after a failed write the truth is on the disk, not here.
"""

import asyncio
import datetime as dt
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from fedmedlora_audit.chain import Author, Chain
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import Checkpoint, open_checkpoint, sign_checkpoint
from fedmedlora_audit.cosignature import is_cosigned_after
from fedmedlora_audit.errors import AuditError, LawError, NoteError
from fedmedlora_audit.event_data import Data, Receipt
from fedmedlora_audit.events import COORDINATOR_ID, Entry, Event, Object, Saw, parse_event
from fedmedlora_audit.law import State, apply, check, is_late
from fedmedlora_audit.law.remains import pass_over, recall
from fedmedlora_audit.merkle import Tree, leaf_hash
from fedmedlora_audit.note import NoteSigner, VerifierKey
from fedmedlora_coordinator.errors import ForbiddenError, PeerRefusedError, StoreError, UnservableStoreError
from fedmedlora_coordinator.faults import DieAt
from fedmedlora_coordinator.store import LogStore
from fedmedlora_protos.wire import BATCH_BYTES, BATCH_NOTES, Reason

Clock = Callable[[], dt.datetime]
PayloadCheck = Callable[[Event], None]
Observer = Callable[[Entry], None]


@dataclass(frozen=True)
class Keys:
    """The two keys of a coordinator: one signs its events, the other heads of the log."""

    event: NoteSigner
    log: NoteSigner


@dataclass(frozen=True)
class Batch:
    """Consecutive entries with the signed head that covers exactly them and all before."""

    start: int
    notes: tuple[bytes, ...]
    checkpoint: bytes


def need_lawful_gaps(state: State, missing: Iterable[int]) -> None:
    """Check that every entry without a note is one that `retention.pruned` names.

    Raises:
        StoreError: One is not: the store is damaged.
    """
    for index in missing:
        if not any(start <= index < end for start, end in state.retention.pruned):
            raise StoreError(f"entry {index} of the store is damaged")


def need_continued(tree: Tree, head: Checkpoint) -> None:
    """Check that a log holds everything that one of its own signed heads promised.

    Raises:
        UnservableStoreError: It does not: whoever goes on with it forks the log.
    """
    if head.size > tree.size:
        raise UnservableStoreError(
            f"the log has {tree.size} entries but a head was signed for {head.size}: it was rolled back, and "
            f"to go on would fork it. Restore a backup that has all {head.size}; if there is none, export "
            "this log and begin a new one that names it (OPERATIONS, Backup)"
        )
    if tree.root(head.size) != head.root:
        raise UnservableStoreError(
            f"the log was changed below entry {head.size}: two histories were signed. Nobody goes on with "
            "it: export it, have it judged, and begin a new one (OPERATIONS, Backup)"
        )


class Ledger:
    """One study's log, open for writing by this process alone."""

    def __init__(
        self,
        *,
        terms: CharterTerms,
        store: LogStore,
        keys: Keys,
        clock: Clock,
        observer: Observer | None = None,
        die_at: DieAt | None = None,
    ) -> None:
        """Replay the store and check it against the signed heads.

        Raises:
            StoreError: The store is damaged, rolled back, or of another study.
        """
        self.terms = terms
        self.state = State.begin(terms)
        self.entries: list[Entry] = []
        self.deleted = 0  # entries whose notes are gone; with any, the log can be kept and not be served
        self._store = store
        self._keys = keys
        self._author = Author(COORDINATOR_ID, "coordinator", keys.event, terms.origin)
        self._chain = Chain()
        self._clock = clock
        self._observer = observer
        self._die_at = die_at
        self._tree = Tree()
        self._index_of: dict[bytes, int] = {}
        self._grown = asyncio.Event()
        self._replay()

    @property
    def size(self) -> int:
        """Number of entries, deleted ones included."""
        return len(self.entries) + self.deleted

    def end_size(self) -> int:
        """Number of entries up to the end of the run, or of all while it goes on."""
        ends = (entry.index + 1 for entry in reversed(self.entries) if entry.event.type == "run.closed")
        return next(ends, self.size)

    def submit(self, site: str, note: bytes, payload_check: PayloadCheck) -> tuple[bytes, int]:
        """Take a site's event; the same note again gets the same answer.

        Args:
            site: Whom the caller's certificate names.
            note: The signed event.
            payload_check: Raises PeerRefusedError unless the event's payload is complete and fits; not asked
                about an answer that comes after its step.

        Returns:
            (receipt note, index of the event).

        Raises:
            PeerRefusedError: The event is refused; nothing was written.
            StoreError: The disk refused; the process must end.
        """
        leaf = leaf_hash(note)
        # R3.1.3: the same event again is answered from the log.
        known = self._index_of.get(leaf)
        if known is not None:
            if self.entries[known].event.actor.id != site:
                raise PeerRefusedError(Reason.WRONG_ACTOR)
            return self.entries[known + 1].note, known
        event = self._open(site, note)
        try:
            check(self.state, event, leaf)
        except LawError as error:
            raise PeerRefusedError(Reason.LAW_REFUSED, check=error.check, detail=error.sentence) from None
        if not is_late(self.state, event):  # a late answer has no effect, so nobody needs its payload
            payload_check(event)
        index = self.size
        receipt, chain = self._draft(
            "receipt",
            Receipt(site=site, seq=event.seq, type=event.type),
            round_number=event.round,
            refs=(leaf.hex(),),
        )
        self._write([Entry(index, leaf, note, event), self._own_entry(index + 1, receipt)], event)
        self._chain = chain
        return receipt, index

    def write(
        self,
        type_: str,
        data: Data,
        *,
        round_number: int | None = None,
        refs: Sequence[str] = (),
        objects: Sequence[Object] = (),
        reason: str | None = None,
    ) -> Entry:
        """Write an event of the coordinator's own.

        Raises:
            ForbiddenError: The law does not allow it; nothing was written.
            StoreError: The disk refused; the process must end.
        """
        note, chain = self._draft(
            type_, data, round_number=round_number, refs=refs, objects=objects, reason=reason
        )
        entry = self._own_entry(self.size, note)
        try:
            check(self.state, entry.event, entry.leaf)
        except LawError as error:
            raise ForbiddenError(error.check, f"{type_}: {error}") from None
        self._write([entry], entry.event)
        self._chain = chain
        return entry

    def batch(self, start: int) -> Batch:
        """Return entries from an index on, within one message's limits, with their signed head."""
        notes: list[bytes] = []
        total = 0
        for entry in self.entries[start : start + BATCH_NOTES]:
            total += len(entry.note)
            if total > BATCH_BYTES and notes:
                break
            notes.append(entry.note)
            if is_cosigned_after(entry.event.type):  # its readers get the very head that they cosign
                break
        return Batch(start, tuple(notes), self.checkpoint(start + len(notes)))

    def checkpoint(self, size: int | None = None) -> bytes:
        """Return the signed head of the log at a size (now, by default)."""
        size = self.size if size is None else size
        head = Checkpoint(self.terms.origin, size, self._tree.root(size))
        return sign_checkpoint(head, self._keys.log)

    def need_head(self, note: bytes) -> None:
        """Check a head that somebody shows; one that this log's key signed and this log lacks ends it.

        The head file keeps it, so that the next start refuses as well. A head of another key says nothing.

        Raises:
            StoreError: The log was rolled back, or has two histories.
        """
        try:
            head = open_checkpoint(note, VerifierKey.parse(self._keys.log.vkey), origin=self.terms.origin)
        except (AuditError, NoteError):
            return
        try:
            need_continued(self._tree, head)
        except StoreError:
            self._store.swap_head_file(self._store.head_file(), note)
            raise

    async def grown_beyond(self, size: int) -> None:
        """Return once the log has more than `size` entries."""
        while self.size <= size:
            await self._grown.wait()

    def _open(self, site: str, note: bytes) -> Event:
        try:
            unverified = parse_event(note)
        except AuditError as error:
            raise PeerRefusedError(Reason.BAD_EVENT, check=error.check, detail=error.sentence) from None
        if unverified.event.actor.id != site:
            raise PeerRefusedError(Reason.WRONG_ACTOR)
        verifier = self.state.book.events.get(site)
        if verifier is None or site == COORDINATOR_ID:
            raise PeerRefusedError(Reason.NOT_A_MEMBER)
        try:
            return unverified.verify(verifier)
        except AuditError as error:
            raise PeerRefusedError(Reason.BAD_SIGNATURE, check=error.check) from None

    def _draft(
        self,
        type_: str,
        data: Data,
        *,
        round_number: int | None,
        refs: Sequence[str] = (),
        objects: Sequence[Object] = (),
        reason: str | None = None,
    ) -> tuple[bytes, Chain]:
        return self._author.draft(
            self._chain,
            type=type_,
            data=data,
            saw=Saw(size=self.size, root=self._tree.root().hex()),
            time=self._clock(),
            round=round_number,
            refs=refs,
            objects=objects,
            reason=reason,
        )

    def _own_entry(self, index: int, note: bytes) -> Entry:
        return Entry(index, leaf_hash(note), note, parse_event(note).event)

    def _write(self, entries: list[Entry], cause: Event) -> None:
        """Make entries durable in one transaction with their head, then fold and announce them."""
        self._strike(cause, "before")
        before = self._store.head_file()
        for entry in entries:
            self._tree.append(entry.leaf)
        head = self.checkpoint(self.size + len(entries))
        size = self.size + len(entries)
        self._store.append(self.size, [(e.leaf, e.note) for e in entries], head=head, size=size)
        self._strike(cause, "after")
        self._store.swap_head_file(before, head)
        for entry in entries:
            self._fold(entry)
            if self._observer is not None:
                self._observer(entry)
        self._grown.set()
        self._grown = asyncio.Event()

    def _strike(self, cause: Event, moment: str) -> None:
        if self._die_at is not None:
            self._die_at.strike(cause.type, cause.round, "after" if moment == "after" else "before")

    def _fold(self, entry: Entry) -> None:
        try:
            apply(self.state, entry)
        except LawError as error:
            raise StoreError(f"entry {entry.index} of the log breaks the law: {error}") from None
        self._keep(entry)

    def _keep(self, entry: Entry) -> None:
        self.entries.append(entry)
        self._index_of[entry.leaf] = entry.index
        if entry.event.actor.id == COORDINATOR_ID:
            self._chain = Chain(entry.event.seq, entry.leaf.hex())

    def _replay(self) -> None:
        rows = self._store.entries()
        pruned = any(not row.note for row in rows)
        for stored in rows:
            if not stored.note:
                self._pass_over(stored.leaf)
                continue
            leaf = leaf_hash(stored.note)
            if leaf != stored.leaf or stored.index != self.size:
                raise StoreError(f"entry {stored.index} of the store is damaged")
            try:
                unverified = parse_event(stored.note)
                event = unverified.verify(self.state.key_of(unverified.event.actor))
            except AuditError:
                raise StoreError(f"entry {stored.index} is not signed by a party of this study") from None
            self._tree.append(leaf)
            entry = Entry(stored.index, leaf, stored.note, event)
            if pruned:
                self._recall(entry)
            else:
                self._fold(entry)
        need_lawful_gaps(self.state, (row.index for row in rows if not row.note))
        self._check_heads()

    def _pass_over(self, leaf: bytes) -> None:
        self._tree.append(leaf)
        pass_over(self.state, leaf)
        self._index_of[leaf] = self.size
        self.deleted += 1

    def _recall(self, entry: Entry) -> None:
        for error in recall(self.state, entry):
            raise StoreError(f"entry {entry.index} of the log breaks the law: {error}")
        self._keep(entry)

    def _check_heads(self) -> None:
        """Refuse a store that lacks anything a signed head promised; catch the head file up after a kill."""
        last, in_file = self._store.last_head(), self._store.head_file()
        if self.size and (last is None or self._covered(last) != self.size):
            raise StoreError("the newest head in the store does not cover its entries")
        # The first write of a log may have been cut off before its head file; no later one can be without.
        if in_file is None and self.size > 1:
            raise StoreError(
                "the head file is missing; the log may have been rolled back: use `coordinator restore` with "
                "the newest head that the old folder or any site holds"
            )
        if in_file is not None:
            self._covered(in_file)
        if last is not None and last != in_file:
            self._store.swap_head_file(in_file, last)

    def _covered(self, head: bytes) -> int:
        verifier = VerifierKey.parse(self._keys.log.vkey)
        try:
            checkpoint = open_checkpoint(head, verifier, origin=self.terms.origin)
        except (AuditError, NoteError):
            raise StoreError("a signed head of the log is damaged or of another log") from None
        need_continued(self._tree, checkpoint)
        return checkpoint.size
