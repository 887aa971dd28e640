"""Machines that processes run on, die on, and are started on again."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextvars import ContextVar, copy_context
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

__all__ = ["LIFE", "Host", "Killed", "Life"]


class Killed(BaseException):
    """This process is gone; a BaseException, since nothing may handle it."""


@dataclass(eq=False)
class Life:
    """One process, from its start to its death."""

    host: Host
    alive: bool = True
    tasks: set[asyncio.Task[Any]] = field(default_factory=set)


LIFE: ContextVar[Life | None] = ContextVar("life", default=None)
"""The process whose code runs; None is the simulation itself."""


@dataclass(eq=False)
class Host:
    """One party's machine.

    Attributes:
        name: The party.
        root: Its folder.
        life: Its running process; None while there is none.
        accesses: Accesses that changed its disk so far.
        full_until: Its disk takes nothing before this time.
        down_for: Seconds until its process is started again.
        wrong_by: Seconds that its clock is ahead.
        deaths: What it died of.
        prefix: How the names of its files begin.
    """

    name: str
    root: Path
    life: Life | None = None
    accesses: int = 0
    full_until: float = 0.0
    down_for: float = 0.0
    wrong_by: float = 0.0
    deaths: list[str] = field(default_factory=list)
    prefix: str = ""

    def __post_init__(self) -> None:
        """Say how the names of its files begin."""
        self.prefix = f"{self.root}/"

    def begin(self) -> Life:
        """Start a process."""
        self.life = Life(self)
        return self.life

    def spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Let the running process do something.

        Raises:
            Killed: It does not run.
        """
        life = self.life
        if life is None or not life.alive:
            work.close()
            raise Killed
        context = copy_context()
        context.run(LIFE.set, life)
        task = asyncio.get_running_loop().create_task(work, context=context)
        life.tasks.add(task)
        task.add_done_callback(life.tasks.discard)
        return task

    def die(self, seconds: float, of: str) -> None:
        """End the process at this very place; nothing of it is flushed or said."""
        self.deaths.append(of)
        self.down_for = seconds
        life, self.life = self.life, None
        if life is None:
            return
        life.alive = False
        for task in list(life.tasks):
            task.cancel()

    @property
    def is_up(self) -> bool:
        """Whether its process runs."""
        return self.life is not None and self.life.alive


def need_alive() -> None:
    """Stop here if the process whose code this is has been killed.

    Raises:
        Killed: It has.
    """
    life = LIFE.get()
    if life is not None and not life.alive:
        raise Killed
