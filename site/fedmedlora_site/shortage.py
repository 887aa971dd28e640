"""What a site does when its trainer gets too little memory: see it, say what helps, wait, and try again.

Lack of memory passes: a neighbour ends, or the operator lowers a setting and starts the agent again. So a
training that lacked it is not refused at once. It goes on from its last kept state, and a private one under
its charge, until it has come no further for as long as the site is patient.
"""

from __future__ import annotations

import errno
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from fedmedlora_core.study import Study
from fedmedlora_site.config import TrainerSection
from fedmedlora_site.crew import SHORT_EXIT
from fedmedlora_site.errors import MemoryShortage, TrainingError

OUT_OF_MEMORY: Final = "out_of_memory"
"""Reason on the line between trainer and agent; in the log it is `training_failed`."""

_VMSTAT: Final = Path("/proc/vmstat")
_PHRASES: Final = ("out of memory", "can't allocate memory", "cannot allocate memory", "bad_alloc")


def kernel_kills(vmstat: Path = _VMSTAT) -> int | None:
    """Count the processes that the kernel has ended for lack of memory; None where it does not say."""
    try:
        rows = dict(line.split() for line in vmstat.read_text().splitlines())
        return int(rows["oom_kill"])
    except (OSError, ValueError, KeyError):
        return None


def is_shortage(error: BaseException) -> bool:
    """Tell whether an error of the trainer's libraries is lack of memory, whoever of them noticed it."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":  # torch has one by it
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    text = str(error).lower()
    return isinstance(error, RuntimeError | ImportError) and any(phrase in text for phrase in _PHRASES)


def death(code: int | None, kills_before: int | None, log: Path) -> TrainingError:
    """Say what a trainer died of.

    Args:
        code: Its exit code; that of a signal is negative.
        kills_before: `kernel_kills` when it was started.
        log: What it said.
    """
    if code in (-signal.SIGKILL, SHORT_EXIT):
        kills = kernel_kills()
        if kills is not None and kills_before is not None and kills > kills_before:
            return MemoryShortage("the trainer died: the kernel ended it for lack of memory")
        return MemoryShortage("the trainer died of SIGKILL: by hand, or by a guard of the machine's memory")
    how = f" of {signal.Signals(-code).name}" if code is not None and code < 0 else ""
    return TrainingError("training_failed", f"the trainer died{how}; see {log}")


def remedy(study: Study, trainer: TrainerSection) -> str:
    """Say which settings of this site need less memory, by what is set now."""
    together = min(study.training.batch_size, trainer.micro_batch or study.training.batch_size)
    found = []
    if not (trainer.gradient_checkpointing or study.training.gradient_checkpointing):
        found.append("trainer.gradient_checkpointing = true")
    if together > 1:
        note = ", which is charged as another training" if study.privacy is not None else ""
        found.append(f"trainer.micro_batch = {together // 2} (now {together}{note})")
    if not found:
        return "free memory: this site's settings need no less"
    return f"free memory, or set {' or '.join(found)} in site.toml and start `site run` again"


class Patience:
    """How long a training that lacks memory is tried again.

    Args:
        pause: Seconds before each try.
        limit: Seconds without a step further after which it is given up.
        clock: Seconds that only grow.
    """

    def __init__(self, pause: float, limit: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with nothing that lacked."""
        self._pause = pause
        self._limit = limit
        self._clock = clock
        self._since: float | None = None
        self._furthest = self._reached = -1

    def got_to(self, percent: int) -> None:
        """The training is so far."""
        self._reached = max(self._reached, percent)

    def pause(self) -> float | None:
        """Memory lacked: how long to wait before the next try; None to give up."""
        now = self._clock()
        if self._since is None or self._reached > self._furthest:
            self._since, self._furthest = now, self._reached
        return self._pause if now + self._pause - self._since <= self._limit else None
