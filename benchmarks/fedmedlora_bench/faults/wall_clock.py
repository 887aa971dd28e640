"""The date as a simulated process reads it: the simulated time, and what its machine's clock is wrong by."""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from fedmedlora_bench.faults.hosts import LIFE
from fedmedlora_site import agent, holdings, step

__all__ = ["WallClock"]


class WallClock:
    """One date for everybody, but for machines whose clock is wrong.

    Args:
        seconds: The simulated time.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        """Begin now."""
        self._seconds = seconds
        self._began = time.time()

    def timestamp(self) -> float:
        """Seconds since 1970 on the clock of the process that asks."""
        life = LIFE.get()
        return self._began + self._seconds() + (0.0 if life is None else life.host.wrong_by)

    def now(self, zone: dt.tzinfo | None = dt.UTC) -> dt.datetime:
        """The date on the clock of the process that asks."""
        return dt.datetime.fromtimestamp(self.timestamp(), zone)

    @contextmanager
    def hung_up(self) -> Iterator[None]:
        """Let the site's modules read this clock; the coordinator's parts are given one."""
        kept: list[tuple[Any, str, Any]] = [(module, "datetime", dt.datetime) for module in _DATED]
        kept.append((holdings, "time", time))
        for module, name, _ in kept:
            setattr(module, name, SimpleNamespace(now=self.now, time=self.timestamp))
        try:
            yield
        finally:
            for module, name, real in kept:
                setattr(module, name, real)


_DATED = (agent, holdings, step)
