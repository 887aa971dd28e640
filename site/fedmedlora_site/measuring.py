"""Work of a model that a session waits for, beside the agent's other work and for one session at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine


class Measuring:
    """At most one measurement under way, and the session that it is for.

    Args:
        wake: Called when it is over, whatever came of it.
    """

    def __init__(self, wake: Callable[[], None]) -> None:
        """Start without one."""
        self._wake = wake
        self._task: asyncio.Task[None] | None = None
        self._sid = ""

    async def ensure(self, sid: str, measure: Callable[[], Coroutine[None, None, None]]) -> None:
        """Start a session's measurement unless it is under way; raise what went wrong in one that is over."""
        await self.drop(sid)
        if self._task is not None and self._task.done():
            task, self._task = self._task, None
            task.result()
        if self._task is None:
            self._sid = sid
            self._task = asyncio.create_task(measure())
            self._task.add_done_callback(lambda _: self._wake())

    async def drop(self, sid: str | None) -> None:
        """Stop a measurement for another session than this one."""
        if self._task is not None and self._sid != sid:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
