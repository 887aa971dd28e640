"""The site's own copy of the log: verified, folded by the law, durable (PROTOCOL §5).

Every batch is checked before anything of it counts: the head is signed by the charter's log key, the root
recomputed from all entries is the head's, every note is signed by its author's key at that entry, and the
law allows every event. A batch that fails is kept as evidence and changes nothing on disk.

On disk: `entries` (length-prefixed notes, appended), `checkpoint` (the newest signed head, replaced after
the entries are synced), `cosigned` (the newest head that T witnesses stand behind) and `heads/` (all of those
that came). A crash between the first two leaves entries beyond the head, which are dropped and fetched again;
a head beyond the entries means that entries were lost, and the site stops.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import Checkpoint, open_checkpoint
from fedmedlora_audit.cosignature import open_cosigned
from fedmedlora_audit.errors import AuditError, CheckpointError, LawError
from fedmedlora_audit.events import Entry, Event, Saw, entry_of, open_event, parse_event
from fedmedlora_audit.law import State, apply, is_late
from fedmedlora_audit.merkle import Tree, leaf_hash
from fedmedlora_audit.note import VerifierKey
from fedmedlora_site.durable import append, make_folder, write_atomic
from fedmedlora_site.errors import FolderError, ForkError

_LENGTH_BYTES = 4
OwnLeaf = Callable[[int], bytes | None]
"""seq -> leaf of the event that this site signed with it, or None."""


class Mirror:
    """The log as this site has verified it.

    Args:
        root: Folder of the mirror; made when missing.
        terms: The accepted charter.
        own_id: This site.
        repair: Drop what a crash left beyond the head; False when an agent may be at work on the folder.

    Raises:
        FolderError: The files on disk do not fit together.
    """

    def __init__(self, root: Path, terms: CharterTerms, own_id: str, *, repair: bool = True) -> None:
        """Read the mirror of earlier runs and fold it again."""
        self._entries_path = root / "entries"
        self._repair = repair
        self._head_path = root / "checkpoint"
        self._evidence = root / "evidence"
        self._terms = terms
        self._own_id = own_id
        self._log_key = VerifierKey.parse(terms.log_vkey)
        self._cosigned_path = root / "cosigned"
        self._heads = root / "heads"
        self.witnessed = 0  # entries under the newest head with a quorum of cosignatures, in this process
        self._broken = False
        self.state = State.begin(terms)
        self.tree = Tree()
        self.entries: list[Entry] = []
        self.object_bytes: dict[str, int] = {}
        self.head: bytes | None = None
        self._load()

    @property
    def size(self) -> int:
        """Number of verified entries."""
        return len(self.entries)

    @property
    def root(self) -> bytes:
        """Root over the verified entries."""
        return self.tree.root(self.size)

    @property
    def saw(self) -> Saw:
        """The head of the verified entries, as this site's events name it."""
        return Saw(size=self.size, root=self.root.hex())

    @property
    def own_seq(self) -> int:
        """Sequence number of this site's newest event in the log."""
        return self.state.chain_of(self._own_id).seq

    def extend(
        self, start_index: int, notes: Sequence[bytes], checkpoint: bytes, own_leaf: OwnLeaf
    ) -> list[Entry]:
        """Verify a batch, make it durable and fold it.

        Args:
            start_index: Index of the first note; must be the mirror's size.
            notes: The notes as they came.
            checkpoint: Signed head that covers exactly these entries.
            own_leaf: What this site signed under each of its sequence numbers.

        Returns:
            The new entries.

        Raises:
            ForkError: The coordinator's log contradicts itself, this mirror or the law. The mirror cannot be
                used afterwards; what is on disk is unchanged.
        """
        if self._broken:
            raise ForkError("log_forked", "the mirror stopped at an earlier violation")
        old_size = self.size
        try:
            head = self._check_head(start_index, notes, checkpoint)
            fresh = [self._fold(start_index + i, note, own_leaf) for i, note in enumerate(notes)]
        except ForkError:
            self._broken = True
            self._keep_evidence(old_size, notes, checkpoint)
            del self.entries[old_size:]
            raise
        if fresh or head.size > 0:
            self._persist(notes, checkpoint)
        return fresh

    def take_cosigned(self, note: bytes) -> None:
        """Take a head that T witnesses have cosigned; one that does not hold proves nothing and is left.

        Args:
            note: The head with its cosignatures, as the coordinator sent it; empty for none.

        Raises:
            ForkError: T members stand behind another history than this mirror's.
        """
        if not note:
            return
        try:
            size = open_checkpoint(note, self._log_key, origin=self._terms.origin).size
            witnesses = self.state.book.witnesses_at(size)
            head = open_cosigned(note, self._log_key, witnesses, origin=self._terms.origin)
            head.need_quorum(self._terms.threshold)
        except CheckpointError:
            return
        if not self.witnessed < size <= self.size:
            return
        if self.tree.root(size) != head.checkpoint.root:
            self._broken = True
            self._keep_evidence(size, [], note)
            raise ForkError("log_forked", f"a quorum cosigned another history of {size} entries")
        make_folder(self._heads)
        write_atomic(self._heads / str(size), note)  # what a reviewer of this site's own bundle judges by
        write_atomic(self._cosigned_path, note)
        self.witnessed = size

    def cosigned_heads(self) -> dict[int, bytes]:
        """Return every head that T witnesses were seen to stand behind, by size.

        Those that were sent while this site was away are not among them: the coordinator sends the newest.
        """
        if not self._heads.is_dir():
            return {}
        found = {int(file.name): file for file in self._heads.iterdir() if file.name.isdecimal()}
        return {size: found[size].read_bytes() for size in sorted(found) if size <= self.size}

    def _check_head(self, start_index: int, notes: Sequence[bytes], checkpoint: bytes) -> Checkpoint:
        """Recompute the root with the new leaves and compare it with the signed head."""
        if start_index != self.size:
            raise ForkError("wrong_order", f"expected entries from {self.size}, got {start_index}")
        try:
            head = open_checkpoint(checkpoint, self._log_key, origin=self._terms.origin)
        except CheckpointError as exc:
            raise ForkError("log_forked", str(exc)) from None
        for note in notes:
            self.tree.append(leaf_hash(note))
        if head.size != start_index + len(notes):
            raise ForkError(
                "log_forked", f"a head of size {head.size} for {start_index + len(notes)} entries"
            )
        if head.root != self.tree.root():
            raise ForkError("log_forked", f"the head of size {head.size} does not cover the entries sent")
        return head

    def _fold(self, index: int, note: bytes, own_leaf: OwnLeaf | None) -> Entry:
        """Open one note with the charter's key of its author and let the law judge it."""
        try:
            actor = parse_event(note).event.actor
            event = open_event(note, self.state.key_of(actor))
            entry = entry_of(index, note, event)
            late = is_late(self.state, event)
            apply(self.state, entry)
        except LawError as exc:
            raise ForkError("log_forked", f"entry {index}: {exc}") from None
        except AuditError as exc:
            raise ForkError("wrong_key", f"entry {index}: {exc}") from None
        if own_leaf is not None:
            self._check_own(entry, own_leaf)
        self._learn_sizes(event, late=late)
        self.entries.append(entry)
        return entry

    def _learn_sizes(self, event: Event, *, late: bool) -> None:
        """Note how large the payloads are that an event names.

        R3.2.2: nobody held a late answer against the bytes, and it could name another's payload, so it says
        nothing. What came in time was held against them; the first word stands.
        """
        for item in () if late else event.objects:
            self.object_bytes.setdefault(item.digest, item.bytes)

    def _check_own(self, entry: Entry, own_leaf: OwnLeaf) -> None:
        """Refuse an event in this site's name that this folder did not sign: a stolen key, an old backup."""
        if entry.event.actor.id != self._own_id or own_leaf(entry.event.seq) == entry.leaf:
            return
        raise ForkError(
            "log_forked", f"entry {entry.index}: is signed in this site's name, but not by this folder"
        )

    def _persist(self, notes: Sequence[bytes], checkpoint: bytes) -> None:
        """Entries first, synced; then the head."""
        make_folder(self._entries_path.parent)
        if notes:
            data = b"".join(len(note).to_bytes(_LENGTH_BYTES, "big") + note for note in notes)
            append(self._entries_path, data)
        if checkpoint != self.head:
            write_atomic(self._head_path, checkpoint)
            self.head = checkpoint

    def _load(self) -> None:
        if not self._head_path.is_file():
            if self._entries_path.exists() and self._repair:
                self._entries_path.unlink()  # a first batch whose head was never written
            return
        self.head = self._head_path.read_bytes()
        try:
            head = open_checkpoint(self.head, self._log_key, origin=self._terms.origin)
        except CheckpointError as exc:
            raise FolderError(f"{self._head_path}: {exc}") from None
        end = 0
        for note, after in _records(self._entries_path):
            if self.size == head.size:
                break
            self.tree.append(leaf_hash(note))
            try:
                self._fold(self.size, note, None)
            except ForkError as exc:
                raise FolderError(f"{self._entries_path}: {exc}") from None
            end = after
        if self.size != head.size or self.tree.root() != head.root:
            raise FolderError(f"{self._entries_path}: entries under the signed head are missing or changed")
        if self._repair and self._entries_path.exists() and self._entries_path.stat().st_size > end:
            os.truncate(self._entries_path, end)

    def _keep_evidence(self, size: int, notes: Sequence[bytes], checkpoint: bytes) -> None:
        """Keep the offending batch beside the mirror: with its signed head it is proof."""
        make_folder(self._evidence)
        data = b"".join(len(n).to_bytes(_LENGTH_BYTES, "big") + n for n in [checkpoint, *notes])
        write_atomic(self._evidence / f"batch-{size}", data)


def _records(path: Path) -> Iterator[tuple[bytes, int]]:
    """Notes of the entries file with the offset after each; a torn last record is not returned."""
    data = path.read_bytes() if path.exists() else b""
    start = 0
    while start + _LENGTH_BYTES <= len(data):
        length = int.from_bytes(data[start : start + _LENGTH_BYTES], "big")
        end = start + _LENGTH_BYTES + length
        if end > len(data):
            return
        yield data[start + _LENGTH_BYTES : end], end
        start = end
