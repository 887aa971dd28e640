"""Looking into a bundle: its entries by round, site, type or digest, and the proof of one (AUDIT "Browsing").

Rules:
    * An entry is shown with its inclusion proof only after that proof was verified against a head that the
      log's key signed; a quorum head over it is verified and named as well.
    * A receipt is the coordinator's own event that names the entry's leaf, under the coordinator's signature.

What this does not do: judge the log. An entry that is proven is in the log; whether it was lawful there,
`verify` says.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from fedmedlora_audit import bundle as of
from fedmedlora_audit.checkpoint import Checkpoint, open_checkpoint
from fedmedlora_audit.errors import AuditError, BundleError
from fedmedlora_audit.event_data import Receipt
from fedmedlora_audit.events import Entry, entry_of, parse_event
from fedmedlora_audit.exporters import later_keys
from fedmedlora_audit.merkle import Tree, verify_inclusion
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.tiles import read_entries
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.witnessing import JudgedWitnesses, judge_witnesses

MIN_DIGEST: Final = 8
"""Fewest hex digits that name a digest."""


class Filters(NamedTuple):
    """Which entries are wanted; None is any.

    Attributes:
        round: Number of the round that an event belongs to.
        site: Its author, or the site that it speaks of.
        type: Its type.
        digest: The first digits, at least 8, of its leaf or of a digest that it names.
    """

    round: int | None = None
    site: str | None = None
    type: str | None = None
    digest: str | None = None

    def wants(self, entry: Entry) -> bool:
        """Say whether an entry is wanted."""
        event = entry.event
        about = (event.actor.id, getattr(event.data, "site", None))
        return (
            self.round in (None, event.round)
            and (self.site is None or self.site in about)
            and self.type in (None, event.type)
            and (self.digest is None or _names(entry, self.digest))
        )


@dataclass(frozen=True, slots=True)
class ProvenEntry:
    """One entry with what proves that it is in the log.

    Attributes:
        entry: The entry.
        head: The log's signed head that the proof leads to.
        proof: The inclusion proof (RFC 6962), verified.
        signature: What was found of its author's signature; empty if it holds.
        receipt: The coordinator's receipt; None if there is none, or none is due.
        quorum_size: Entries under the first head with a quorum that covers it; None if there is none.
        witnesses: The members that cosigned that head.
    """

    entry: Entry
    head: Checkpoint
    proof: tuple[bytes, ...]
    signature: str
    receipt: Entry | None
    quorum_size: int | None
    witnesses: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it as plain JSON values."""
        return {
            "index": self.entry.index,
            "leaf": self.entry.leaf.hex(),
            "event": self.entry.event.model_dump(by_alias=True, mode="json"),
            "note": self.entry.note.decode(),
            "signature": self.signature or "holds",
            "proof": {
                "size": self.head.size,
                "root": self.head.root.hex(),
                "hashes": [step.hex() for step in self.proof],
            },
            "receipt": None if self.receipt is None else row_of(self.receipt),
            "quorum": {"size": self.quorum_size, "witnesses": list(self.witnesses)},
        }


class Browser:
    """A bundle opened for looking."""

    def __init__(
        self, notes: list[bytes], trust: Trust, head: Checkpoint, witnesses: JudgedWitnesses
    ) -> None:
        """Take what `open` read."""
        self._trust, self.head, self._witnesses = trust, head, witnesses
        self._tree = Tree.of_data(notes)
        self.unreadable: list[int] = []
        self.entries: list[Entry] = []
        self._keys: dict[bytes, VerifierKey | None] = {}  # leaf -> the author's key at that entry
        book = trust.key_book()
        for index, note in enumerate(notes):
            try:
                entry = entry_of(index, note, parse_event(note).event)
            except AuditError:
                self.unreadable.append(index)
                continue
            self.entries.append(entry)
            self._keys[entry.leaf] = book.event_key_of(entry.event.actor)
            book.take(index, entry.event)

    @classmethod
    def open(cls, path: Path, trust: Trust) -> Self:
        """Open a bundle.

        Args:
            path: The bundle: a folder, or a packed file.
            trust: Names the log, its key and everybody's keys.

        Raises:
            BundleError: A file that is needed is missing, or entries cannot be read.
            CheckpointError: The head is not signed by the trusted log.
        """
        files, _ = of.read_files(path)
        if of.CHECKPOINT not in files:
            raise BundleError("missing", file=of.CHECKPOINT)
        head = open_checkpoint(files[of.CHECKPOINT], VerifierKey.parse(trust.log_vkey), origin=trust.origin)
        notes, problem = read_entries(files, head.size)
        if problem is not None:
            raise problem
        tree = Tree.of_data(notes)
        book = later_keys(files, trust)
        judged = judge_witnesses(files, trust, tree, book, entries=(), state=None, demanded=False)
        return cls(notes, trust, head, judged)

    @property
    def is_proven(self) -> bool:
        """Whether the entries are those under the signed head."""
        return self._tree.root() == self.head.root

    def select(self, filters: Filters) -> Iterator[Entry]:
        """Yield the wanted entries in the order of the log."""
        return (entry for entry in self.entries if filters.wants(entry))

    def prove(self, index: int) -> ProvenEntry:
        """Return one entry with its verified proof.

        Raises:
            BundleError: There is no such entry, or it is no event.
            ProofError: It is not the entry that the signed head covers.
        """
        if not 0 <= index < self.head.size:
            raise BundleError(f"there is no entry {index}: the log has {self.head.size}, counted from 0")
        entry = next((found for found in self.entries if found.index == index), None)
        if entry is None:
            raise BundleError(f"entry {index} is no event that can be read")
        proof = tuple(self._tree.inclusion_proof(index, self.head.size))
        verify_inclusion(leaf=entry.leaf, index=index, size=self.head.size, proof=proof, root=self.head.root)
        size = next((size for size in self._witnesses.quorums if size > index), None)
        times = self._witnesses.heads[size].times if size is not None else {}
        signature = self._signature(entry)
        return ProvenEntry(
            entry, self.head, proof, signature, self._receipt(entry), size, tuple(sorted(times))
        )

    def _receipt(self, entry: Entry) -> Entry | None:
        leaf = entry.leaf.hex()
        return next(
            (
                later
                for later in self.entries
                if isinstance(later.event.data, Receipt)
                and leaf in later.event.refs
                and not self._signature(later)
            ),
            None,
        )

    def _signature(self, entry: Entry) -> str:
        key = self._keys[entry.leaf]
        if key is None:
            return f"{entry.event.actor.id} has no trusted key"
        try:
            parse_event(entry.note).verify(key)
        except AuditError as error:
            return error.sentence
        return ""


def row_of(entry: Entry) -> dict[str, Any]:
    """Return one line of a list of entries, as plain JSON values."""
    event = entry.event
    return {
        "index": entry.index,
        "time": event.time,
        "round": event.round,
        "author": event.actor.id,
        "type": event.type,
        "about": getattr(event.data, "site", None),
        "leaf": entry.leaf.hex(),
    }


def _names(entry: Entry, digest: str) -> bool:
    """Say whether an entry has this leaf or names this digest, by its first digits."""
    wanted = digest.lower()
    return entry.leaf.hex().startswith(wanted) or f'"{wanted}'.encode() in entry.note
