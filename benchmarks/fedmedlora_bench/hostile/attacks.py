"""The attacks: what one client can do to a listener from an address of its own.

Each is a crowd of connections that are opened again as soon as they are closed, at a bounded rate and in a
bounded number; an attacker with more machines has more of each. What became of them is counted.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
import ssl
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fedmedlora_bench.hostile import http2, papers
from fedmedlora_protos.v1 import federation_pb2 as pb

__all__ = ["ATTACKS", "TOGETHER", "Target", "attack"]

ADDRESS: Final = "127.0.0.2"
MANY: Final = tuple(f"127.0.1.{number}" for number in range(1, 101))
GIANT_BYTES: Final = 1 << 30
PATIENCE: Final = 30.0  # seconds for one connection before another is tried
CALLS_PER_SECOND: Final = 2000  # four times what a site may

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass
class Target:
    """Whom to attack.

    Attributes:
        port: Of the federation listener, on the loopback.
        papers: Folder of certificates.
        counted: What became of the connections: opened, dropped (ended by the other side), failed.
        planned: Seconds that the attack meant to pause between its moves.
        paused: Seconds that it did pause: more where no processor was left for it.
    """

    port: int
    papers: Path
    counted: Counter[str] = field(default_factory=Counter)
    planned: float = 0.0
    paused: float = 0.0

    async def pause(self, seconds: float) -> None:
        """Wait before the next move, and keep the books of it."""
        began = time.monotonic()
        await asyncio.sleep(seconds)
        self.planned += seconds
        self.paused += time.monotonic() - began if seconds else 0.0

    @property
    def pace(self) -> float:
        """What share of its planned speed the attack had; 1.0 before the first pause."""
        return self.planned / self.paused if self.paused else 1.0

    async def tcp(self, address: str = ADDRESS) -> Streams:
        """Open a connection without TLS."""
        return await self._open(address, None)

    async def tls(self, name: str) -> Streams:
        """Open a connection with a certificate."""
        return await self._open(ADDRESS, papers.context(self.papers, name))

    async def http2(self, name: str) -> Streams:
        """Open a connection, and agree on HTTP/2: of one who does not, gRPC hears eight calls and no more."""
        reader, writer = streams = await self.tls(name)
        writer.write(http2.PREFACE)
        head = await reader.readexactly(http2.HEAD_BYTES)
        await reader.readexactly(int.from_bytes(head[:3], "big"))
        writer.write(http2.frame(http2.SETTINGS, http2.ACK, 0))
        return streams

    async def _open(self, address: str, tls: ssl.SSLContext | None) -> Streams:
        self.counted["tried"] += 1
        streams = await asyncio.open_connection(
            "127.0.0.1",
            self.port,
            ssl=tls,
            local_addr=(address, 0),
            server_hostname=None if tls is None else "coordinator",
        )
        self.counted["opened"] += 1
        return streams


@dataclass(frozen=True)
class _Crowd:
    """Connections that are kept open, and how fast they are opened."""

    connections: int
    new_per_second: float


async def _keep(target: Target, crowd: _Crowd, one: Callable[[int], Awaitable[None]]) -> None:
    """Keep a crowd busy until cancelled."""
    numbers = itertools.count()
    begun = time.monotonic()

    async def member() -> None:
        while True:
            number = next(numbers)
            await target.pause(max(0.0, begun + number / crowd.new_per_second - time.monotonic()))
            try:
                async with asyncio.timeout(PATIENCE):
                    await one(number)
                target.counted["dropped"] += 1
            except TimeoutError:
                target.counted["left"] += 1
            except (OSError, EOFError):
                target.counted["failed"] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(crowd.connections):
            group.create_task(member())


async def _until_dropped(streams: Streams) -> None:
    """Read and forget what the other side says until it ends the connection."""
    reader, writer = streams
    try:
        while await reader.read(65_536):
            pass
    finally:
        writer.transport.abort()


async def _dribble(target: Target, streams: Streams, data: bytes) -> None:
    """Send a byte a second."""
    _, writer = streams
    for at in itertools.count():
        writer.write(data[at % len(data) : at % len(data) + 1])
        await writer.drain()
        await target.pause(1)


async def _both(streams: Streams, act: Awaitable[None]) -> None:
    """Act until the other side ends the connection."""
    acting = asyncio.ensure_future(act)
    try:
        await _until_dropped(streams)
    finally:
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)


async def slow_tls(target: Target) -> None:
    """Begin a TLS handshake, and send one byte of it a second."""
    hello = _client_hello()

    async def one(_: int) -> None:
        streams = await target.tcp()
        streams[1].write(hello[:16])
        await _both(streams, _dribble(target, streams, hello[16:]))

    await _keep(target, _Crowd(200, 50), one)


async def slow_http2(target: Target) -> None:
    """Send the headers of a call one byte a second, in frames that never say that they are the last."""

    async def dribble(streams: Streams) -> None:
        writer = streams[1]
        writer.write(http2.PREFACE + http2.frame(http2.HEADERS, 0, 1, http2.headers("Submit")[:40]))
        for byte in itertools.cycle(http2.headers("Submit")[40:]):
            writer.write(http2.frame(http2.CONTINUATION, 0, 1, bytes([byte])))
            await writer.drain()
            await target.pause(1)

    async def one(_: int) -> None:
        streams = await target.tls("enrolled")
        await _both(streams, dribble(streams))

    await _keep(target, _Crowd(50, 20), one)


async def garbage(target: Target) -> None:
    """Send random bytes instead of TLS, and, within TLS, random frames."""
    chance = random.Random(1)  # noqa: S311 - noise, and the same in every run

    async def one(number: int) -> None:
        if number % 2:
            streams = await target.tcp()
            streams[1].write(chance.randbytes(4096))
        else:
            streams = await target.tls("enrolled")
            kinds = (chance.randrange(12) for _ in range(200))
            frames = [http2.frame(k, chance.randrange(256), chance.randrange(9), b"?" * 8) for k in kinds]
            streams[1].write(http2.PREFACE + b"".join(frames))
        await _until_dropped(streams)

    await _keep(target, _Crowd(50, 100), one)


async def giant(target: Target) -> None:
    """Announce messages of 1 GiB and begin to send them."""

    async def send(streams: Streams) -> None:
        writer = streams[1]
        for number in itertools.count():
            stream = 2 * number + 1
            writer.write(http2.giant_call("Submit", GIANT_BYTES, 32_768, stream))
            await writer.drain()
            target.counted["calls"] += 1
            await target.pause(0.05)

    async def one(_: int) -> None:
        streams = await target.http2("enrolled")
        await _both(streams, send(streams))

    await _keep(target, _Crowd(8, 20), one)


async def idle(target: Target) -> None:
    """Hold a thousand connections from a hundred addresses and say nothing."""

    async def one(number: int) -> None:
        await _until_dropped(await target.tcp(MANY[number % len(MANY)]))

    await _keep(target, _Crowd(1000, 400), one)


async def certificates(target: Target) -> None:
    """Shake hands without a certificate, with a foreign one, one that poses as ours, and one that is over."""

    async def one(number: int) -> None:
        await _until_dropped(await target.tls(papers.FALSE[number % len(papers.FALSE)]))

    await _keep(target, _Crowd(32, 100), one)


async def flood(target: Target, name: str = "enrolled") -> None:
    """Call as fast as it goes with the certificate of a site of this federation that is in no study."""
    message = pb.GetChunkRequest(digest="0" * 64).SerializeToString()
    connections, batch = 8, 8  # no more at once than the listener has streams for: others it drops unheard
    pause = batch * connections / CALLS_PER_SECOND

    async def send(streams: Streams) -> None:
        writer = streams[1]
        for first in itertools.count(0, batch):
            calls = (http2.call("GetChunk", message, 2 * (first + i) + 1) for i in range(batch))
            writer.write(b"".join(calls))
            await writer.drain()
            target.counted["calls"] += batch
            await target.pause(pause)

    async def one(_: int) -> None:
        streams = await target.http2(name)
        await _both(streams, send(streams))

    await _keep(target, _Crowd(connections, 20), one)


async def flood_member(target: Target) -> None:
    """The same with the certificate of a member, whose own agent takes part meanwhile."""
    await flood(target, "member")


Attack = Callable[[Target], Awaitable[None]]
TOGETHER: Final = "together"
SINGLE: Final[dict[str, Attack]] = {
    "slow_tls": slow_tls,
    "slow_http2": slow_http2,
    "garbage": garbage,
    "giant": giant,
    "idle": idle,
    "certificates": certificates,
    "flood": flood,
    "flood_member": flood_member,
}
ATTACKS: Final = (*SINGLE, TOGETHER)


async def attack(name: str, target: Target) -> None:
    """Carry out one attack, or all but the member's at once, until cancelled."""
    names = [one for one in SINGLE if one != "flood_member"] if name == TOGETHER else [name]
    await asyncio.gather(*(SINGLE[one](target) for one in names))


def _client_hello() -> bytes:
    """The first message of a TLS handshake, as OpenSSL makes it."""
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="coordinator")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
