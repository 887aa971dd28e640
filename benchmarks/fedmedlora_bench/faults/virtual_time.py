"""An event loop whose clock jumps to the next timer: hours of patience pass in no time, always in one order.

Everything that a simulated process awaits - timers, time-outs, calls, threads - goes through this loop, so
that the order of all that happens follows from the schedule alone. Work given to a thread is done on the
loop, a little later: what others do meanwhile happens in between, as beside a real thread.
"""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any

__all__ = ["StuckError", "VirtualLoop"]

START_SECONDS = 1000.0
THREAD_SECONDS = 0.02
"""How much later the work of a thread is done."""


class StuckError(RuntimeError):
    """Nobody will ever do anything again: there is no timer, no call and no work left."""


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: where the loop would sleep, its clock is moved."""

    loop: VirtualLoop

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return what is ready; with nothing ready, let the time pass."""
        found: list[Any] = super().select(0)
        if found or (timeout is not None and timeout <= 0):
            return found
        if timeout is None:
            raise StuckError("everybody waits for ever")
        self.loop.pass_time(timeout)
        return []


class VirtualLoop(asyncio.SelectorEventLoop):
    """The loop of one simulated federation; its time begins at `START_SECONDS`."""

    def __init__(self) -> None:
        """Start the clock."""
        self._seconds = START_SECONDS
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        """Return the simulated seconds."""
        return self._seconds

    def pass_time(self, seconds: float) -> None:
        """Move the clock."""
        self._seconds += seconds

    def run_in_executor(self, executor: Any, func: Callable[..., Any], *args: Any) -> asyncio.Future[Any]:  # type: ignore[override] # a thread's result, without the thread
        """Do a thread's work on the loop, a little later."""
        done: asyncio.Future[Any] = self.create_future()

        def work() -> None:
            if done.cancelled():
                return
            try:
                result = func(*args)
            except BaseException as error:  # noqa: BLE001 - it is the caller's, whatever it is
                if not done.cancelled():
                    done.set_exception(error)
            else:
                if not done.cancelled():
                    done.set_result(result)

        self.call_later(THREAD_SECONDS, work)
        return done
