"""Seconds by part: wall clock, and processor time of all threads of this process."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import TypedDict

Seconds = dict[str, float]


class Parts(TypedDict):
    """Seconds of each part of one pass."""

    wall: Seconds
    cpu: Seconds


class Stopwatch:
    """Adds up the time of named parts of one side's work."""

    def __init__(self) -> None:
        """Start at zero."""
        self._wall: defaultdict[str, float] = defaultdict(float)
        self._cpu: defaultdict[str, float] = defaultdict(float)

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what runs inside to one part; parts do not nest."""
        cpu, wall = time.process_time(), time.perf_counter()
        try:
            yield
        finally:
            self._wall[name] += time.perf_counter() - wall
            self._cpu[name] += time.process_time() - cpu

    @property
    def parts(self) -> Parts:
        """What was counted so far."""
        return {"wall": dict(self._wall), "cpu": dict(self._cpu)}


def median_parts(passes: list[Parts]) -> Parts:
    """Take each part's median; the total is the median of totals, so it need not be the sum of the parts."""
    return {"wall": _medians([p["wall"] for p in passes]), "cpu": _medians([p["cpu"] for p in passes])}


def _medians(passes: list[Seconds]) -> Seconds:
    names = dict.fromkeys(name for one in passes for name in one if name != "total")
    found = {name: median(one.get(name, 0.0) for one in passes) for name in names}
    totals = [one.get("total", sum(one.values())) for one in passes]
    return found | {"total": median(totals)}
