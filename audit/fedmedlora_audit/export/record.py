"""What one row is made from: an entry, its receipt, its author's entry before, the verdict (AUDIT "Exports").

The entries are read from the bundle again, not taken from the verifier: what was judged is recognised by its
root. A bundle that changed in between is refused.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from fedmedlora_audit.bundle import CHECKPOINT, read_files
from fedmedlora_audit.cosignature import checkpoint_of
from fedmedlora_audit.errors import AuditError, BundleError, CheckpointError, NoteError
from fedmedlora_audit.events import Entry, Event, entry_of, parse_event
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import ALG_ED25519, SIGNATURE_BYTES, parse_note
from fedmedlora_audit.tiles import claimed_size, read_entries, read_remains
from fedmedlora_audit.verdict import Verdict

Verification = Literal["verified", "incomplete", "unverified"]
"""What became of the bundle: passed, passed but for checks that could not be made, or failed."""
VERIFICATION: Final[Mapping[str, Verification]] = {
    "pass": "verified",
    "incomplete": "incomplete",
    "fail": "unverified",
}


@dataclass(frozen=True, slots=True)
class Record:
    """One entry and what a row says beside it.

    Attributes:
        entry: The entry.
        receipt: Index of its receipt, for a site's event that has one.
        previous: The author's event before, where it is in the bundle.
        verification: What became of the bundle.
    """

    entry: Entry
    receipt: int | None
    previous: Event | None
    verification: Verification

    @property
    def leaf(self) -> str:
        """The entry's leaf hash, 64 hex."""
        return self.entry.leaf.hex()

    @property
    def signature_line(self) -> str:
        """The note's one signature line, without its newline."""
        return self.entry.note.decode().rstrip("\n").rpartition("\n")[2]

    @property
    def signature_base64(self) -> str:
        """Key id and signature as they stand in the note."""
        return self.signature_line.rpartition(" ")[2]

    @property
    def key_name(self) -> str:
        """Name of the key that the note says signed it."""
        return parse_note(self.entry.note).lines[0].name

    @property
    def reason(self) -> str | None:
        """Why it did not succeed, a word of an enum; None for what did."""
        event = self.entry.event
        return (event.reason or getattr(event.data, "reason", None)) if event.outcome else None

    def other_party(self) -> str | None:
        """The party at the other end: the peer, whom a receipt is for, the log's keeper; None if all."""
        event = self.entry.event
        if event.peer is not None:
            return event.peer.id
        if event.actor.role == "site":
            return "coordinator"
        return getattr(event.data, "site", None) if event.type in ("receipt", "delivery.failed") else None


@dataclass(frozen=True, slots=True)
class Records:
    """The rows to be of one bundle.

    Attributes:
        entries: The entries that can be read, in order.
        unreadable: Indexes of entries of the wrong form: no event, or not signed in one line in its author's
            name; only a bundle that failed has any.
        verification: What became of the bundle.
    """

    entries: Sequence[Entry]
    unreadable: tuple[int, ...]
    verification: Verification

    def __len__(self) -> int:
        """Count the rows."""
        return len(self.entries)

    def __iter__(self) -> Iterator[Record]:
        """Yield the rows in order."""
        receipts = {ref: e.index for e in self.entries if e.event.type == "receipt" for ref in e.event.refs}
        by_leaf: dict[str, Event] = {}
        for entry in self.entries:
            leaf = entry.leaf.hex()
            receipt = receipts.get(leaf) if entry.event.actor.role == "site" else None
            yield Record(entry, receipt, by_leaf.get(entry.event.prev), self.verification)
            by_leaf[leaf] = entry.event


def read_records(path: Path, verdict: Verdict) -> Records:
    """Read the entries of a judged bundle.

    Args:
        path: The bundle: a folder, or a packed file.
        verdict: What the verifier said of it.

    Raises:
        BundleError: The bundle changed after it was judged, or cannot be read (the operator's, or whoever
            changed it).
    """
    files, _ = read_files(path)
    notes = next((n for size in _sizes(files) if (n := _judged(files, size, verdict)) is not None), None)
    if notes is None:
        raise BundleError("the entries are not those that were judged: the bundle changed meanwhile")
    entries, unreadable = [], []
    for index, note in notes.items():
        try:
            event = parse_event(note).event
            if verdict.verdict == "fail":
                _check_signature_line(note, event)
        except AuditError:
            unreadable.append(index)
        else:
            entries.append(entry_of(index, note, event))
    return Records(entries, tuple(unreadable), VERIFICATION[verdict.verdict])


def _check_signature_line(note: bytes, event: Event) -> None:
    """Refuse a note whose signature lines have room for a text; whether one holds is E2's to say.

    A name and bytes that no key has checked are whatever a forger writes there, and two forms carry them.
    """
    found = [(line.name, len(line.signature)) for line in parse_note(note).lines]
    if found != [(event.actor.id, SIGNATURE_BYTES[ALG_ED25519])]:
        raise NoteError("an event has one signature, in its author's name", check="G45")


def _sizes(files: Mapping[str, bytes]) -> Iterator[int]:
    """Yield the sizes that the log may have: what the head says, what the lowest hash tiles say."""
    with suppress(CheckpointError):
        yield checkpoint_of(files.get(CHECKPOINT, b"")).size
    yield claimed_size(files)


def _judged(files: Mapping[str, bytes], size: int, verdict: Verdict) -> dict[int, bytes] | None:
    """Read the notes of a log of this size, by index; None if they are not those that were judged."""
    notes, _ = read_entries(files, size)
    if Tree.of_data(notes).root().hex() == verdict.root:
        return dict(enumerate(notes))
    remains = read_remains(files, size)
    if remains is not None and remains.tree.root().hex() == verdict.root:
        return dict(remains.notes)
    return None
