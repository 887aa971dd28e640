"""`bench faults`: many schedules, each judged; what fails is kept, and shrunk to what it takes."""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fedmedlora_bench.faults.invariants import Judgement, judge
from fedmedlora_bench.faults.schedule import Schedule, Setup
from fedmedlora_bench.faults.world import World
from fedmedlora_bench.federation_folders import FederationPlan, Folders, make_folders
from fedmedlora_coordinator.settings import Timing
from fedmedlora_core.errors import ConfigError

__all__ = [
    "Played",
    "Stage",
    "keep_failures",
    "load_schedules",
    "play",
    "shrink",
    "summary",
]

INVARIANTS = (
    "acknowledged",
    "one history",
    "ends",
    "rounds end",
    "verifies",
    "true sums",
    "no site's vector",
)
MOST_SHRINKS = 12
DIMENSION = 32
TIMING = Timing(
    grace_seconds=10, ready_grace_seconds=10, abort_seconds=30, step_seconds=300, training_seconds=3000
)


@dataclass(frozen=True)
class Played:
    """One schedule and what became of it.

    Attributes:
        schedule: It.
        judgement: Whether the invariants held.
        happened: How many operations took place; others' moments never came.
        deeds: Kinds of what happened, with their numbers.
        deaths: Processes that ended before the end, of whatever.
        simulated_seconds: How long it took inside.
        seconds: Processor time.
    """

    schedule: Schedule
    judgement: Judgement
    happened: int
    deeds: Mapping[str, int]
    deaths: int
    simulated_seconds: float
    seconds: float

    @property
    def holds(self) -> bool:
        """Whether all is well."""
        return not self.judgement.breaches

    def to_json(self) -> dict[str, Any]:
        """Return plain data: one row of the result."""
        row = {
            "seed": self.schedule.seed,
            "setup": asdict(self.schedule.setup),
            "planned": len(self.schedule.operations),
            "happened": self.happened,
            "deeds": dict(sorted(self.deeds.items())),
            "deaths": self.deaths,
            "outcomes": list(self.judgement.outcomes.values()),
            "acknowledged": self.judgement.acknowledged,
            "heads": self.judgement.heads,
            "uploads": self.judgement.uploads,
            "sums": self.judgement.sums,
            "simulated_seconds": round(self.simulated_seconds, 1),
        }
        breaches = [asdict(breach) for breach in self.judgement.breaches]
        return row if self.holds else {**row, "breaches": breaches, "schedule": self.schedule.to_json()}


def _plan(setup: Setup) -> FederationPlan:
    return FederationPlan(
        setup.members, setup.rounds, DIMENSION, 32, timing=TIMING, vote=setup.vote, quorum=setup.quorum
    )


class Stage:
    """Plays schedules, each on a fresh copy of its study's folders.

    Args:
        root: An empty folder; a file system in memory is the fastest.
        world_type: Another world than the real one: for tests that take a protection away.
    """

    def __init__(self, root: Path, world_type: type[World] = World) -> None:
        """Make nothing yet."""
        self._root = root
        self._world_type = world_type
        self._made: dict[Setup, Folders] = {}

    def play(self, schedule: Schedule) -> Played:
        """Play one schedule and judge it."""
        began = time.process_time()
        made = self._made.get(schedule.setup)
        if made is None:
            folder = self._root / f"study-{len(self._made)}"
            made = self._made[schedule.setup] = make_folders(folder, _plan(schedule.setup))
        root = self._root / "run"
        shutil.copytree(made.root, root)
        try:
            world = self._world_type(made.at(root), schedule)
            seen = world.run()
            judgement = judge(world)
        finally:
            shutil.rmtree(root)
        deaths = sum(len(set(host.deaths) - {"done", "the end"}) for host in world.hosts.values())
        return Played(
            schedule,
            judgement,
            len(seen.happened),
            Counter(operation.what for operation in seen.happened),
            deaths,
            world.seconds,
            time.process_time() - began,
        )


def play(schedules: Iterable[Schedule]) -> Iterator[Played]:
    """Play schedules one after the other."""
    with _scratch() as folder:
        stage = Stage(folder)
        for schedule in schedules:
            yield stage.play(schedule)


def shrink(schedule: Schedule, world_type: type[World] = World) -> Schedule:
    """Leave out what a failing schedule fails without, one operation at a time."""
    with _scratch() as folder:
        stage = Stage(folder, world_type)
        for operation in schedule.operations[:MOST_SHRINKS]:
            fewer = replace(schedule, operations=tuple(o for o in schedule.operations if o is not operation))
            if not stage.play(fewer).holds:
                schedule = fewer
        return schedule


def keep_failures(file: Path, failed: Sequence[Schedule]) -> None:
    """Add failing schedules to a file of them; what it holds stays.

    Raises:
        ConfigError: The file is there and holds something else.
    """
    held = load_schedules(file) if file.is_file() else []
    fresh = [schedule for schedule in failed if schedule not in held]
    file.parent.mkdir(parents=True, exist_ok=True)
    rows = [schedule.to_json() for schedule in (*held, *fresh)]
    file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def load_schedules(file: Path) -> list[Schedule]:
    """Read the schedules of a file.

    Raises:
        ConfigError: It holds something else.
    """
    try:
        rows = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise ConfigError(f"{file}: is not a file of fault schedules") from None
    if not isinstance(rows, list):
        raise ConfigError(f"{file}: is not a file of fault schedules")
    return [Schedule.from_json(row) for row in rows]


def summary(played: Sequence[Played]) -> dict[str, Any]:
    """Sum a run up: what was tried, and how often each invariant was broken."""
    broken = Counter(breach.invariant for each in played for breach in each.judgement.breaches)
    deeds: Counter[str] = Counter()
    for each in played:
        deeds.update(each.deeds)
    outcomes = Counter(outcome for each in played for outcome in each.judgement.outcomes.values())
    return {
        "correct": all(each.holds for each in played),
        "schedules": len(played),
        "operations": sum(each.happened for each in played),
        "deeds": dict(sorted(deeds.items())),
        "deaths": sum(each.deaths for each in played),
        "rounds": dict(sorted(outcomes.items())),
        "acknowledged_events": sum(each.judgement.acknowledged for each in played),
        "heads": sum(each.judgement.heads for each in played),
        "masked_vectors": sum(each.judgement.uploads for each in played),
        "opened_sums": sum(each.judgement.sums for each in played),
        "simulated_hours": round(sum(each.simulated_seconds for each in played) / 3600, 1),
        "processor_seconds": round(sum(each.seconds for each in played), 1),
        "broken": {name: broken.get(name, 0) for name in INVARIANTS},
        "runs": [each.to_json() for each in played],
    }


@contextmanager
def _scratch() -> Iterator[Path]:
    """A folder in memory if there is room for one, else on the disk."""
    shared = Path("/dev/shm")  # noqa: S108  # nosec B108 - a new folder of this process alone in it
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as folder:
        yield Path(folder)
