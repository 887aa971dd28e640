"""Bytes on the wire: a relay between a site and the coordinator that counts what passes, both ways.

What it counts are TCP payloads: TLS records, HTTP/2 frames and everything in them. It sees nothing of what
they say.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass

__all__ = ["Counter", "Relay"]

_PIECE = 1 << 16


@dataclass
class Counter:
    """Bytes that one site sent and received."""

    up: int = 0
    down: int = 0


class Relay:
    """Relays in a thread of their own, one listening port a site."""

    def __init__(self, host: str, port: int) -> None:
        """Relay to one address."""
        self._target = (host, port)
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()

    def open(self) -> tuple[int, Counter]:
        """Listen on a free port of this machine; returns it with its counter."""
        counter = Counter()

        async def listen() -> int:
            server = await asyncio.start_server(lambda r, w: self._pair(r, w, counter), "127.0.0.1", 0)
            self._servers.append(server)
            return int(server.sockets[0].getsockname()[1])

        return asyncio.run_coroutine_threadsafe(listen(), self._loop).result(), counter

    def close(self) -> None:
        """Stop listening, and end what is still passing."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _end(self) -> None:
        for server in self._servers:
            server.close()
        own = asyncio.current_task()
        passing = [task for task in asyncio.all_tasks() if task is not own]
        for task in passing:
            task.cancel()
        await asyncio.gather(*passing, return_exceptions=True)

    async def _pair(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counter: Counter
    ) -> None:
        try:
            far_reader, far_writer = await asyncio.open_connection(*self._target)
        except OSError:  # the coordinator is not there yet or no more: the site tries again
            writer.close()
            return
        await asyncio.gather(
            _pass(reader, far_writer, counter, up=True), _pass(far_reader, writer, counter, up=False)
        )


async def _pass(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, counter: Counter, *, up: bool
) -> None:
    """Pass bytes on until one end closes."""
    try:
        while data := await reader.read(_PIECE):
            if up:
                counter.up += len(data)
            else:
                counter.down += len(data)
            writer.write(data)
            await writer.drain()
    except OSError:  # the other end is gone
        pass
    finally:
        writer.close()
