"""Secure sums whose vector a model has to be asked for first: a vote, validation counts.

The model works beside the agent's other work and for one session at a time, and no secret of the session
exists until it is done.
"""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine

from fedmedlora_audit.law import Duty, Session
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_site.step import StepContext
from fedmedlora_site.summed import vector_name


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


class MeasuredSteps(ABC):
    """The first step of such a sum; the rest of it is that of any secure sum.

    Args:
        context: What all steps share.
        sessions: The steps of a secure sum.
    """

    def __init__(self, context: StepContext, sessions: SessionSteps) -> None:
        """Start without a measurement under way."""
        self._context = context
        self._held = context.held
        self._sessions = sessions
        self._measuring = Measuring(context.wake)

    async def advertise(self, duty: Duty) -> bool:
        """Measure first; then make keys."""
        session = self._context.session_of(duty)
        self._need_checked("advertise", session)
        # R4.7.3, R4.15.2: no secret of the session exists while a model works
        if not self._held.vault.holds(vector_name(self._held, session)):
            await self._measuring.ensure(session.sid, lambda: self._measure(session))
            return False
        await self._context.until_slot()
        return await self._sessions.advertise(duty)

    async def drop(self, sid: str | None) -> None:
        """Stop a measurement for another session than this one."""
        await self._measuring.drop(sid)

    @abstractmethod
    def _need_checked(self, step: str, session: Session) -> None:
        """Refuse a session that the charter does not ask for, or an adapter that is not this site's own."""

    @abstractmethod
    async def _measure(self, session: Session) -> None:
        """Ask the model, and keep the vector in the vault: the same for every attempt."""
