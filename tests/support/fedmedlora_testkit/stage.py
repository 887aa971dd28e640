"""One real agent on a stage: its coordinator and the other sites are played by the test.

The agent has its folder, its keys, its trainer and the law; only the network is replaced by `StageWire`. The
other sites' secrets are real (`LiveSession`), so an honest scene ends in the true sum; a scene may lie at any
step, in the log (`StudyLog.force`) or in the payloads (`Stage.blobs`).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from fedmedlora_audit import event_data as of
from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.events import Entry, Event
from fedmedlora_core.packing import Packing
from fedmedlora_core.study import Study
from fedmedlora_crypto.secagg import Aggregator, SessionTerms
from fedmedlora_site.agent import Agent
from fedmedlora_site.bases import Bases, NextBase
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.journal import Journal
from fedmedlora_site.session import LiveSession
from fedmedlora_site.training import RehearsalTrainer, Trainer
from fedmedlora_testkit.audit_counts import open_counts
from fedmedlora_testkit.audit_votes import open_vote
from fedmedlora_testkit.stage_log import StageLog
from fedmedlora_testkit.stage_site import OWN, SITES, make_site, staged_study
from fedmedlora_testkit.stage_wire import StageWire

SECONDS = 20.0
VectorOf = Callable[[int], np.ndarray[Any, np.dtype[np.uint32]]]
"""What the site with this place among the others sums."""


class Stage:
    """The play: one log, the blobs, the other sites' secrets, and the agent under test."""

    def __init__(self, root: Path, study: Study | None = None, own: str = OWN, **overrides: Any) -> None:
        self.site = own
        self.names = tuple(site for site in SITES if site != own)
        self.study = study or staged_study(**overrides)
        self.root = make_site(root, self.study, own)
        self.log = StageLog(self.study)
        self.blobs: dict[str, bytes] = {}
        self.cosigned: dict[bytes, bytes] = {}  # head -> line of its only witness here
        self.withheld: set[str] = set()  # digests that the coordinator does not give
        self.others: dict[str, LiveSession] = {}
        self.bases = Bases(self.study, root / "package" / "initial", root / "stage-adapters")
        self.published: NextBase | None = None
        self.clipped = 0  # thousandths that the other sites declare, and their number on top
        self.changed = asyncio.Event()
        self.heard: list[Event] = []
        self.wire = StageWire(self)
        self.agent: Agent | None = None
        self.task: asyncio.Task[None] | None = None

    # -- the agent

    def start(self, trainer: Trainer | None = None) -> None:
        """Start the agent, as after a boot: nothing is left of an earlier one but its folder."""
        self.agent = Agent(Holdings.open(self.root), trainer or RehearsalTrainer(), client=self.wire)
        self.task = asyncio.create_task(self.agent.run())

    async def stop(self) -> None:
        """Kill the agent: its memory is gone."""
        if self.task is not None and self.agent is not None:
            self.task.cancel()
            await asyncio.gather(self.task, return_exceptions=True)
            await self.agent.close()
            self.task = self.agent = None

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for something to become true while the agent works; its death is an error."""
        async with asyncio.timeout(SECONDS):
            while not condition():
                if self.task is not None and self.task.done():
                    self.task.result()
                    raise AssertionError("the agent ended")
                self.changed.clear()
                waiter = asyncio.create_task(self.changed.wait())
                await asyncio.wait(
                    {waiter, *([self.task] if self.task else [])},
                    timeout=0.5,
                    return_when=asyncio.FIRST_COMPLETED,
                )
                waiter.cancel()

    async def own(self, type_: str) -> Event:
        """Wait for the agent's next event of a type."""
        before = sum(event.type == type_ for event in self.heard)
        await self.until(lambda: sum(event.type == type_ for event in self.heard) > before)
        return [event for event in self.heard if event.type == type_][-1]

    async def ended(self) -> BaseException | None:
        """Wait for the agent's end; returns what it died of."""
        assert self.task is not None
        await asyncio.wait({self.task}, timeout=SECONDS)
        assert self.task.done()
        return self.task.exception()

    # -- the coordinator and the others

    def say(self, *entries: Entry) -> None:
        """The log has grown: wake the stream."""
        self.changed.set()

    def keep(self, site: str, role: str, data: bytes) -> None:
        """Store a payload of another party."""
        self.log.payloads[site, role, self.log.session.sid] = data
        self.blobs[blob_digest(data)] = data

    async def opened(self) -> None:
        """Set the study up and open its run; the agent signs the charter."""
        log = self.log
        terms = log.terms
        log.say(
            "coordinator",
            "log.genesis",
            of.Genesis(
                charter=terms.digest,
                log_vkey=terms.log_vkey,
                coordinator_vkey=terms.coordinator_vkey,
                software="test-1",
            ),
        )
        for site, keys in terms.members.items():
            data = of.Enrolled(site=site, event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)
            log.say("coordinator", "site.enrolled", data)
        for site in self.names:
            log.say(site, "charter.signed", of.CharterSigned(charter=terms.digest))
        self.say()
        await self.until(lambda: self.site in log.state.signed)
        log.say("coordinator", "run.opened", of.RunOpened(charter=terms.digest, base=terms.initial_adapter))
        self.say()

    async def trained(self) -> None:
        """Plan a round; everybody trains."""
        self.log.plan()
        for site in self.names:
            self.log.accept_plan(site)
            self.log.ready(site)
        self.say()
        await self.until(lambda: self.site in self.log.state.rounds[self.log.number].ready)

    async def advertised(self, *, wait: bool = True, vote: bool = False, counts: bool = False) -> None:
        """Open a session, or a vote on what was published, or its counts; everybody advertises."""
        log = self.log
        for site in self.names:
            for sid in sorted(log.state.unspent.get(site, ())):
                log.erase(site, sid)
        if vote:
            open_vote(log)
        elif counts:
            open_counts(log)
        else:
            log.open_session()
        session = log.session
        self.say()
        for site in self.names:
            live = LiveSession(
                log.terms,
                site,
                round_number=session.round,
                attempt=session.attempt,
                purpose=session.purpose,
                base=session.base,
            )
            self.others[site] = live
            self.keep(site, "keys", live.advertise())
            log.advertise(site)
        self.say()
        if wait:
            await self.until(lambda: self.site in session.advertised)

    async def shared(self, *, wait: bool = True) -> None:
        """Broadcast U1; everybody deals shares."""
        log, session = self.log, self.log.session
        log.coordinate()
        payloads = {site: self.blobs[digest] for site, digest in session.u1.items()}
        rows = log.rows(session.u1)
        for site in self.names:
            own = session.advertised[site]
            self.keep(site, "shares", self.others[site].share(rows, session.view, own, payloads))
            log.share(site)
        self.say()
        if wait:
            await self.until(lambda: self.site in session.shares)

    async def uploaded(self, gone: Iterable[str] = (), vector_of: VectorOf | None = None) -> None:
        """Fix the inbox; everybody masks and uploads, but for those that are gone."""
        log, session = self.log, self.log.session
        log.coordinate()
        payloads = {site: self.blobs[digest] for site, digest in session.u2.items()}
        rows = log.rows(session.u2)
        for number, site in enumerate(self.names):
            if site in gone:
                continue
            live = self.others[site]
            live.fix(rows, session.view, session.shares[site], payloads)
            vector = (vector_of or self.encoded)(number)
            live.mask(vector)
            frames = Packing(32, vector.size).frames_of(vector)  # of votes and counts
            sealed = self.sealed(vector) if vector_of is None else b"".join(frames)
            self.keep(site, "masked-update", sealed)
            log.upload(site)
        self.say()
        await self.until(lambda: self.site in session.updates)

    async def agreed(self) -> None:
        """Fix the survivors; everybody agrees."""
        log, session = self.log, self.log.session
        log.coordinate()
        rows = log.rows(session.u3)
        for site in session.u3:
            if site != self.site:
                self.others[site].agree(rows)
                log.agree(site)
        self.say()
        await self.until(lambda: self.site in session.agreed)

    async def unmasked(self) -> None:
        """Ask for shares; everybody opens them."""
        log, session = self.log, self.log.session
        log.coordinate()
        assert session.request is not None
        for site in session.request.signers:
            if site != self.site:
                self.respond(site, self.others[site].open(session.request.signers))
        self.say()
        await self.until(lambda: self.site in session.responses)

    def sealed(self, vector: np.ndarray[Any, np.dtype[np.uint32]]) -> bytes:
        """The upload of an encoded and masked update."""
        return b"".join(self.study.packing().frames_of(vector))

    def respond(self, site: str, shares: bytes) -> None:
        """Answer the request for another site."""
        self.keep(site, "opened-shares", shares)
        self.log.respond(site)

    def ring_sum(self) -> bytes:
        """Add and unmask what was uploaded: the true sum."""
        log, session = self.log, self.log.session
        index = {site: i for i, site in enumerate(log.terms.member_ids, start=1)}
        packing = self.study.packing()
        total = np.zeros(packing.count, dtype=np.uint32)
        for digest in session.u3.values():
            total += packing.read_bytes(self.blobs[digest])
        terms = log.terms
        aggregator = Aggregator(
            SessionTerms(
                bytes.fromhex(session.sid), terms.n, terms.threshold, terms.colluding_sites, terms.suite
            )
        )

        def by_index(digests: dict[str, str]) -> dict[int, bytes]:
            return {index[site]: self.blobs[digest] for site, digest in digests.items()}

        survivors = [index[site] for site in session.u3]
        aggregator.unmask(
            total, by_index(session.u1), by_index(session.u2), survivors, by_index(session.responses)
        )
        return b"".join(packing.frames_of(total))

    def publish(self, ring: bytes, **changes: Any) -> None:
        """Publish a sum and what it decodes to; `changes` lie about it."""
        log, session = self.log, self.log.session
        self.published = self.bases.derive(
            session.base, ring, round_number=session.round, sites=len(session.u3)
        )
        self.bases.keep(self.published, round_number=session.round)
        self.keep("coordinator", "ring-sum", ring)
        fields: dict[str, Any] = {
            "weight_sum": self.published.weight_sum,
            "delta": self.published.delta_digest,
            "next_base": self.published.digest,
            "state_before": self.published.state_before,
            "state": self.published.state_digest,
            **changes,
        }
        log.say(
            "coordinator",
            "aggregate.published",
            log.published_data(**fields),
            **log.blob("coordinator", "ring-sum"),
        )
        self.say()

    async def closed(self) -> None:
        """Everybody accepts; the round is closed."""
        log, session = self.log, self.log.session
        assert session.published is not None
        for site in session.u3:
            if site != self.site:
                log.accept(site)
        self.say()
        await self.until(lambda: self.site in session.accepted)
        data = log.closed_data(next_base=session.published.next_base)
        log.say("coordinator", "round.closed", data, round=log.number)
        self.say()

    async def begin(self, until: str) -> None:
        """Play the honest part of a round up to and including a step."""
        await self.opened()
        if until == "opened":
            return
        for step in ("trained", "advertised", "shared", "uploaded", "agreed", "unmasked"):
            await getattr(self, step)()
            if step == until:
                return

    async def round(self, gone: Iterable[str] = ()) -> None:
        """Play one honest round."""
        await self.trained()
        await self.advertised()
        await self.shared()
        await self.uploaded(gone)
        await self.agreed()
        await self.unmasked()
        self.publish(self.ring_sum())
        await self.closed()

    def finish(self) -> None:
        """Release the model and close the run."""
        self.log.finish()
        self.say()

    def encoded(self, number: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        """An encoded update of another site."""
        values = self.study.update_dimension(self.log.number)
        delta = np.full(values, 0.001 * (number + 1), dtype=np.float32)
        weight = self.study.aggregation.weight_max // 4
        return self.study.codec().encode(
            delta, weight=weight, words=lambda _, n: np.zeros(n, np.uint32), extras=(self.clipped + number,)
        )


Scene = Callable[[Stage], Awaitable[None]]


def play(tmp_path: Path, scene: Scene, make: Callable[..., Stage] = Stage, **overrides: Any) -> Stage:
    """Run a scene with the agent started."""

    async def act() -> Stage:
        stage = make(tmp_path, **overrides)
        try:
            stage.start()
            await scene(stage)
        finally:
            await stage.stop()
        return stage

    return asyncio.run(act())


def reasons(stage: Stage) -> list[tuple[str, str]]:
    """What the agent refused: (step, reason), from the log."""
    found = [event.data for event in stage.heard if isinstance(event.data, of.StepRefused)]
    journal = [(r.step, r.reason) for r in Journal(stage.root / "run" / "journal.jsonl").refusals]
    logged = [(str(data.step), str(data.reason)) for data in found]
    assert journal == logged
    return logged
