"""One simulated federation from its first event to its end, disturbed by one schedule."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import numpy as np

from fedmedlora_audit.event_data import SessionOpened
from fedmedlora_audit.events import Entry
from fedmedlora_audit.law import waiting
from fedmedlora_bench.faults.centre import RESTART_SECONDS, Centre
from fedmedlora_bench.faults.disk import Disk
from fedmedlora_bench.faults.hosts import Host, Killed, Life
from fedmedlora_bench.faults.inputs import Inputs
from fedmedlora_bench.faults.schedule import COORDINATOR, Operation, Schedule
from fedmedlora_bench.faults.seen import HearingClient, HearingLink, Seen
from fedmedlora_bench.faults.virtual_time import StuckError, VirtualLoop
from fedmedlora_bench.faults.wall_clock import WallClock
from fedmedlora_bench.faults.wire import KEEPALIVE_SECONDS, LATENCY_SECONDS, Link
from fedmedlora_bench.federation_folders import Folders
from fedmedlora_site.agent import Agent
from fedmedlora_site.downloads import DownloadFolder
from fedmedlora_site.errors import ForkError, SiteError
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.training import RehearsalTrainer, Report, TrainingJob, TrainingOutcome

__all__ = ["World"]

MOST_SECONDS = 20_000.0
"""Simulated time after which a study that has not ended never will: each patience is an hour at most."""
TRAINING_SECONDS = 20.0
_POWER_CUT = "power-cut"
_WITHOUT_MODEL = "closed without a model"


class SimulatedTrainer(RehearsalTrainer):
    """Takes some time, and gives a site the same update whenever it starts from the same adapter."""

    def __init__(self, dice: random.Random) -> None:
        """Take the dice for the time."""
        self._dice = dice

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        """Train, as the rehearsal does, from a seed of site and base."""
        await asyncio.sleep(TRAINING_SECONDS * self._dice.random())
        found = await super().train(job, report)
        text = f"{job.site} {job.adapter.rsplit('-', 1)[-1]}"
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
        delta = np.random.default_rng(seed).normal(0.0, 0.004, job.dimension).astype(np.float32)
        return TrainingOutcome(delta, found.n_notes, 0.5, mentions=found.mentions)


class _Strikes:
    """Stands where the fault plan of `site run --die-at` stands: tells the schedule of each step."""

    def __init__(self, world: World, host: Host) -> None:
        self._world, self._host, self._life = world, host, host.life

    def strike(self, step: str, round_number: int, *, children: tuple[int, ...] = ()) -> None:
        self._world.reached(self._host.name, "step", round_number, step)
        if self._life is None or not self._life.alive:
            raise Killed


class World:
    """Coordinator, sites, network and disks of one run.

    Args:
        folders: A fresh copy of the study's folders.
        schedule: What goes wrong.
    """

    centre_type = Centre
    most_seconds = MOST_SECONDS

    def __init__(self, folders: Folders, schedule: Schedule) -> None:
        """Lay everything out; nothing runs."""
        self.folders = folders
        self.schedule = schedule
        self.seen, self.inputs = Seen(), Inputs()
        self._left = list(schedule.operations)
        self._dice = random.Random(schedule.seed)  # noqa: S311 - delays of a test
        self._loop = VirtualLoop()
        self.disk = Disk(self._accessed, self._loop.time)
        self.hosts = {COORDINATOR: Host(COORDINATOR, folders.coordinator)}
        self.hosts |= {site: Host(site, folders.site(site)) for site in schedule.setup.members}
        self._clock = WallClock(self._loop.time)
        host, clock = self.hosts[COORDINATOR], self._clock.now
        self.centre = self.centre_type(folders, host, self.disk, clock, self._logged)
        self.links = {
            site: self._lay_link(site, number) for number, site in enumerate(schedule.setup.members, start=1)
        }

    @property
    def seconds(self) -> float:
        """The simulated time."""
        return self._loop.time()

    def run(self) -> Seen:
        """Run to the end, or until nothing moves any more."""
        with ExitStack() as stack:
            stack.callback(self.centre.close)
            stack.enter_context(_quiet())
            stack.enter_context(_seeded(self.schedule.seed))
            stack.enter_context(self.disk.mounted())
            stack.enter_context(self.inputs.watched())
            stack.enter_context(self._clock.hung_up())
            runner = stack.enter_context(asyncio.Runner(loop_factory=lambda: self._loop))
            self._loop.set_exception_handler(lambda loop, context: None)  # of killed processes
            try:
                runner.run(self._play())
            except StuckError as error:
                self.seen.stuck = f"{error}; {self.standing()}"
        return self.seen

    def reached(self, party: str, trigger: str, number: int, step: str = "") -> None:
        """Let happen what was waiting for this moment."""
        for operation in [each for each in self._left if each.when.trigger == trigger]:
            when = operation.when
            if when.number > number or (trigger == "step" and when.number != number) or when.step != step:
                continue
            if trigger == "entry" or operation.party == party:
                self._left.remove(operation)
                self._happen(operation)

    def standing(self) -> str:
        """Where everybody is, in one line."""
        ledger = self.centre.ledger
        log = "no log" if ledger is None else f"{ledger.size} entries, {waiting(ledger.state)}"
        ends = [f"{host.name}: {host.deaths[-1]}" for host in self.hosts.values() if host.deaths]
        return "; ".join((log, *ends, *self.centre.failures[-1:]))

    # -- the schedule

    def _accessed(self, host: Host) -> None:
        self.reached(host.name, "disk", host.accesses)

    def _called(self, link: Link) -> None:
        self.reached(link.site.name, "call", link.messages)

    def _logged(self, entry: Entry) -> None:
        if isinstance(entry.event.data, SessionOpened):
            data = entry.event.data
            self.seen.families[data.sid] = (data.base, data.purpose)
        self.reached(COORDINATOR, "entry", entry.index + 1)

    def _happen(self, operation: Operation) -> None:
        self.seen.happened.append(operation)
        host, seconds = self.hosts[operation.party], operation.seconds
        links = [self.links[host.name]] if host.name in self.links else list(self.links.values())
        match operation.what:
            case "kill" | "power-cut":
                host.die(seconds, operation.what)
                if operation.what == _POWER_CUT:
                    self.disk.lose(host)
            case "cut":
                for link in links:
                    link.cut(seconds)
            case "delay":
                links[0].slow_until, links[0].slowness = self.seconds + 300.0, seconds
            case "duplicate":
                links[0].doubled = seconds
            case "disk-full":
                host.full_until = self.seconds + seconds
            case "clock-jump":
                host.wrong_by += seconds

    # -- the parties

    def _lay_link(self, site: str, number: int) -> HearingLink:
        certificate = self.folders.certificates[site]
        link = HearingLink(self.hosts[site], self.centre, certificate, self._dice, self._called)
        link.seen, link.number = self.seen, number
        return link

    async def _play(self) -> None:
        centre = asyncio.create_task(self.centre.keep())
        over = asyncio.ensure_future(self._keep_all())
        done, _ = await asyncio.wait({centre, over}, timeout=self.most_seconds, return_when="FIRST_COMPLETED")
        for task in done:
            task.result()
        if not done:
            self.seen.stuck = f"not over after {self.most_seconds:.0f} s; {self.standing()}"
        for host in self.hosts.values():
            host.die(0.0, "the end")
        for task in (centre, over):
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    async def _keep_all(self) -> None:
        await asyncio.gather(*(self._keep(self.hosts[site]) for site in self.links))

    async def _keep(self, host: Host) -> None:
        """Take part until the run is over, starting again whenever the process is gone."""
        while True:
            life = host.begin()
            taking_part = host.spawn(self._take_part(host))
            await asyncio.wait({taking_part})
            self._hang_up(host, life)
            if life.alive and self._has_ended(host, taking_part.exception()):
                return
            await asyncio.sleep(host.down_for)

    def _has_ended(self, host: Host, error: BaseException | None) -> bool:
        """Tell whether a process that ended by itself is done for good; else it is started again."""
        if error is None or _WITHOUT_MODEL in str(error):
            host.die(0.0, "done")
            return True
        host.die(RESTART_SECONDS, f"{type(error).__name__}: {error}")
        if isinstance(error, ForkError):
            self.seen.forks.append(f"{host.name}: {error}")
            return True
        if not isinstance(error, OSError | SiteError):
            raise error
        return False

    def _hang_up(self, host: Host, life: Life) -> None:
        """The system ends a dead process's connections; after a power cut only keepalive does."""
        pause = KEEPALIVE_SECONDS if host.deaths[-1:] == [_POWER_CUT] else LATENCY_SECONDS
        self._loop.call_later(pause, self.links[host.name].break_streams, life)

    async def _take_part(self, host: Host) -> None:
        held = Holdings.open(host.root)
        downloads = DownloadFolder(held.folder.downloads)
        client = HearingClient(self.links[host.name], held.config.network, downloads)
        strikes: Any = _Strikes(self, host)
        agent = Agent(held, SimulatedTrainer(self._dice), client=client, faults=strikes)
        try:
            await agent.run()
        finally:
            await agent.close()


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Let the pauses of real clients follow from the seed."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the log lines of processes that are meant to fail."""
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(level)
