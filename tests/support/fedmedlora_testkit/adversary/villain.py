"""A malicious coordinator on a stage: it forces what no law admits and takes in what it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from fedmedlora_audit import event_data as of
from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.events import entry_of, parse_event
from fedmedlora_audit.law import fold
from fedmedlora_crypto.secagg import SUITES, masks
from fedmedlora_crypto.secagg.messages import decode_keys, decode_opened, decode_shares
from fedmedlora_crypto.shamir import combine_shares
from fedmedlora_crypto.xof import Keystream, Vector
from fedmedlora_site.journal import Journal
from fedmedlora_site.session import LiveSession
from fedmedlora_testkit.stage import SECONDS, Stage
from fedmedlora_testkit.stage_log import StageLog
from fedmedlora_testkit.stage_site import OWN
from fedmedlora_testkit.stage_wire import StageWire


class VillainLog(StageLog):
    """A log whose owner is bound by no law."""

    def take(self, note: bytes) -> None:
        """Add a site's event whatever the law says, with its receipt."""
        entry = entry_of(self.tree.size, note, parse_event(note).event)
        fold(self.state, entry)
        self.tree.append(entry.leaf)
        self.entries.append(entry)
        event = entry.event
        data = of.Receipt(site=event.actor.id, seq=event.seq, type=event.type)
        self.force("coordinator", "receipt", data, refs=[entry.leaf.hex()], round=event.round)


class VillainWire(StageWire):
    """The agent's connection to a coordinator that takes in everything and writes down in which order."""

    def __init__(self, villain: Villain) -> None:
        super().__init__(villain)
        self._villain = villain

    async def submit(self, note: bytes) -> tuple[bytes, int]:
        """Take an event; a refusal must stand in the site's journal already."""
        event = parse_event(note).event
        if isinstance(event.data, of.StepRefused):
            written = [(r.step, r.reason) for r in self._villain.journal()]
            self._villain.journalled.append((event.data.step, event.data.reason) in written)
        try:
            return await super().submit(note)
        except LawError:
            self._villain.log.take(note)
            self._villain.heard.append(event)
            self._villain.changed.set()
            return self._villain.log.entries[-1].note, self._villain.log.tree.size - 2


class Villain(Stage):
    """The stage of one real agent, directed by a coordinator that wants to read it.

    Attributes:
        journalled: For each refusal that the coordinator heard of, whether the journal had it first.
        learnt: What the attack got to know, for its aim.
    """

    log: VillainLog

    def __init__(self, root: Path, own: str = OWN) -> None:
        super().__init__(root, own=own)
        self.log = VillainLog(self.study)
        self.wire = VillainWire(self)
        self.journalled: list[bool] = []
        self.learnt: Vector | None = None
        self.marked: dict[str, Any] = {}

    def journal(self) -> list[Any]:
        """The refusals in the site's own journal."""
        return list(Journal(self.root / "run" / "journal.jsonl").refusals)

    def force(self, type_: str, data: of.Data, **fields: Any) -> None:
        """Say what no law admits, in the open round."""
        self.log.force("coordinator", type_, data, **{"round": self.log.number, **fields})
        self.say()

    def signed(self, type_: str, **fields: Any) -> bool:
        """Whether the agent signed an event of a type with these values."""
        return any(
            event.type == type_ and all(getattr(event.data, k) == v for k, v in fields.items())
            for event in self.heard
        )

    async def settle(self, done: Callable[[], bool]) -> None:
        """Wait until the attack has its aim, the agent refused, or the agent stopped."""
        assert self.task is not None
        async with asyncio.timeout(SECONDS):
            while not (done() or self.task.done() or self.signed("step.refused")):
                self.changed.clear()
                waiter = asyncio.create_task(self.changed.wait())
                await asyncio.wait({waiter, self.task}, timeout=0.05, return_when=asyncio.FIRST_COMPLETED)
                waiter.cancel()

    # -- what the coordinator can compute

    def secret_vector(self) -> Vector:
        """The encoded update that the agent keeps encrypted: what no attack may learn."""
        assert self.agent is not None
        held = self.agent._held
        return held.vault.load_ring(held.update_name(self.log.number))

    def upload_of(self, site: str) -> Vector:
        """A masked upload as a vector."""
        return self.study.packing().read_bytes(self.blobs[self.log.session.updates[site]])

    def in_ring(self, vector: Vector) -> Vector:
        """A vector modulo the ring; what lies above does not travel."""
        return vector & np.uint32(2 ** self.study.packing().bits - 1)

    def index(self, site: str) -> int:
        """A site's party index."""
        return self.log.terms.member_ids.index(site) + 1

    def self_stream(self, view: str, opened: dict[str, bytes]) -> Keystream:
        """The agent's self mask, from opened shares of its seed."""
        sid, victim = bytes.fromhex(self.log.session.sid), self.index(self.site)
        shares = {}
        for site, payload in opened.items():
            message = decode_opened(payload, sid=sid, party=self.index(site))
            shares[self.index(site)] = message.shares[message.dealers.index(victim)]
        seed = combine_shares(dict(list(shares.items())[: self.log.terms.threshold]))
        return masks.self_mask(self._binding(view), victim, seed)

    def pair_stream(self, view: str, peer: str, dealer: Any, keys: bytes, shares: bytes) -> tuple[Any, int]:
        """The pair mask that the agent added for `peer`, whose dealer's secrets are known."""
        sid, victim, other = bytes.fromhex(self.log.session.sid), self.index(self.site), self.index(peer)
        suite = SUITES[self.log.terms.suite]
        binding = self._binding(view)
        public = decode_keys(keys, sid=sid, party=victim, suite=suite).mask_key
        dealt = decode_shares(shares, sid=sid, party=victim, suite=suite)
        own = (other, dealer.mask_key)
        secret = masks.pair_secret(binding, own, dealer.mask_seed, dealt)
        stream, sign = masks.pair_mask(binding, own, (victim, public), secret=secret)
        return stream, -sign

    def _binding(self, view: str) -> Any:
        terms = next(iter(self.others.values()))._party._terms
        return terms.binding(bytes.fromhex(view))


def believed(stage: Villain) -> bool:
    """The agent's mirror holds the whole log, the lie included."""
    return stage.agent is not None and stage.agent._held.mirror.size == stage.log.tree.size


def dealer_of(live: LiveSession) -> Any:
    """The secrets of a colluding site, kept before they are erased."""
    return vars(live._party)["_own"]


def rows_of(payloads: dict[str, bytes]) -> tuple[of.IdDigest, ...]:
    """A list of (id, digest) of payloads."""
    return tuple(of.IdDigest(id=site, digest=blob_digest(payloads[site])) for site in sorted(payloads))
