"""One real site among the scripted hospitals of a ward: its agent, its folder, and the real coordinator.

Only the network is missing. Whatever leaves the site is compared with what its folder holds at that moment:
an event, a cosignature, a consent, a released secret is on the disk before anybody can see it. An agent that
dies of its disk is started again from its folder, as after a boot.
"""

from __future__ import annotations

import asyncio
import datetime as dt
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from fedmedlora_audit.blob import BlobTree, blob_leaves
from fedmedlora_audit.cosignature import checkpoint_of
from fedmedlora_audit.event_data import DpSpent, StepRefused
from fedmedlora_audit.events import Event, parse_event
from fedmedlora_audit.law import State, duties
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_site.agent import Agent
from fedmedlora_site.blobs import UploadFile
from fedmedlora_site.client import Batch
from fedmedlora_site.errors import RejectedError
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.ledger import Ledger
from fedmedlora_site.training import RehearsalTrainer, Trainer
from fedmedlora_testkit.disk import DiskError
from fedmedlora_testkit.hospital import Clock
from fedmedlora_testkit.stage_site import ADAPTER, make_site
from fedmedlora_testkit.ward import Ward

SECONDS = 20.0


class DatedClock(Clock):
    """Seconds that the test moves, and today's date, which a real site writes into its events."""

    def now(self) -> dt.datetime:
        """Now."""
        return dt.datetime.now(dt.UTC)


class WardWire:
    """The agent's connection: straight into the ward's coordinator, past a guard at the site's door."""

    def __init__(self, ward: SiteWard) -> None:
        self._ward = ward
        self.stirred = asyncio.Event()

    async def submit(self, note: bytes) -> tuple[bytes, int]:
        """Hand in one signed event."""
        self._ward.guard_event(note)
        self.stirred.set()
        try:
            receipt, index = self._ward.ledger.submit(self._ward.own, note, self._ward.payloads.check)
        except PeerRefusedError as error:
            self._ward.rejections.append((parse_event(note).event.type, str(error.reason)))
            raise RejectedError(str(error.reason), error.check) from None
        self._ward.acknowledged.append(note)
        return receipt, index

    async def watch(self, from_index: int) -> AsyncIterator[Batch]:
        """Stream the log's entries, as the service does."""
        ward = self._ward
        if from_index > ward.ledger.size:
            raise RejectedError("ahead_of_log")
        ward.presence.opened(ward.own, ward.clock.seconds)
        try:
            while True:
                found = ward.ledger.batch(from_index)
                from_index += len(found.notes)
                shown, cosigned = ward.witnesses.newest_size(), ward.witnesses.newest(from_index)
                yield Batch(found.start, found.notes, found.checkpoint, cosigned)
                self.stirred.set()
                await ward.witnesses.news(from_index, shown)
        finally:
            ward.presence.closed(ward.own, ward.clock.seconds)

    async def cosign(self, checkpoint: bytes, cosignature: bytes) -> None:
        """Hand in a cosignature of a head."""
        self._ward.guard_head(checkpoint)
        self._ward.witnesses.take(self._ward.own, checkpoint, cosignature)
        self.stirred.set()

    async def put_blob(self, upload: UploadFile) -> None:
        """Upload a payload."""
        data = b"".join(upload.chunk(index)[0] for index in range(upload.chunk_count))
        tree = BlobTree(blob_leaves(data), len(data))
        for index in range(upload.chunk_count):
            self._ward.blobs.put_chunk(
                self._ward.own,
                digest=upload.digest,
                total_bytes=upload.total_bytes,
                index=index,
                data=data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES],
                proof=tuple(tree.proof(index)),
            )

    async def get_blob(self, digest: str, *, total_bytes: int, resumed: bool = False) -> bytes:
        """Download a payload."""
        return self._ward.blobs.read(digest)

    async def get_chunk(self, digest: str, index: int, *, total_bytes: int) -> bytes:
        """Download one chunk of a payload."""
        return self._ward.blobs.chunk(digest, index)[1]

    async def close(self) -> None:
        """Nothing to close."""


class SiteWard(Ward):
    """A ward whose last hospital is a real site.

    Args:
        root: Where the folders of coordinator and site are made.
        trainer: Makes the trainer of every process of the site.
        overrides: See `Ward`.
    """

    clock_type = DatedClock

    def __init__(self, root: Path, *, trainer: Callable[[], Trainer] = RehearsalTrainer, **overrides: Any):
        super().__init__(root, dimension=ADAPTER.dimension, initial=ADAPTER, **overrides)
        player = self.hospitals[-1]
        player.alive = False  # no script plays it
        self.presence.closed(player.site, self.clock.seconds)
        self.own = player.site
        seeds = (bytes([player.number]) * 32, bytes([100 + player.number]) * 32)
        self.site_root = make_site(root, self.study, self.own, seeds=seeds)
        self.trainer = trainer
        self.acknowledged: list[bytes] = []
        self.shown: dict[int, bytes] = {}  # seq -> the note that left the site
        self.told: dict[int, tuple[int | None, int, int]] = {}  # seq -> the charge it tells of
        self.cosigned: dict[int, bytes] = {}  # size -> the root that left the site
        self.rejections: list[tuple[str, str]] = []
        self.deaths = 0
        self.held: Holdings | None = None
        self._agent: Agent | None = None
        self._task: asyncio.Task[None] | None = None

    # -- the site's door

    def guard_event(self, note: bytes) -> None:
        """R5.3.1: an event, and what must not be forgotten about it, is on the disk before it leaves."""
        event = parse_event(note).event
        kept = self.site_root / "run" / "outbox" / f"{event.seq:08d}.note"
        assert kept.is_file() and kept.read_bytes() == note, f"{event.type} leaves before it is on the disk"
        assert self.shown.setdefault(event.seq, note) == note, f"two versions of event {event.seq}"
        self._guard_marker(event)
        if isinstance(event.data, DpSpent):
            self._guard_charge(event, event.data)
        if isinstance(event.data, StepRefused):
            kept_refusals = _lines(self.site_root / "run" / "journal.jsonl")
            told = [(line["step"], line["round"], line["sid"]) for line in kept_refusals]
            key = (event.data.step, event.round, event.data.sid)
            assert key in told, "a refusal is told before the journal holds it"

    def _guard_charge(self, event: Event, data: DpSpent) -> None:
        """R4.13.5: what is told of a charge is in the ledger, and each charge is told once."""
        charges = Ledger(self.site_root / "ledger.jsonl", self.site_root / "ledger.head").charges()
        self.told[event.seq] = (event.round, data.noise_milli, data.steps)
        made = [(charge.round, charge.noise_milli, charge.steps) for charge in charges]
        assert [self.told[seq] for seq in sorted(self.told)] == made[: len(self.told)]
        assert len({charge.job for charge in charges}) == len(charges), "one training was charged twice"

    def _guard_marker(self, event: Event) -> None:
        kind = {
            "keys.advertised": "seen",
            "survivors.agreed": "consented",
            "unmask.response": "released",
            "attempt.erased": "erased",
        }.get(event.type)
        if kind is not None:
            marked = {(line["kind"], line["sid"]) for line in _lines(self.site_root / "markers.jsonl")}
            assert (kind, event.sid) in marked, f"{event.type} leaves before its marker is on the disk"

    def guard_head(self, note: bytes) -> None:
        """R5.6.4: what was promised about a head is on the disk before the cosignature leaves."""
        head = checkpoint_of(note)
        promised = json.loads((self.site_root / "run" / "witness.json").read_bytes())
        assert promised["size"] >= head.size, "a cosignature leaves before the promise is on the disk"
        assert self.cosigned.setdefault(head.size, head.root) == head.root, "two heads of one size cosigned"

    # -- the agent

    def _start_agent(self) -> None:
        """Start the agent, as after a boot: nothing is left of an earlier one but its folder."""
        self._wire = WardWire(self)
        self.held = Holdings.open(self.site_root)
        self._agent = Agent(self.held, self.trainer(), client=self._wire)
        self._task = asyncio.create_task(self._agent.run())

    async def _stop_agent(self) -> BaseException | None:
        """Let the agent's memory go; returns what it died of."""
        assert self._task is not None and self._agent is not None
        if not self._task.done():
            self._task.cancel()
        (found,) = await asyncio.gather(self._task, return_exceptions=True)
        await self._agent.close()
        self._task = self._agent = self.held = None
        return found if isinstance(found, BaseException) else None

    async def _boot(self) -> None:
        """Start the agent until its folder opens; the disk fails once at most."""
        while self._task is None:
            try:
                self._start_agent()
            except DiskError:
                self.deaths += 1

    async def _run(self, until: Callable[[State], bool]) -> State:
        try:
            for _ in range(5000):
                if await self._turn(until):
                    self.witness()
                    await self._farewell(until)
                    return self.ledger.state
        finally:
            if self._task is not None:
                await self._stop_agent()
        raise RuntimeError("the federation does not come to an end")

    async def _attend(self) -> bool:
        """Let the site act until it owes nothing and has heard everything; start it again when it died."""
        size = self.ledger.size
        await self._boot()
        try:
            async with asyncio.timeout(SECONDS):
                while not self._is_idle():
                    await self._stir()
        except TimeoutError:
            raise AssertionError(f"the site does nothing any more: {self._standing()}") from None
        return self.ledger.size > size

    def _standing(self) -> str:
        """Where site and log are, for the message of a test that fails."""
        assert self.held is not None and self._task is not None
        held = self.held
        sizes = f"{held.mirror.size} of {self.ledger.size} entries, own {held.outbox.last_seq}"
        unsent = (
            f"{len(held.outbox.unlogged(held.mirror.own_seq))} unlogged, {len(held.witness.unsent)} unsent"
        )
        refused = held.journal.refusals[-1:]
        return (
            f"{sizes}, {unsent}, owes {duties(self.ledger.state, self.own)}, refused {refused}, {self._task}"
        )

    async def _stir(self) -> None:
        """Wait until the site did something, or died."""
        assert self._task is not None
        self._wire.stirred.clear()
        waiter = asyncio.create_task(self._wire.stirred.wait())
        await asyncio.wait({waiter, self._task}, return_when=asyncio.FIRST_COMPLETED)
        waiter.cancel()
        if not self._task.done():
            return
        found = await self._stop_agent()
        if found is None:
            return
        if not isinstance(found, DiskError):
            raise found
        self.deaths += 1
        await self._boot()

    def _is_idle(self) -> bool:
        """Whether the site has nothing left to do with the log as it is."""
        if self._task is None:
            return True
        held, state = self.held, self.ledger.state
        assert held is not None
        heard = held.mirror.size == self.ledger.size and not held.outbox.unlogged(held.mirror.own_seq)
        if not heard or held.witness.unsent or self._task.done():
            return False
        return duties(state, self.own) is None and not self._has_lost(state)

    def _has_lost(self, state: State) -> bool:
        """Whether a session lives whose secrets an earlier process took with it; the site will say so."""
        session = state.session
        if session is None or self.own not in session.advertised or session.is_told:
            return False
        over = session.is_out(self.own) or self.own in session.responses
        assert self._agent is not None
        return not over and self._agent._sessions.lost_session() is not None

    async def _farewell(self, until: Callable[[State], bool]) -> None:
        """Let the site end by itself once the run is closed."""
        async with asyncio.timeout(SECONDS):
            while self.ledger.state.run_closed and self._task is not None:
                await self._stir()


def _lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of a file of JSON objects."""
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1] if line.strip()]
