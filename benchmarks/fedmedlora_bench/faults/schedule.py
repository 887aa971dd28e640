"""What goes wrong when, as data: a schedule can be drawn from a seed, kept in a file, replayed and shrunk."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from fedmedlora_core.errors import ConfigError

__all__ = ["COORDINATOR", "Operation", "Schedule", "Setup", "When", "draw"]

COORDINATOR = "coordinator"
Deed = Literal["kill", "power-cut", "cut", "delay", "duplicate", "disk-full", "clock-jump"]
Trigger = Literal["entry", "disk", "call", "step"]
DEEDS: tuple[Deed, ...] = ("kill", "power-cut", "cut", "delay", "duplicate", "disk-full", "clock-jump")
TRIGGERS: tuple[Trigger, ...] = ("entry", "disk", "call", "step")
SITE_STEPS = ("train", "advertise", "share", "upload", "survivors", "unmask", "aggregate")
PAUSES = (0.0, 1.0, 5.0, 15.0, 45.0, 120.0, 600.0)
"""Seconds that something lasts: below and above each patience of a coordinator and of a connection."""
_DISK_OPERATIONS = {"coordinator": 1500, "site": 760}
_CALLS = 85
_ENTRIES = 150


@dataclass(frozen=True)
class When:
    """The moment of an operation.

    Attributes:
        trigger: "entry": the log reaches `number` entries. "disk": the party's `number`-th access to its disk
            that changes something. "call": the site's `number`-th message. "step": the site signs its event
            of `step` in round `number`.
        number: See there.
        step: See there.
    """

    trigger: Trigger
    number: int
    step: str = ""


@dataclass(frozen=True)
class Operation:
    """One thing that goes wrong.

    Attributes:
        when: Its moment.
        what: "kill": the process is gone. "power-cut": so is what it did not have synced. "cut": no packet
            passes between site and coordinator. "delay": the site's messages take so long, each another
            part of it, so that they overtake each other. "duplicate": its next message arrives once more, so
            much later. "disk-full": nothing can be written. "clock-jump": the date is wrong by the seconds.
        party: Whom it hits.
        seconds: How long it lasts; of a kill, until the process is started again.
    """

    when: When
    what: Deed
    party: str
    seconds: float


@dataclass(frozen=True)
class Setup:
    """The study that a schedule disturbs.

    Attributes:
        sites: Members; one of them may collude.
        rounds: Rounds.
        vote: Whether every second round's adapter is voted on.
        quorum: Whether T members cosign heads, and nothing is opened before.
    """

    sites: int = 4
    rounds: int = 2
    vote: bool = False
    quorum: bool = False

    @property
    def members(self) -> tuple[str, ...]:
        """Ids of the sites."""
        return tuple(f"site-{chr(ord('a') + number)}" for number in range(self.sites))


@dataclass(frozen=True)
class Schedule:
    """A whole run: its study, its faults, and the seed of delays and updates."""

    seed: int
    setup: Setup = Setup()
    operations: Sequence[Operation] = field(default=())

    def to_json(self) -> dict[str, Any]:
        """Return plain data."""
        return {**asdict(self), "operations": [asdict(operation) for operation in self.operations]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Schedule:
        """Read `to_json`.

        Raises:
            ConfigError: The data has another form or names a fault, a trigger or a party that there is none.
        """
        try:
            setup = Setup(**data["setup"])
            operations = tuple(
                Operation(**{**each, "when": When(**each["when"])}) for each in data["operations"]
            )
            known = all(
                each.what in DEEDS
                and each.when.trigger in TRIGGERS
                and each.party in (COORDINATOR, *setup.members)
                for each in operations
            )
            if not known:
                raise ValueError("unknown word")
            return cls(int(data["seed"]), setup, operations)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"a fault schedule is malformed ({error})") from None


def draw(seed: int) -> Schedule:
    """Draw a schedule: one to six faults at any moments of any parties."""
    dice = random.Random(seed)  # noqa: S311 - a test plan, not a secret
    setup = Setup(dice.choice((3, 3, 4, 4, 4, 5)), 2, dice.random() < 0.25, dice.random() < 0.25)
    return Schedule(seed, setup, tuple(_draw_one(dice, setup) for _ in range(dice.randint(1, 6))))


def _draw_one(dice: random.Random, setup: Setup) -> Operation:
    party = dice.choice((COORDINATOR, *setup.members, *setup.members[:2]))
    of_links = ("delay", "duplicate")
    what = dice.choice([deed for deed in DEEDS if party != COORDINATOR or deed not in of_links])
    trigger = dice.choice([t for t in TRIGGERS if party != COORDINATOR or t in ("entry", "disk")])
    seconds = dice.choice(PAUSES)
    if what == "clock-jump":
        seconds = dice.choice((-86_400.0, 86_400.0))
    return Operation(_draw_moment(dice, trigger, party, setup), what, party, seconds)


def _draw_moment(dice: random.Random, trigger: Trigger, party: str, setup: Setup) -> When:
    if trigger == "entry":
        return When(trigger, dice.randint(10, _ENTRIES))
    if trigger == "disk":
        most = _DISK_OPERATIONS["coordinator" if party == COORDINATOR else "site"]
        return When(trigger, dice.randint(1, most))
    if trigger == "call":
        return When(trigger, dice.randint(1, _CALLS))
    return When(trigger, dice.randint(1, setup.rounds), dice.choice(SITE_STEPS))
