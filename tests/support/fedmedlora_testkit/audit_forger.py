"""A coordinator that owns the log and rewrites it: it may sign anew all that is its own, nothing of a site.

`Forger` takes a finished log apart, lets a test change notes, and seals the result under a fresh head and
manifest. With `resign()` the coordinator also makes its own chain, references and heads fit again - the
strongest rewrite that somebody without the sites' keys can do.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from fedmedlora_audit.bundle import write_bundle
from fedmedlora_audit.chain import Chain
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.events import Event, Saw, encode_event, make_event, parse_event
from fedmedlora_audit.merkle import Tree, leaf_hash
from fedmedlora_audit.note import NoteSigner
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog


class Forger:
    """The notes of a log in a rewriter's hands."""

    def __init__(self, log: StudyLog) -> None:
        self.log = log
        self.notes = [entry.note for entry in log.entries]
        self.signer: NoteSigner = log.authors["coordinator"].signer
        self.trust = Trust.from_terms(log.terms, genesis=log.entries[0].leaf)

    def index(self, type_: str, actor: str | None = None, which: int = 0) -> int:
        """Return the position of the which-th event of a type (by an actor)."""
        found = [
            place
            for place, note in enumerate(self.notes)
            if (event := parse_event(note).event).type == type_ and actor in (None, event.actor.id)
        ]
        return found[which]

    def event(self, index: int) -> Event:
        return parse_event(self.notes[index]).event

    def change(self, index: int, **fields: Any) -> None:
        """Write an event of the coordinator anew with other fields."""
        event = self.event(index)
        assert event.actor.id == "coordinator"
        self.notes[index] = encode_event(_with(event, fields), self.signer)

    def resign(self) -> None:
        """Make the coordinator's chain, references and heads fit the notes as they now are."""
        chain, tree = Chain(), Tree()
        moved: dict[str, str] = {}
        old = {leaf_hash(entry.note).hex() for entry in self.log.entries}
        for index, note in enumerate(self.notes):
            event = self.event(index)
            if event.actor.id == "coordinator":
                refs = [moved.get(ref, ref) for ref in event.refs]
                size = min(event.saw.size, tree.size)
                saw = Saw(size=size, root=tree.root(size).hex())
                fields = {"seq": chain.seq + 1, "prev": chain.prev, "refs": refs, "saw": saw}
                self.notes[index] = encode_event(_with(event, fields), self.signer)
                before, after = leaf_hash(note).hex(), leaf_hash(self.notes[index]).hex()
                if before in old:
                    moved[before] = after
                chain = Chain(event.seq if chain.seq + 1 == event.seq else chain.seq + 1, after)
            tree.append(leaf_hash(self.notes[index]))

    def checkpoint(self) -> bytes:
        tree = Tree.of_data(self.notes)
        return sign_checkpoint(Checkpoint(ORIGIN, tree.size, tree.root()), self.log.log_signer)

    def seal(self, folder: Path, **changes: Any) -> Path:
        """Write the bundle under a fresh head; `changes` replaces what `write_bundle` is given."""
        if folder.exists():
            shutil.rmtree(folder)
        given: dict[str, Any] = {
            "charter": self.log.charter,
            "entries": self.notes,
            "checkpoint": self.checkpoint(),
            "signer": self.signer,
            **changes,
        }
        write_bundle(folder, **given)
        return folder

    def judge(self, folder: Path, heads: Path | None = None, trust: Trust | None = None) -> Verdict:
        """Seal and verify."""
        return verify_bundle(self.seal(folder), trust or self.trust, heads)


def _with(event: Event, fields: Mapping[str, Any]) -> Event:
    whole = {name: getattr(event, name) for name in type(event).model_fields if name != "schema_"}
    return make_event({**whole, **fields})


def edit_file(folder: Path, name: str, edit: Callable[[bytes], bytes]) -> None:
    """Change one file of a bundle in place."""
    path = folder / name
    path.write_bytes(edit(path.read_bytes()))
