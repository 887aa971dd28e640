"""The pulse: every two seconds a site's agent looks at itself and says what it sees, on this machine alone.

It sets the gauges of `metrics`, answers the probes' question and writes `run/live.json` for `status --watch`
and `health`. It decides nothing and sends nothing; an error in it is logged once and the study goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from fedmedlora_audit.law import WAITING_STEPS, waiting
from fedmedlora_protos.operating.live_file import write_live
from fedmedlora_protos.operating.logbook import place_of, tell
from fedmedlora_protos.operating.vitals import ClockWatch, Disk, Health, Problem, days_left, is_behind
from fedmedlora_site import metrics
from fedmedlora_site.budget import Budget, budget_of, ledger_stamp
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.metrics import Standing

_LOG = logging.getLogger(__name__)
PULSE_SECONDS: Final = 2.0
SLOW_SECONDS: Final = 60.0  # between looks that parse certificates


@dataclass
class Pulse:
    """Looks at one agent, from its event loop.

    Args:
        held: The site's durable state.
        standing: What the agent knows of its work.
        health: What the probes are told.
        monotonic: A clock that only goes forward.
        wall: The clock of the day.
    """

    held: Holdings
    standing: Standing
    health: Health = field(default_factory=Health)
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    _gone_at: float | None = None
    _slow_at: float = -SLOW_SECONDS
    _certificates: dict[str, float] = field(default_factory=dict)
    _budget: Budget = field(default_factory=Budget)
    _ledger_seen: object = ()

    def __post_init__(self) -> None:
        """Begin with the clocks as they are."""
        self._clock = ClockWatch(self.wall, self.monotonic)
        self._gone_at = self.monotonic()

    async def run(self) -> None:
        """Look again and again until cancelled; an error in looking ends the looking and nothing else."""
        try:
            while True:
                await self._look_slowly()
                self.take()
                await asyncio.sleep(PULSE_SECONDS)
        except asyncio.CancelledError:
            self.standing.lost()
            self.take(ending=True)
            raise
        except Exception as error:  # noqa: BLE001 - seeing less must not end a study
            tell(_LOG, "watch_failed", error=type(error).__name__, place=place_of(error))

    async def _look_slowly(self) -> None:
        """Read certificates now and then, and the ledger when it was written."""
        if self.monotonic() - self._slow_at >= SLOW_SECONDS:
            self._slow_at = self.monotonic()
            folder = self.held.folder
            ends = {"site": folder.tls / "cert.pem", "ca": folder.tls / "ca.pem"}
            self._certificates = {n: left for n, p in ends.items() if (left := days_left(p)) is not None}
        held = self.held
        if (seen := ledger_stamp(held.folder, held.config)) != self._ledger_seen:
            self._ledger_seen = seen
            self._budget = await asyncio.to_thread(
                budget_of, held.folder, held.config, held.policy.privacy, held.study
            )

    def take(self, *, ending: bool = False) -> dict[str, Any]:
        """Look once; returns what is written to `run/live.json`."""
        held, state = self.held, self.held.mirror.state
        disk = Disk.of(held.folder.run)
        if jump := self._clock.look():
            metrics.CLOCK_JUMPS.inc()
            tell(_LOG, "clock_jumped", seconds=jump)
        problems = self._find_problems(disk)
        if ending:
            problems.append("stopping")
        now = waiting(state)
        facts: dict[str, Any] = {
            "connected": self.standing.connected,
            "connections": self.standing.connections,
            "away_seconds": self._away(),
            "round": len(state.rounds),
            "rounds": held.terms.rounds,
            "rounds_closed": len(state.closed_rounds),
            "step": now.step,
            "waiting_for": [site for site in now.expected if site not in now.arrived],
            "training_round": self.standing.round,
            "training_tenths": self.standing.tenths,
            "training_short_of_memory": self.standing.short,
            "entries": held.mirror.size,
            "traffic": metrics.traffic(),
            "refused_steps": held.journal.reasons(),
            **self._budget.facts(),
            "disk_free_bytes": disk.free,
            "disk_total_bytes": disk.total,
            "certificate_days": self._certificates,
            "clock_jumps": self._clock.jumps,
        }
        _set(facts, ready=not problems)
        self.health.beat(problems)
        write_live(held.folder.live, {**facts, "problems": problems})
        return facts

    def _find_problems(self, disk: Disk) -> list[Problem]:
        problems = list(disk.problems())
        if any(days <= 0 for days in self._certificates.values()):
            problems.append("certificate")
        entries = self.held.mirror.entries
        if entries and is_behind(self.wall(), entries[-1].event.time):
            problems.append("clock")
        return problems

    def _away(self) -> float:
        if self.standing.connected:
            self._gone_at = None
            return 0.0
        if self._gone_at is None:
            self._gone_at = self.monotonic()
        return round(self.monotonic() - self._gone_at, 1)


_BUDGET_GAUGES: Final = (
    (metrics.EPSILON_SPENT, "budget_spent_milli"),
    (metrics.EPSILON_LIMIT, "budget_limit_milli"),
    (metrics.STUDY_EPSILON_SPENT, "study_budget_spent_milli"),
    (metrics.STUDY_EPSILON_LIMIT, "study_budget_limit_milli"),
)


def _set(facts: dict[str, Any], *, ready: bool) -> None:
    metrics.READY.set(ready)
    metrics.CONNECTED.set(facts["connected"])
    metrics.AWAY.set(facts["away_seconds"])
    metrics.ROUND.set(facts["round"])
    metrics.ROUNDS_PLANNED.set(facts["rounds"])
    metrics.ROUNDS_CLOSED.set(facts["rounds_closed"])
    for step in WAITING_STEPS:
        metrics.STEP.labels(step).set(step == facts["step"])
    metrics.TRAINING.set(facts["training_tenths"] / metrics.TENTHS)
    metrics.LOG_ENTRIES.set(facts["entries"])
    for reason in metrics.REFUSALS:
        metrics.REFUSED_STEPS.labels(reason).set(facts["refused_steps"].get(reason, 0))
    metrics.FORKED.set("log_forked" in facts["refused_steps"])
    failed = [count for reason, count in facts["refused_steps"].items() if reason in metrics.TRAINER_REASONS]
    metrics.TRAINER_FAILURES.set(sum(failed))
    for state in metrics.LEDGER_STATES:
        metrics.LEDGER.labels(state).set(state == facts["ledger"])
    for gauge, name in _BUDGET_GAUGES:
        gauge.set((facts[name] or 0) / 1000)
    metrics.DISK_FREE.set(facts["disk_free_bytes"])
    metrics.DISK_TOTAL.set(facts["disk_total_bytes"])
    for name, days in facts["certificate_days"].items():
        metrics.CERTIFICATE_DAYS.labels(name).set(days)
