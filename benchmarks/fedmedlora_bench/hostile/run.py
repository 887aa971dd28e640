"""`bench hostile`: honest rounds without and with an attack, in turn, within one study for each attack.

Blocks of rounds alternate: without, under it, without, under it. So whatever else the machine does meets both
sides alike. The first rounds of a block are not counted: the attack has to rise, or is still felt. The sites
only rehearse training; real training takes minutes, and an attack would be a smaller part of such a round.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import numpy as np

from fedmedlora_bench.hostile.attacks import ATTACKS
from fedmedlora_bench.hostile.centre import Centre
from fedmedlora_bench.progress import Progress
from fedmedlora_bench.secagg.run import machine
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.policy import SitePolicy

__all__ = ["SCHEMA", "HostilePlan", "run_hostile"]

SCHEMA: Final = "fedmedlora-bench-hostile/2"
SETTLING: Final = 1  # rounds at the beginning of a block that are not counted, at the least
MOST_SETTLING: Final = 6
RISING_SECONDS: Final = 3.0  # until an attack has all its connections
MOST_ROUNDS: Final = SitePolicy().max_rounds
_RESAMPLES: Final = 2000
_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")  # the least processor time that is seen


@dataclass(frozen=True)
class HostilePlan:
    """What is to be run.

    Attributes:
        attacks: Names of `ATTACKS`.
        sites: Honest sites, one process each.
        rounds: Counted rounds of a block.
        repeats: Blocks under each attack, and as many without.
        dimension: Values of an update; even.
        limits: False takes the limits of `[peers]` away.
        seconds: After which no further attack is begun; what was measured until then is the result.
        scheduling: Of the attacker's process: `SCHED_IDLE` leaves the processors to those it attacks, but on
            a machine busy with other things it may never come to its turn; `SCHED_OTHER` is like all.
    """

    attacks: Sequence[str] = ATTACKS
    sites: int = 4
    rounds: int = 3
    repeats: int = 3
    dimension: int = 100_000
    limits: bool = True
    seconds: float = math.inf
    scheduling: str = "SCHED_IDLE"

    def __post_init__(self) -> None:
        """Refuse what cannot be run.

        Raises:
            ConfigError: A name is unknown or a number out of its range (the caller's).
        """
        unknown = [name for name in self.attacks if name not in ATTACKS]
        if unknown:
            raise ConfigError(f"--attack {unknown[0]}: there is none of that name; {', '.join(ATTACKS)}")
        if self.sites < 3 or self.rounds < 1 or self.repeats < 1 or not self.attacks:
            raise ConfigError("three sites, one round, one repeat and one attack are the least")
        if self.dimension < 2 or self.dimension % 2:
            raise ConfigError("--dimension is even")
        if self.rounds_of_study > MOST_ROUNDS:
            raise ConfigError(f"{self.rounds_of_study} rounds in one study; sites allow {MOST_ROUNDS}")

    @property
    def rounds_of_study(self) -> int:
        """The most rounds that one attack's study takes."""
        return self.repeats * (2 * self.rounds + SETTLING + MOST_SETTLING)


@dataclass
class Side:
    """The rounds of one attack, or those without it in between."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)  # of the coordinator
    refused: Counter[str] = field(default_factory=Counter)
    attacker: Counter[str] = field(default_factory=Counter)


def run_hostile(plan: HostilePlan, *, progress: Progress) -> dict[str, Any]:
    """Run a study for each attack.

    Args:
        plan: What to run.
        progress: Where to draw.

    Raises:
        ConfigError: A process ended early; the message is its last line.
    """
    before, end = os.getloadavg()[0], time.monotonic() + plan.seconds
    attacks: dict[str, Any] = {}
    for name in plan.attacks:
        if time.monotonic() > end:
            break
        progress.begin(f"honest rounds, {name}", 2 * plan.repeats * plan.rounds)
        attacks[name] = _under(name, plan, progress)
    return {
        "schema": SCHEMA,
        "sites": plan.sites,
        "rounds": plan.rounds,
        "repeats": plan.repeats,
        "dimension": plan.dimension,
        "limits": plan.limits,
        "attacker_scheduling": plan.scheduling,
        "attacks": attacks,
        "not_reached": [name for name in plan.attacks if name not in attacks],
        "load": {"before": before, "after": os.getloadavg()[0]},
        "machine": machine(),
    }


def _under(name: str, plan: HostilePlan, progress: Progress) -> dict[str, Any]:
    """Run the study of one attack."""
    without, under = Side(), Side()
    with tempfile.TemporaryDirectory() as folder:
        centre = Centre(
            Path(folder),
            sites=plan.sites,
            rounds=plan.rounds_of_study,
            dimension=plan.dimension,
            limits=plan.limits,
            scheduling=plan.scheduling,
        )
        with centre:
            times = _rounds(centre)
            for _ in range(plan.repeats):
                _block(times, without, plan.rounds, least_seconds=0.0, progress=progress)
                refused = centre.refused()
                centre.attack(name)
                _block(times, under, plan.rounds, least_seconds=RISING_SECONDS, progress=progress)
                after = centre.refused()
                under.attacker.update(centre.end_attack())
                under.refused.update({key: int(after[key] - refused.get(key, 0)) for key in after})
    found = figures(without, under)
    progress.say(f"{name}: {found['ratio']:.2f} of the time, {found['cpu_ratio']:.2f} of the processor time")
    return found


def _block(
    times: Iterator[tuple[float, float]], side: Side, rounds: int, *, least_seconds: float, progress: Progress
) -> None:
    """Take the rounds of one block, after some that are not counted."""
    begun = time.monotonic()
    for settled in range(1, MOST_SETTLING + 1):
        next(times)
        if settled >= SETTLING and time.monotonic() - begun >= least_seconds:
            break
    for _ in range(rounds):
        seconds, cpu_seconds = next(times)
        side.seconds.append(seconds)
        side.cpu_seconds.append(cpu_seconds)
        progress.advance()


def _rounds(centre: Centre) -> Iterator[tuple[float, float]]:
    """Seconds of each round, from its plan to its end, and the coordinator's processor time in it."""
    begun: tuple[float, float] | None = None
    for event, at in centre.events():
        if event == "round.plan":
            begun = at, centre.coordinator_seconds()
        elif event == "round.closed" and begun is not None:
            yield at - begun[0], centre.coordinator_seconds() - begun[1]
        elif event == "round.aborted":
            raise ConfigError("a round was given up")
    raise ConfigError("the study ended before its attack")


def figures(without: Side, under: Side) -> dict[str, Any]:
    """Put the two sides of one attack beside each other."""
    planned, paused = under.attacker.pop("planned", 0), under.attacker.pop("paused", 0)
    more = float(np.median(under.cpu_seconds) - np.median(without.cpu_seconds))
    return {
        "without": _of_side(without),
        "under": {**_of_side(under), "refused": {k: v for k, v in sorted(under.refused.items()) if v}},
        "ratio": _ratio(without.seconds, under.seconds),
        "interval": _interval(without.seconds, under.seconds),
        "cpu_ratio": _ratio(without.cpu_seconds, under.cpu_seconds),
        "cpu_interval": _interval(without.cpu_seconds, under.cpu_seconds),
        "cpu_per_attacked_second": more / float(np.median(under.seconds)),
        "attacker": {**dict(sorted(under.attacker.items())), "pace": planned / paused if paused else 1.0},
    }


def _of_side(side: Side) -> dict[str, Any]:
    return {
        "median_seconds": float(np.median(side.seconds)),
        "least_seconds": min(side.seconds),
        "most_seconds": max(side.seconds),
        "seconds": [round(value, 4) for value in side.seconds],
        "coordinator_cpu_seconds": float(np.median(side.cpu_seconds)),
        "cpu_seconds": [round(value, 2) for value in side.cpu_seconds],
    }


def _ratio(without: Sequence[float], under: Sequence[float]) -> float:
    return float(np.median(under) / max(_TICK, float(np.median(without))))


def _interval(without: Sequence[float], under: Sequence[float]) -> list[float]:
    """Bootstrap the ratio of the medians: its 95 % interval."""
    draws = np.random.default_rng(1)
    sides = [
        np.median(draws.choice(np.asarray(side), (_RESAMPLES, len(side))), axis=1)
        for side in (under, without)
    ]
    low, high = np.quantile(sides[0] / np.maximum(_TICK, sides[1]), (0.025, 0.975))
    return [float(low), float(high)]
