"""The pulse: every two seconds the coordinator looks at itself and says what it sees.

It reads the log's state, presence and disk, sets the gauges of `metrics`, answers the probes' question and
writes `live.json` for `status --watch` and `health`. It decides nothing and writes no entry: an error in it
is logged once and the study goes on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from prometheus_client import Counter

from fedmedlora_audit.events import Entry
from fedmedlora_audit.law import WAITING_STEPS, State, Waiting, waiting
from fedmedlora_coordinator import metrics
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.ledger import Ledger
from fedmedlora_coordinator.presence import Presence
from fedmedlora_coordinator.probes import HealthProbes
from fedmedlora_coordinator.store import LogStore
from fedmedlora_coordinator.witnesses import Witnesses
from fedmedlora_protos.operating.instruments import totals
from fedmedlora_protos.operating.live_file import write_live
from fedmedlora_protos.operating.logbook import place_of, tell
from fedmedlora_protos.operating.vitals import ClockWatch, Disk, Health, Problem, days_left, is_behind

_LOG = logging.getLogger(__name__)
PULSE_SECONDS: Final = 2.0
SLOW_SECONDS: Final = 60.0  # between looks that walk folders or parse certificates


@dataclass(frozen=True)
class Watched:
    """The parts of a running study that the pulse reads."""

    ledger: Ledger
    store: LogStore
    presence: Presence
    witnesses: Witnesses
    probes: HealthProbes


@dataclass
class Pulse:
    """Looks at one coordinator process, from its event loop.

    Args:
        folder: Its folder.
        health: What the probes are told.
        monotonic: A clock that only goes forward.
        wall: The clock of the day.
    """

    folder: Folder
    health: Health
    monotonic: Callable[[], float] = time.monotonic
    wall: Callable[[], float] = time.time
    watched: Watched | None = None
    _step: tuple[object, float] = ((), 0.0)
    _read: int = 0
    _log_bytes: int = 0
    _refused: dict[str, int] = field(default_factory=dict)
    _silent: dict[str, int] = field(default_factory=dict)
    _aborted: dict[str, int] = field(default_factory=dict)
    _there: frozenset[str] = frozenset()
    _agreed: bool = True
    _slow_at: float = -SLOW_SECONDS
    _certificates: dict[str, float] = field(default_factory=dict)
    _blob_bytes: int = 0

    def __post_init__(self) -> None:
        """Begin with the clocks as they are."""
        self._clock = ClockWatch(self.wall, self.monotonic)

    def watch(self, watched: Watched) -> None:
        """Look at these parts from now on; what was counted of earlier ones is counted anew."""
        self.watched = watched
        self._read = self._log_bytes = 0
        self._refused, self._silent, self._aborted = {}, {}, {}

    def pause(self, problem: Problem) -> None:
        """Say why there is nothing to look at for a while."""
        self.watched = None
        self.health.excuse(problem)
        metrics.READY.set(0)
        write_live(self.folder.live, {"problems": [problem]})

    async def run(self) -> None:
        """Look again and again until cancelled; an error in looking ends the looking and nothing else."""
        try:
            while True:
                if self.monotonic() - self._slow_at >= SLOW_SECONDS:
                    self._slow_at = self.monotonic()
                    self._blob_bytes, self._certificates = await asyncio.to_thread(_slow_facts, self.folder)
                self.take()
                await asyncio.sleep(PULSE_SECONDS)
        except asyncio.CancelledError:
            self.take(ending=True)  # what `status` shows after this process
            raise
        except Exception as error:  # noqa: BLE001 - seeing less must not end a study
            tell(_LOG, "watch_failed", error=type(error).__name__, place=place_of(error))

    def take(self, *, ending: bool = False) -> dict[str, Any]:
        """Look once; returns what is written to `live.json`."""
        disk = Disk.of(self.folder.root)
        facts: dict[str, Any] = {
            "disk_free_bytes": disk.free,
            "disk_total_bytes": disk.total,
            "blob_bytes": self._blob_bytes,
            "certificate_days": self._certificates,
            "traffic": metrics.traffic(),
            "refused_calls": _counts(metrics.REFUSED),
            "limited_calls": _counts(metrics.LIMITED),
            "store_write_ms": metrics.store_write_ms(),
        }
        problems = list(disk.problems())
        if jump := self._clock.look():
            metrics.CLOCK_JUMPS.inc()
            tell(_LOG, "clock_jumped", seconds=jump)
        facts["clock_jumps"] = self._clock.jumps
        if any(days <= 0 for days in self._certificates.values()):
            problems.append("certificate")
        if self.watched is not None:
            facts |= self._study_facts(self.watched, problems)
        if ending:
            problems.append("stopping")
        _set_vitals(facts, ready=not problems)
        self.health.beat(problems)
        if self.watched is not None:
            self.watched.probes.ready = not problems
        write_live(self.folder.live, {**facts, "problems": problems})
        return facts

    def _study_facts(self, watched: Watched, problems: list[Problem]) -> dict[str, Any]:
        ledger, presence, now = watched.ledger, watched.presence, waiting(watched.ledger.state)
        self._read_on(ledger)
        agrees = _head_agrees(watched, problems)
        if not agrees and self._agreed:
            tell(_LOG, "head_differs", size=ledger.size)
        self._agreed = agrees
        if ledger.entries and is_behind(self.wall(), ledger.entries[-1].event.time):
            problems.append("clock")
        moment = self.monotonic()
        away = {
            site: 0.0 if since is None else round(max(0.0, moment - since), 1)
            for site in ledger.terms.members
            for since in [presence.away_since(site)]
        }
        self._say_presence(frozenset(presence.connected()))
        facts = {
            "round": len(ledger.state.rounds),
            "rounds": ledger.terms.rounds,
            "step": now.step,
            "step_seconds": round(self._in_step(now), 1),
            "threshold": ledger.terms.threshold,
            "connected": list(presence.connected()),
            "waiting_for": [site for site in now.expected if site not in now.arrived],
            "away_seconds": away,
            "silent_steps": self._silent,
            "entries": ledger.size,
            "log_bytes": self._log_bytes,
            "cosigned_entries": watched.witnesses.newest_size(),
            "cosigned_heads": watched.witnesses.quorum_count(),
            "head_agrees": agrees,
            "refused_steps": self._refused,
            "outcomes": _outcomes(ledger.state),
            "aborted_reasons": self._aborted,
        }
        _set_study(facts, tuple(ledger.terms.members))
        return facts

    def _read_on(self, ledger: Ledger) -> None:
        """Count what entries say that came since the last look."""
        for entry in ledger.entries[self._read :]:
            self._log_bytes += len(entry.note)
            data: Any = entry.event.data
            if entry.event.type == "step.refused":
                self._refused[data.reason] = self._refused.get(data.reason, 0) + 1
            elif entry.event.type == "delivery.failed":
                self._silent[data.site] = self._silent.get(data.site, 0) + 1
            elif entry.event.type == "round.aborted":
                reason = entry.event.reason or ""
                self._aborted[reason] = self._aborted.get(reason, 0) + 1
        self._read = len(ledger.entries)

    def _in_step(self, now: Waiting) -> float:
        key = (now.step, now.round, now.sid)
        if key != self._step[0]:
            self._step = (key, self.monotonic())
        return self.monotonic() - self._step[1]

    def _say_presence(self, there: frozenset[str]) -> None:
        for site in sorted(there - self._there):
            tell(_LOG, "site_came", site=site)
        for site in sorted(self._there - there):
            tell(_LOG, "site_went", site=site)
        self._there = there


def tell_entry(entry: Entry) -> None:
    """Count an entry that was appended, and log it if an operator wants to know."""
    event, data = entry.event, entry.event.data
    metrics.EVENTS.labels("coordinator" if event.actor.role == "coordinator" else "site").inc()
    values: Any = data
    match event.type:
        case "round.plan":
            tell(_LOG, "round_planned", round=event.round)
        case "round.closed":
            tell(_LOG, "round_closed", round=event.round)
        case "round.rolled_back":
            tell(_LOG, "round_rolled_back", round=event.round)
        case "round.aborted":
            tell(_LOG, "round_aborted", round=event.round, reason=event.reason)
        case "delivery.failed":
            tell(_LOG, "site_silent", round=event.round, site=values.site, step=values.step)
        case "step.refused":
            told = {"site": event.actor.id, "step": values.step, "reason": values.reason}
            tell(_LOG, "site_refused", round=event.round, **told)
        case "model.released":
            tell(_LOG, "adapter_released")
        case "run.closed":
            tell(_LOG, "study_closed")


def _head_agrees(watched: Watched, problems: list[Problem]) -> bool:
    """Compare the store's last head with the head file, which are written one right after the other."""
    try:
        stored, filed = watched.store.last_head(), watched.store.head_file()
    except StoreError:
        problems.append("store")
        return True
    if stored == filed:
        return True
    problems.append("head")
    return False


def _outcomes(state: State) -> dict[str, int]:
    """Count the rounds by how they ended."""
    found = dict.fromkeys(metrics.OUTCOMES, 0)
    for current in state.rounds.values():
        found[current.outcome or "open"] += 1
    return found


def _set_vitals(facts: dict[str, Any], *, ready: bool) -> None:
    metrics.READY.set(ready)
    metrics.DISK_FREE.set(facts["disk_free_bytes"])
    metrics.DISK_TOTAL.set(facts["disk_total_bytes"])
    metrics.BLOB_BYTES.set(facts["blob_bytes"])
    for name, days in facts["certificate_days"].items():
        metrics.CERTIFICATE_DAYS.labels(name).set(days)


def _set_study(facts: dict[str, Any], members: tuple[str, ...]) -> None:
    metrics.MEMBERS.set(len(members))
    metrics.ROUND.set(facts["round"])
    metrics.ROUNDS_PLANNED.set(facts["rounds"])
    metrics.THRESHOLD.set(facts["threshold"])
    metrics.STEP_SECONDS.set(facts["step_seconds"])
    for step in WAITING_STEPS:
        metrics.STEP.labels(step).set(step == facts["step"])
    for site in members:
        metrics.CONNECTED.labels(site).set(site in facts["connected"])
        metrics.AWAITED.labels(site).set(site in facts["waiting_for"])
        metrics.AWAY.labels(site).set(facts["away_seconds"][site])
        metrics.SILENT.labels(site).set(facts["silent_steps"].get(site, 0))
    metrics.LOG_ENTRIES.set(facts["entries"])
    metrics.LOG_BYTES.set(facts["log_bytes"])
    metrics.COSIGNED.set(facts["cosigned_entries"])
    metrics.COSIGNED_HEADS.set(facts["cosigned_heads"])
    metrics.HEAD_AGREES.set(facts["head_agrees"])
    for reason in metrics.REFUSALS:
        metrics.REFUSED_STEPS.labels(reason).set(facts["refused_steps"].get(reason, 0))
    for outcome, count in facts["outcomes"].items():
        if outcome != "aborted":
            metrics.ROUNDS.labels(outcome, "").set(count)
    for reason in metrics.ABORTS:
        metrics.ROUNDS.labels("aborted", reason).set(facts["aborted_reasons"].get(reason, 0))


def _counts(counter: Counter) -> dict[str, int]:
    """Return the values of a counter with one label that are not zero."""
    return {next(iter(labels.values())): int(value) for labels, value in totals(counter) if value}


def _slow_facts(folder: Folder) -> tuple[int, dict[str, float]]:
    """Bytes of payloads, and days that certificates are valid for."""
    ends = {"server": folder.tls_certificate, "ca": folder.ca_certificate}
    left = {name: days for name, path in ends.items() if (days := days_left(path)) is not None}
    return sum(_size(path) for path in folder.blobs.rglob("*")), left


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # shredded while this walked
        return 0
