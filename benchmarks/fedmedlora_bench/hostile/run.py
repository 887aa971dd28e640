"""`bench hostile`: honest rounds without and with each attack, in turn, within one study.

Blocks of rounds alternate: without an attack, with one, without, with the next; a repeat is a new study. So
whatever else the machine does meets both sides alike. The first round of a block is not counted: the attack
before it may still be felt in it. The sites only rehearse training; real training takes minutes, and an
attack would be a smaller part of such a round.
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

SCHEMA: Final = "fedmedlora-bench-hostile/1"
SETTLING: Final = 1  # rounds at the beginning of a block that are not counted
MOST_ROUNDS: Final = SitePolicy().max_rounds
_RESAMPLES: Final = 2000


@dataclass(frozen=True)
class HostilePlan:
    """What is to be run.

    Attributes:
        attacks: Names of `ATTACKS`.
        sites: Honest sites, one process each.
        rounds: Counted rounds of a block.
        repeats: How often each attack has its turn.
        dimension: Values of an update; even.
        limits: False takes the limits of `[peers]` away.
        seconds: After which no further attack is begun; what was measured until then is the result.
    """

    attacks: Sequence[str] = ATTACKS
    sites: int = 4
    rounds: int = 3
    repeats: int = 3
    dimension: int = 100_000
    limits: bool = True
    seconds: float = math.inf

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
        """Rounds of one repeat, which is a study of its own."""
        return 2 * len(self.attacks) * (self.rounds + SETTLING)


@dataclass
class Side:
    """The blocks of one attack, or those without it just before them."""

    seconds: list[float] = field(default_factory=list)
    cpu_seconds: list[float] = field(default_factory=list)  # of the coordinator, one figure a block
    refused: Counter[str] = field(default_factory=Counter)
    attacker: Counter[str] = field(default_factory=Counter)


Sides = dict[tuple[str, bool], Side]


def run_hostile(plan: HostilePlan, *, progress: Progress) -> dict[str, Any]:
    """Run one study under all attacks in turn.

    Args:
        plan: What to run.
        progress: Where to draw.

    Raises:
        ConfigError: A process ended early; the message is its last line.
    """
    before, end = os.getloadavg()[0], time.monotonic() + plan.seconds
    blocks = [(name, on) for name in plan.attacks for on in (False, True)]
    sides: Sides = {block: Side() for block in blocks}
    for _ in range(plan.repeats):
        if time.monotonic() > end:
            break
        progress.begin("honest rounds", plan.rounds_of_study)
        with tempfile.TemporaryDirectory() as folder:
            centre = Centre(
                Path(folder),
                sites=plan.sites,
                rounds=plan.rounds_of_study,
                dimension=plan.dimension,
                limits=plan.limits,
            )
            with centre:
                _play(centre, sides, plan, end, progress)
    reached = [name for name in plan.attacks if sides[name, True].seconds]
    return {
        "schema": SCHEMA,
        "sites": plan.sites,
        "rounds": plan.rounds,
        "repeats": plan.repeats,
        "dimension": plan.dimension,
        "limits": plan.limits,
        "attacks": {name: figures(sides[name, False], sides[name, True]) for name in reached},
        "not_reached": [name for name in plan.attacks if name not in reached],
        "load": {"before": before, "after": os.getloadavg()[0]},
        "machine": machine(),
    }


def _play(centre: Centre, sides: Sides, plan: HostilePlan, end: float, progress: Progress) -> None:
    """Run one study: every block once, until the time is over."""
    times, started = _round_times(centre, progress), False
    for (name, on), side in sides.items():
        if not on and time.monotonic() > end:
            return
        refused = centre.refused() if started else {}
        started = True
        if on:
            centre.attack(name)
        for _ in range(SETTLING):
            next(times)
        used = centre.coordinator_seconds()
        side.seconds.extend(next(times) for _ in range(plan.rounds))
        side.cpu_seconds.append((centre.coordinator_seconds() - used) / plan.rounds)
        after = centre.refused()
        side.refused.update({key: int(after[key] - refused.get(key, 0)) for key in after})
        if on:
            side.attacker.update(centre.end_attack())
            progress.say(f"{name}: {_line(sides, name)}")
    for _ in times:
        raise ConfigError("the study has more rounds than were planned")


def _round_times(centre: Centre, progress: Progress) -> Iterator[float]:
    """Seconds of each round, from its plan to its end."""
    begun: float | None = None
    for event, at in centre.events():
        if event == "round.plan":
            begun = at
        elif event == "round.closed" and begun is not None:
            progress.advance()
            yield at - begun
        elif event == "round.aborted":
            raise ConfigError("a round was given up")


def _line(sides: Sides, name: str) -> str:
    without, under = (np.median(sides[name, on].seconds) for on in (False, True))
    return f"{without:.2f} s without, {under:.2f} s under it"


def figures(without: Side, under: Side) -> dict[str, Any]:
    """Put the two sides of one attack beside each other."""
    low, high = _interval(without.seconds, under.seconds)
    return {
        "without": _of_side(without),
        "under": {**_of_side(under), "refused": {k: v for k, v in sorted(under.refused.items()) if v}},
        "ratio": float(np.median(under.seconds) / np.median(without.seconds)),
        "interval": [low, high],
        "attacker": dict(sorted(under.attacker.items())),
    }


def _of_side(side: Side) -> dict[str, Any]:
    return {
        "median_seconds": float(np.median(side.seconds)),
        "least_seconds": min(side.seconds),
        "most_seconds": max(side.seconds),
        "seconds": [round(value, 4) for value in side.seconds],
        "coordinator_cpu_seconds": float(np.mean(side.cpu_seconds)),
    }


def _interval(without: Sequence[float], under: Sequence[float]) -> tuple[float, float]:
    """Bootstrap the ratio of the medians: its 95 % interval."""
    draws = np.random.default_rng(1)
    sides = [
        np.median(draws.choice(np.asarray(side), (_RESAMPLES, len(side))), axis=1)
        for side in (under, without)
    ]
    low, high = np.quantile(sides[0] / sides[1], (0.025, 0.975))
    return float(low), float(high)
