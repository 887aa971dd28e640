"""A bad line for tests: a TCP relay on the loopback that cuts, throttles, delays, or falls silent."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

PIECE = 16 * 1024


@dataclass
class Relay:
    """One line to a port of the loopback.

    Attributes:
        port: Where it leads.
        cuts: Connection number k is cut once so many bytes have gone up or down it; later ones are not.
        per_second: Bytes a second in each direction; 0 is no limit.
        delay: Seconds that each piece is late.
    """

    port: int
    cuts: list[int] = field(default_factory=list)
    per_second: int = 0
    delay: float = 0.0
    address: str = ""
    up: int = 0
    down: int = 0
    connections: int = 0

    def __post_init__(self) -> None:
        self._silent = asyncio.Event()
        self._tasks: set[asyncio.Task[Any]] = set()

    async def open(self) -> None:
        """Listen."""
        self._server = await asyncio.start_server(self._carry, "127.0.0.1", 0, limit=2 * PIECE)
        self.address = f"127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def close(self) -> None:
        """Stop listening and drop every connection."""
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def fall_silent(self) -> None:
        """From now on nothing passes and nobody is told: what a half-open connection looks like."""
        self._silent.set()

    async def _carry(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        limit = self.cuts[self.connections] if self.connections < len(self.cuts) else None
        self.connections += 1
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.port, limit=2 * PIECE)
        budget = [limit]
        both = [
            asyncio.create_task(self._pass(reader, far_writer, budget, up=True)),
            asyncio.create_task(self._pass(far_reader, writer, budget, up=False)),
        ]
        try:
            await asyncio.wait(both, return_when=asyncio.FIRST_COMPLETED)
            if self._silent.is_set():
                await asyncio.Event().wait()
        except asyncio.CancelledError:
            return  # the relay is closed; asyncio would complain of a cancelled connection
        finally:
            for task in both:
                task.cancel()
            await asyncio.gather(*both, return_exceptions=True)
            for end in (writer, far_writer):
                end.transport.abort()

    async def _pass(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        budget: list[int | None],
        *,
        up: bool,
    ) -> None:
        while data := await reader.read(PIECE):
            if self._silent.is_set():
                return
            if self.delay:
                await asyncio.sleep(self.delay)
            if self.per_second:
                await asyncio.sleep(len(data) / self.per_second)
            self.up += len(data) if up else 0
            self.down += 0 if up else len(data)
            writer.write(data)
            await writer.drain()
            if budget[0] is not None:
                budget[0] -= len(data)
                if budget[0] <= 0:
                    return


@contextmanager
def relayed(port: int, **options: Any) -> Iterator[Relay]:
    """A relay in a thread of its own, for tests that have no loop."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    relay = Relay(port, **options)
    asyncio.run_coroutine_threadsafe(relay.open(), loop).result(10)
    try:
        yield relay
    finally:
        asyncio.run_coroutine_threadsafe(relay.close(), loop).result(10)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(10)
        loop.close()
