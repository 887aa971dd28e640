"""The door of a listener: who may connect, how often, and how fast, before any cryptography is spent.

gRPC limits what happens inside one connection; it cannot tell one address from another, and its limit of all
connections would let one attacker lock everybody out. So the door takes the connections: it counts them by
address, lets those in that are within their limits, and carries their bytes to gRPC, which listens on the
loopback alone. gRPC hears of a caller when its first TLS record is whole (`hello`): who is silent, slow or
speaks something else is the door's alone. It reads nothing of what it carries: TLS ends at gRPC.

The door works in a thread of its own, so that a coordinator that waits for its disk still answers pings.
About `BUFFER_BYTES` wait in each direction: who does not read is not read from.
"""

import asyncio
import logging
import resource
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Final

from fedmedlora_coordinator import metrics
from fedmedlora_coordinator.allowance import Allowances
from fedmedlora_coordinator.hello import Heard, Hello
from fedmedlora_coordinator.refusal_log import RefusalLog
from fedmedlora_core.errors import ConfigError

_LOG = logging.getLogger(__name__)
BUFFER_BYTES: Final = 64 * 1024
BACKLOG: Final = 512
RESERVE: Final = 64  # connections kept for addresses that have none
BURST: Final = 8  # seconds' worth of new connections at once
SLOW_SECONDS: Final = 10.0  # after a penalty, during which a connection is read slowly
SLOW_BYTES_PER_SECOND: Final = 16_384
UNSENT_SECONDS: Final = 40  # what the other end does not acknowledge for so long ends the connection
FILES_ASIDE: Final = 256  # open files that are no connections
WANTED_FILES: Final = 16_384


@dataclass(frozen=True)
class DoorLimits:
    """What the door of one listener lets in.

    Attributes:
        connections: Of all addresses together.
        per_address: Of one address.
        new_per_second: New ones of one address; `BURST` seconds' worth at once.
        hello_seconds: Until the first record of TLS is whole.
        shared: Addresses that many sites come from: no limit per address.
        seconds: How long a connection may stay; None without end.
    """

    connections: int
    per_address: int
    new_per_second: float
    hello_seconds: float
    shared: Collection[str] = ()
    seconds: float | None = None


class Connection:
    """One connection that was let in; known to gRPC by the loopback port on its inner side."""

    def __init__(self, address: str) -> None:
        """Start without an inner side and without a known site."""
        self.address = address
        self.site: str | None = None
        self.outer: asyncio.Transport | None = None
        self.inner: asyncio.Transport | None = None
        self.port = 0
        self.hello: Hello | None = Hello()  # None once gRPC hears what the caller says
        self.patience: asyncio.TimerHandle | None = None  # for the first record
        self.slow_until = 0.0  # by the clock of the door's loop
        self._held: set[str] = set()  # why nothing is read from outside

    def hold(self, why: str) -> None:
        """Stop reading from outside."""
        self._held.add(why)
        if self.outer is not None and not self.outer.is_closing():
            self.outer.pause_reading()

    def let_go(self, why: str) -> None:
        """Read again, once nothing holds it any more."""
        self._held.discard(why)
        if not self._held and self.outer is not None and not self.outer.is_closing():
            self.outer.resume_reading()

    def abort(self) -> None:
        """End a connection that nothing was said on."""
        if self.outer is not None:
            self.outer.abort()

    def end(self) -> None:
        """Close both sides; what was written is still sent."""
        for side in (self.outer, self.inner):
            if side is not None:
                side.close()


class _Side(asyncio.BufferedProtocol):
    """One side of a connection: hands its bytes to the other, and its congestion too."""

    def __init__(
        self, connection: Connection, room: memoryview, *, outer: bool, lost: Callable[[Connection], None]
    ) -> None:
        """Take the connection, and the room that all sides of one loop read into in turn."""
        self._connection = connection
        self._room = room
        self._outer = outer
        self._lost = lost

    @property
    def _other(self) -> asyncio.Transport | None:
        return self._connection.inner if self._outer else self._connection.outer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise TypeError("the door carries streams")
        transport.set_write_buffer_limits(high=BUFFER_BYTES)
        if self._outer:
            self._connection.outer = transport
        else:
            self._connection.inner = transport

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._room

    def buffer_updated(self, nbytes: int) -> None:
        self._received(bytes(self._room[:nbytes]))

    def _received(self, data: bytes) -> None:
        other = self._other
        if other is None:  # bytes are never lost in silence
            self._connection.end()
        else:
            other.write(data)

    def pause_writing(self) -> None:
        if self._outer and self._connection.inner is not None:
            self._connection.inner.pause_reading()
        elif not self._outer:
            self._connection.hold("congestion")

    def resume_writing(self) -> None:
        if self._outer and self._connection.inner is not None:
            self._connection.inner.resume_reading()
        elif not self._outer:
            self._connection.let_go("congestion")

    def connection_lost(self, exc: Exception | None) -> None:
        self._connection.end()
        self._lost(self._connection)


@dataclass
class Door:
    """The public side of one listener.

    Attributes:
        event: What a refusal is in the operator's log: call_refused or enrolment_refused.
        limits: Whom it lets in.
    """

    event: str
    limits: DoorLimits
    _open: set[Connection] = field(default_factory=set)
    _by_port: dict[int, Connection] = field(default_factory=dict)
    _by_address: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """Make the loop of the thread; nothing listens yet."""
        self._new = Allowances(self.limits.new_per_second, BURST * self.limits.new_per_second)
        self._refusals = RefusalLog(_LOG, self.event)
        self._room = memoryview(bytearray(BUFFER_BYTES))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="door", daemon=True)
        self._sockets: list[asyncio.Server] = []
        self._dialling: set[asyncio.Task[None]] = set()  # asyncio keeps only weak references
        self._inner_port = 0
        self._most = min(self.limits.connections, room_for_connections())

    def start(self, address: tuple[str, int], inner_port: int) -> int:
        """Listen in public, and carry what comes to a port of the loopback.

        Returns:
            The public port.

        Raises:
            ConfigError: The address is in use or not ours (the operator's).
        """
        listening = _listening(*address)
        self._inner_port = inner_port
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._listen(listening), self._loop).result()
        return int(listening.getsockname()[1])

    def close(self) -> None:
        """Close the listener and every connection, and end the thread."""
        if not self._thread.is_alive():
            self._loop.close()
            return
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def connection(self, peer: str) -> Connection | None:
        """Return the connection that gRPC calls `ipv4:127.0.0.1:PORT`, if it came through this door."""
        port = peer.rpartition(":")[2]
        return self._by_port.get(int(port)) if port.isdecimal() else None

    def connections_of(self, site: str) -> int:
        """Count the open connections on which a site has called."""
        return sum(1 for connection in list(self._open) if connection.site == site)

    def slow(self, connection: Connection, seconds: float) -> None:
        """Read nothing more from a connection for a while, and then little; the others do not notice."""

        def hold() -> None:
            connection.slow_until = self._loop.time() + seconds + SLOW_SECONDS
            connection.hold("penalty")
            self._loop.call_later(seconds, connection.let_go, "penalty")

        self._loop.call_soon_threadsafe(hold)

    async def _listen(self, listening: socket.socket) -> None:
        server = await self._loop.create_server(self._accept, sock=listening, backlog=BACKLOG)
        self._sockets.append(server)

    async def _end(self) -> None:
        for server in self._sockets:
            server.close()
        for connection in list(self._open):
            connection.end()
        await asyncio.sleep(0)

    def _accept(self) -> asyncio.BufferedProtocol:
        return _Caller(self._room, self._take, self._greeted, self._leave)

    def _take(self, address: str, now: float) -> Connection | None:
        """Let a caller in, or say which limit it is over."""
        limit = self._over(address, now)
        if limit is not None:
            rate = limit == "new_connections_per_second"
            self._refuse(address, limit, "rate" if rate else "connections")
            return None
        connection = Connection(address)
        self._open.add(connection)
        self._by_address[address] += 1
        connection.patience = self._loop.call_later(self.limits.hello_seconds, self._end_silent, connection)
        if self.limits.seconds is not None:
            self._loop.call_later(self.limits.seconds, connection.end)
        return connection

    def _greeted(self, connection: Connection, heard: Heard) -> None:
        """Let gRPC hear a caller that has begun TLS; one that speaks something else is gone."""
        if heard is Heard.SOMETHING_ELSE:
            self._refuse(connection.address, "not_tls", "not_tls")
            connection.abort()
            return
        connection.hold("dialling")
        if connection.patience is not None:
            connection.patience.cancel()
        task = self._loop.create_task(self._dial(connection))
        self._dialling.add(task)
        task.add_done_callback(self._dialling.discard)

    def _end_silent(self, connection: Connection) -> None:
        self._refuse(connection.address, "handshake_seconds", "slow")
        connection.abort()

    def _refuse(self, address: str, limit: str, counted: metrics.Limit) -> None:
        self._refusals.note(address, limit, time.monotonic())
        metrics.limited(counted)

    def _over(self, address: str, now: float) -> str | None:
        there = self._by_address[address]
        shared = address in self.limits.shared
        if not shared and there >= self.limits.per_address:
            return "connections_per_address"
        if not shared and self._new.take(address, now) is not None:
            return "new_connections_per_second"
        most = self._most if there == 0 else self._most - min(RESERVE, self._most // 4)
        return "connections" if len(self._open) >= most else None

    async def _dial(self, connection: Connection) -> None:
        """Connect the inner side, and hand over what was heard; until then nothing more is read."""
        try:
            inner, _ = await self._loop.create_connection(
                lambda: _Side(connection, self._room, outer=False, lost=self._leave),
                "127.0.0.1",
                self._inner_port,
            )
        except OSError:
            connection.end()
            return
        connection.port = int(inner.get_extra_info("sockname")[1])
        if connection not in self._open:  # the caller has left meanwhile
            inner.close()
            return
        self._by_port[connection.port] = connection
        if connection.hello is not None:
            inner.write(connection.hello.whole())
            connection.hello = None
        connection.let_go("dialling")

    def _leave(self, connection: Connection) -> None:
        if connection not in self._open:
            return
        self._open.discard(connection)
        if connection.patience is not None:
            connection.patience.cancel()
        self._by_port.pop(connection.port, None)
        self._by_address[connection.address] -= 1
        if self._by_address[connection.address] <= 0:
            del self._by_address[connection.address]


class _Caller(_Side):
    """The outer side of whoever connects: let in or closed at once."""

    def __init__(
        self,
        room: memoryview,
        take: Callable[[str, float], Connection | None],
        greeted: Callable[[Connection, Heard], None],
        lost: Callable[[Connection], None],
    ) -> None:
        super().__init__(Connection(""), room, outer=True, lost=lost)
        self._take = take
        self._greeted = greeted

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        address = transport.get_extra_info("peername")
        taken = None if address is None else self._take(plain_address(address[0]), time.monotonic())
        if taken is None or not isinstance(transport, asyncio.Transport):
            transport.close()
            return
        self._connection = taken
        peer = transport.get_extra_info("socket")
        peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, UNSENT_SECONDS * 1000)
        super().connection_made(transport)

    def _received(self, data: bytes) -> None:
        hello = self._connection.hello
        if hello is None:
            super()._received(data)
            self._slow_down(len(data))
            return
        heard = hello.take(data)
        if heard is not Heard.BEGINNING:
            self._greeted(self._connection, heard)

    def _slow_down(self, count: int) -> None:
        """After a penalty, read no faster than the slowest line that is taken for one."""
        loop, connection = asyncio.get_running_loop(), self._connection
        if loop.time() < connection.slow_until:
            connection.hold("slow")
            loop.call_later(count / SLOW_BYTES_PER_SECOND, connection.let_go, "slow")


def plain_address(address: str) -> str:
    """Write an IPv4 address that came over an IPv6 socket as IPv4."""
    return address.removeprefix("::ffff:") if "." in address else address


def room_for_connections() -> int:
    """Raise this process's limit of open files as far as it may, and return the connections it allows.

    Each connection takes three: outside, inside, and gRPC's end of the inside.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = WANTED_FILES if hard == resource.RLIM_INFINITY else min(WANTED_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
        soft = wanted
    files = WANTED_FILES if soft == resource.RLIM_INFINITY else soft
    # Both listeners share the limit.
    return max(16, (files - FILES_ASIDE) // 6)


def _listening(host: str, port: int) -> socket.socket:
    """Bind a listening socket; `::` takes IPv4 as well, as gRPC does."""
    try:
        family, _, _, _, where = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        both = family == socket.AF_INET6 and host == "::" and socket.has_dualstack_ipv6()
        return socket.create_server(where[:2], family=family, backlog=BACKLOG, dualstack_ipv6=both)
    except (OSError, OverflowError):
        raise ConfigError(f"{host}:{port}: cannot listen there; is the port in use?") from None
