"""Vital signs of a process: does its loop still turn, is its disk writable, is its clock sane.

The event loop writes them (`Health.beat`), threads of the local page read them; each is one attribute that is
replaced whole.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final, Literal

from cryptography import x509

from fedmedlora_protos.operating.logbook import tell

_LOG = logging.getLogger(__name__)
Problem = Literal[
    "starting", "stalled", "store", "disk_full", "read_only", "clock", "certificate", "head", "stopping"
]
"""Why a process is not ready; the whole text of `/readyz`."""

STALLED_SECONDS: Final = 120.0  # a loop may wait for its database for 45 (ADR 0042)
PROBE_SECONDS: Final = 5.0  # a probe that is asked too often must not wear the disk
FULL_BYTES: Final = 64 << 20
JUMP_SECONDS: Final = 5.0
SECONDS_A_DAY: Final = 86_400.0
BEHIND_SECONDS: Final = 60.0  # the clock may be behind the newest entry of the log by this much


class Health:
    """What the last look at this process found.

    Args:
        monotonic: A clock that only goes forward.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Begin as "starting"."""
        self._monotonic = monotonic
        self._last: tuple[float, tuple[Problem, ...]] = (monotonic(), ("starting",))
        self._excused = True
        self._told: tuple[Problem, ...] = ()

    def beat(self, problems: Iterable[Problem]) -> None:
        """Say that the loop turns, and what was found wrong; what is new of it is logged."""
        found = tuple(problems)
        self._last = (self._monotonic(), found)
        self._excused = False
        lasting = tuple(problem for problem in found if problem != "stopping")
        for problem in lasting:
            if problem not in self._told:
                tell(_LOG, "not_ready", reason=problem)
        if self._told and not lasting:
            tell(_LOG, "ready")
        self._told = lasting

    def excuse(self, problem: Problem) -> None:
        """Say that no beat will come for a while, with this reason: not ready, and alive."""
        self._last = (self._monotonic(), (problem,))
        self._excused = True

    def stalled(self) -> tuple[Problem, ...]:
        """Return "stalled" if the loop has not turned for too long: only a restart helps."""
        silent = self._monotonic() - self._last[0]
        return () if self._excused or silent < STALLED_SECONDS else ("stalled",)

    def problems(self) -> tuple[Problem, ...]:
        """Return why this process is not ready; nothing when it is."""
        return self.stalled() or self._last[1]


@dataclass
class ClockWatch:
    """Notices that the clock of the day jumped, by the clock that only goes forward.

    Attributes:
        jumps: How often it did since the start.
    """

    wall: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    jumps: int = 0
    _last: tuple[float, float] | None = None

    def look(self) -> float:
        """Return by how many seconds it jumped since the last look; 0.0 if it did not."""
        now = (self.wall(), self.monotonic())
        last, self._last = self._last, now
        if last is None:
            return 0.0
        jump = (now[0] - last[0]) - (now[1] - last[1])
        if abs(jump) < JUMP_SECONDS:
            return 0.0
        self.jumps += 1
        return round(jump, 1)


@dataclass(frozen=True)
class Disk:
    """Room on the disk of a folder, for who is not root.

    Attributes:
        free: Bytes.
        total: Bytes.
        read_only: Whether it is mounted so.
    """

    free: int
    total: int
    read_only: bool

    @classmethod
    def of(cls, folder: Path) -> Disk:
        """Ask the file system."""
        found = os.statvfs(folder)
        return cls(
            found.f_bavail * found.f_frsize,
            found.f_blocks * found.f_frsize,
            bool(found.f_flag & os.ST_RDONLY),
        )

    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong with it."""
        full: tuple[Problem, ...] = ("disk_full",) if self.free < FULL_BYTES else ()
        return (*full, "read_only") if self.read_only else full


def can_write(folder: Path) -> bool:
    """Write and delete one small file: a quota or a broken disk shows in nothing else."""
    path = folder / ".probe"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        try:
            os.write(descriptor, b"x")
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
            path.unlink()
    except OSError:
        return False
    return True


class WriteProbe:
    """Asks `can_write` for whoever asks for readiness, and the disk at most once in five seconds.

    Args:
        folder: Where the durable state lies.
        monotonic: A clock that only goes forward.
    """

    def __init__(self, folder: Path, monotonic: Callable[[], float] = time.monotonic) -> None:
        """Ask nothing yet."""
        self._folder = folder
        self._monotonic = monotonic
        self._last: tuple[float, bool] = (-PROBE_SECONDS, True)

    def __call__(self) -> bool:
        """Return whether the folder could be written to a moment ago."""
        now = self._monotonic()
        if now - self._last[0] >= PROBE_SECONDS:
            self._last = (now, can_write(self._folder))
        return self._last[1]


def days_left(certificate: Path, now: float | None = None) -> float | None:
    """Return how many days a PEM certificate is still valid, negative after its end; None if unreadable."""
    with suppress(OSError, ValueError):
        end = x509.load_pem_x509_certificate(certificate.read_bytes()).not_valid_after_utc
        moment = datetime.now(UTC) if now is None else datetime.fromtimestamp(now, UTC)
        return round((end - moment).total_seconds() / SECONDS_A_DAY, 2)
    return None


def is_behind(wall: float, newest: str) -> bool:
    """Tell whether the clock of the day is behind the time that the newest entry of the log says."""
    return wall + BEHIND_SECONDS < datetime.fromisoformat(newest).astimezone(UTC).timestamp()
