"""What must be true after any schedule; each breach is one sentence."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import get_args

import numpy as np

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.checkpoint import open_checkpoint
from fedmedlora_audit.event_data import AbortReason
from fedmedlora_audit.events import Entry, parse_event
from fedmedlora_audit.law import Session, State, apply
from fedmedlora_audit.merkle import Tree, leaf_hash
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_bench.faults.derivation import Knowledge, derivable
from fedmedlora_bench.faults.inputs import Masked, upload_digest
from fedmedlora_bench.faults.world import World
from fedmedlora_coordinator import setup
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import log_database
from fedmedlora_coordinator.reports import export_bundle
from fedmedlora_coordinator.store import read_entries
from fedmedlora_core.packing import Packing
from fedmedlora_core.vote import vote_packing
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_site.folder import SiteFolder

__all__ = ["Breach", "Judgement", "judge"]


@dataclass(frozen=True)
class Breach:
    """One invariant that does not hold: which, and what was found."""

    invariant: str
    found: str


@dataclass(frozen=True)
class Judgement:
    """What one run came to.

    Attributes:
        breaches: Empty if all is well.
        acknowledged: Events whose receipt a site got.
        heads: Heads that sites were shown.
        outcomes: Round to how it ended, an aborted one with its reason.
        sums: Sums that were opened.
        uploads: Masked vectors that the coordinator held.
    """

    breaches: tuple[Breach, ...]
    acknowledged: int
    heads: int
    outcomes: Mapping[int, str]
    sums: int
    uploads: int


def judge(world: World) -> Judgement:
    """Judge a run that is over, from the coordinator's disk and from what anybody saw."""
    return _Case(world).judgement()


class _Case:
    """One run, with the log that the coordinator's disk holds in the end."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._seen = world.seen
        self._study = world.folders.study
        self._terms = CharterTerms.from_json(self._study.canonical_json())
        self._folder = Folder(world.folders.coordinator)
        self._notes = [stored.note for stored in read_entries(log_database(self._folder))]
        self._tree = Tree()
        self._entries: list[Entry] = []
        self._state = State.begin(self._terms)
        self._read()

    def _read(self) -> None:
        for index, note in enumerate(self._notes):
            entry = Entry(index, leaf_hash(note), note, parse_event(note).event)
            self._tree.append(entry.leaf)
            apply(self._state, entry)
            self._entries.append(entry)

    def judgement(self) -> Judgement:
        breaches = [
            *self._lost(),
            *self._forked(),
            *self._unfinished(),
            *self._unverified(),
            *self._wrong_sums(),
            *self._derived(),
        ]
        closed = [session for session in self._state.sids.values() if session.is_told]
        return Judgement(
            tuple(breaches),
            len(self._seen.receipts),
            len(self._seen.heads),
            self._outcomes,
            len(closed),
            sum(digest in self._seen.payloads for digest in self._uploads.values()),
        )

    def _lost(self) -> Iterator[Breach]:
        """Every event whose receipt a site got stands where the receipt says, and in its outbox."""
        kept = {site: self._outbox(site) for site in self._terms.member_ids}
        for site, note, index in self._seen.receipts:
            if index >= len(self._notes) or self._notes[index] != note:
                yield Breach("acknowledged", f"entry {index}, acknowledged to {site}, is not in the log")
            if note not in kept[site]:
                yield Breach("acknowledged", f"{site} has forgotten entry {index}, which it signed")

    def _outbox(self, site: str) -> set[bytes]:
        folder = SiteFolder(self._world.folders.site(site))
        return {path.read_bytes() for path in folder.outbox.glob("*.note")}

    def _forked(self) -> Iterator[Breach]:
        """Every head that anybody saw is one of this history."""
        key = VerifierKey.parse(self._terms.log_vkey)
        for note in sorted(self._seen.heads):
            head = open_checkpoint(note, key, origin=self._terms.origin)
            if head.size > self._tree.size or self._tree.root(head.size) != head.root:
                yield Breach("one history", f"a head of {head.size} entries is of another history")
        for fork in self._seen.forks:
            yield Breach("one history", fork)

    @cached_property
    def _outcomes(self) -> dict[int, str]:
        reasons = {e.event.round: e.event.reason for e in self._entries if e.event.type == "round.aborted"}
        return {
            number: f"aborted: {reasons.get(number)}" if each.outcome == "aborted" else str(each.outcome)
            for number, each in self._state.rounds.items()
        }

    def _unfinished(self) -> Iterator[Breach]:
        """The study ended, and every round closed, was rolled back, or was aborted with a known reason."""
        if self._seen.stuck:
            yield Breach("ends", self._seen.stuck)
        elif not self._state.run_closed or len(self._outcomes) != self._terms.rounds:
            yield Breach("ends", "the run was not closed after all its rounds")
        known = {"closed", "rolled_back", *(f"aborted: {reason}" for reason in get_args(AbortReason))}
        for number, outcome in self._outcomes.items():
            if outcome not in known and not self._seen.stuck:
                yield Breach("rounds end", f"round {number} ended as '{outcome}'")

    def _unverified(self) -> Iterator[Breach]:
        """The verifier passes the bundle; of a clock that was wrong it may say so (E8)."""
        if not self._entries or self._seen.stuck:
            return
        bundle = self._world.folders.root / "bundle"
        export_bundle(self._folder.root, bundle)
        verdict = verify_bundle(bundle, Trust.from_terms(self._terms, genesis=self._entries[0].leaf))
        failed = {name for name, check in verdict.checks.items() if check.result == "fail"}
        if any(each.what == "clock-jump" for each in self._seen.happened):
            failed -= {"E8"}
        if failed or verdict.verdict not in ("pass", "fail"):
            yield Breach("verifies", f"audit verify says {verdict.verdict} ({', '.join(sorted(failed))})")

    def _packing(self, purpose: str, round_number: int) -> Packing:
        return vote_packing(self._terms.n) if purpose == "score" else self._study.packing(round_number)

    @cached_property
    def _masked(self) -> dict[tuple[str, int], Masked]:
        return {(each.sid, each.party): each for each in self._world.inputs.masked}

    @cached_property
    def _uploads(self) -> dict[tuple[str, int], str]:
        found = {}
        for key, each in self._masked.items():
            _, purpose = self._seen.families.get(each.sid, ("", "update"))
            found[key] = upload_digest(each, self._packing(purpose, 1))
        return found

    def _wrong_sums(self) -> Iterator[Breach]:
        """Every published sum is that of its survivors' true vectors, over T sites at least."""
        blobs = BlobStore(self._folder.blobs, storage_key=setup.load_storage_key(self._folder))
        for session in self._state.sids.values():
            if session.ring and blobs.size(session.ring) is not None:
                yield from self._wrong_sum(session, blobs)

    def _wrong_sum(self, session: Session, blobs: BlobStore) -> Iterator[Breach]:
        packing, index = self._packing(session.purpose, session.round), self._terms.member_ids.index
        total = packing.read_bytes(blobs.read(session.ring))
        true = sum(self._masked[session.sid, index(site) + 1].true.astype(np.int64) for site in session.u3)
        if np.any((total.astype(np.int64) - true) % (1 << packing.bits)):
            yield Breach("true sums", f"the sum of round {session.round} is not that of its survivors")
        if len(session.u3) < self._terms.threshold:
            yield Breach("true sums", f"the sum of round {session.round} is over {len(session.u3)} sites")

    def _derived(self) -> Iterator[Breach]:
        """No honest site's vector follows from all that the coordinator and c sites hold."""
        terms = SessionTerms(
            bytes(32), self._terms.n, self._terms.threshold, self._terms.colluding_sites, self._terms.suite
        )
        knowledge = Knowledge(terms, self._seen.payloads, self._seen.families)
        masked = list(self._masked.values())
        for found in derivable(knowledge, masked, self._uploads, bits=self._terms.wire_bits):
            yield Breach("no site's vector", str(found))
