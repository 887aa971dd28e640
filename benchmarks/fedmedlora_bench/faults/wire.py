"""The network between one site and the coordinator: the real client above, the real service below.

Between them stands what gRPC would be: messages as bytes, deadlines, statuses, a stream. Nothing is decided
here. A message that meets a cut waits for its end, as TCP sends it again, until keepalive gives the
connection up; an answer can be lost when its request has long been served.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

import fedmedlora_protos  # noqa: F401 - leaves gRPC without TLS 1.2 suites; must come before grpc

# isort: split
import grpc
import grpc.aio

from fedmedlora_bench.faults.hosts import LIFE, Host, Killed, Life, need_alive
from fedmedlora_protos import wire
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_protos.versions import Metadata, ours
from fedmedlora_site.client import FederationClient
from fedmedlora_site.config import NetworkSection
from fedmedlora_site.downloads import DownloadFolder

if TYPE_CHECKING:
    from fedmedlora_bench.faults.centre import Centre

__all__ = ["Link", "SimulatedClient"]

LATENCY_SECONDS = 0.01
KEEPALIVE_SECONDS = sum(value for key, value in wire.CHANNEL_OPTIONS if "keepalive_time" in key) / 1000


class _Abort(Exception):  # noqa: N818 - the way a servicer ends a call
    def __init__(self, code: grpc.StatusCode, details: str, metadata: Any) -> None:
        super().__init__(details)
        self.code, self.details, self.metadata = code, details, metadata


class _Context:
    """What the service sees of a call: who its certificate says is calling."""

    def __init__(self, certificate: bytes) -> None:
        self._certificate = certificate
        self._when_over: list[Callable[[object], None]] = []

    def add_done_callback(self, callback: Callable[[object], None]) -> None:
        self._when_over.append(callback)

    def over(self, call: object) -> None:
        """The call has ended."""
        for callback in self._when_over:
            callback(call)

    def auth_context(self) -> dict[str, list[bytes]]:
        return {"x509_pem_cert": [self._certificate]}

    def peer(self) -> str:
        return "ipv4:127.0.0.1:1"

    async def abort(self, code: grpc.StatusCode, details: str = "", metadata: Any = ()) -> NoReturn:
        raise _Abort(code, details, metadata)


class Link:
    """One site's connection; the schedule cuts, slows and doubles it.

    Args:
        site: The site's host.
        centre: The coordinator.
        certificate: What the site shows.
        dice: Draws the delays.
        called: Called before each message of the site.
    """

    def __init__(
        self,
        site: Host,
        centre: Centre,
        certificate: bytes,
        dice: random.Random,
        called: Callable[[Link], None],
    ) -> None:
        """Lay the line."""
        self.site = site
        self.messages = 0
        self.cut_until = 0.0
        self.slow_until = 0.0
        self.slowness = 0.0
        self.doubled: float | None = None  # the next message comes again so much later
        self._centre = centre
        self._certificate = certificate
        self._dice = dice
        self._called = called
        self._streams: set[_Stream] = set()

    def cut(self, seconds: float) -> None:
        """Let nothing pass for some time; long enough, and both ends notice."""
        loop = asyncio.get_running_loop()
        self.cut_until = max(self.cut_until, loop.time() + seconds)
        if seconds > KEEPALIVE_SECONDS:
            loop.call_later(KEEPALIVE_SECONDS, self.break_streams)

    def break_streams(self, of: Life | None = None) -> None:
        """End every stream at both ends, or those of one of the site's processes."""
        for stream in list(self._streams):
            if of is None or stream.life is of:
                stream.end()

    async def call(self, method: str, request: Any, timeout: float) -> Any:
        """Make one call.

        Raises:
            grpc.aio.AioRpcError: As gRPC would.
        """
        need_alive()
        self.messages += 1
        self._called(self)
        need_alive()
        try:
            async with asyncio.timeout(timeout):
                return await self._exchange(method, request)
        except TimeoutError:
            raise _failed(grpc.StatusCode.DEADLINE_EXCEEDED, "Deadline Exceeded") from None

    def stream(self, request: pb.WatchRequest, metadata: Metadata) -> _Stream:
        """Open a stream of the log; the gate of versions is not simulated, so nobody reads the metadata."""
        del metadata
        need_alive()
        self.messages += 1
        self._called(self)
        need_alive()
        stream = _Stream(self, request)
        self._streams.add(stream)
        return stream

    def forget(self, stream: _Stream) -> None:
        """Note that a stream is over."""
        self._streams.discard(stream)

    async def _exchange(self, method: str, request: Any) -> Any:
        await self.travel()
        sent, doubled = request.SerializeToString(), self.doubled
        if doubled is not None:
            self.doubled = None
            asyncio.get_running_loop().create_task(self._again(method, request, doubled))
        answer = await self._serve(method, type(request).FromString(sent))
        await self.travel()
        return type(answer).FromString(answer.SerializeToString())

    async def _serve(self, method: str, request: Any) -> Any:
        """Let the coordinator's process answer; it may die of it."""
        service = self._service()
        try:
            context = _Context(self._certificate)
            task = self._centre.host.spawn(getattr(service, method)(request, context))
        except Killed:
            raise _gone() from None
        task.add_done_callback(context.over)
        await asyncio.wait({task})
        return _result(task)

    async def _again(self, method: str, request: Any, seconds: float) -> None:
        """Deliver a message a second time; nobody waits for the answer."""
        await asyncio.sleep(seconds)
        with suppress(grpc.aio.AioRpcError):
            await self._serve(method, request)

    def _service(self) -> Any:
        if self._centre.service is None or not self._centre.host.is_up:
            raise _gone()
        return self._centre.service

    async def travel(self) -> None:
        """Take a message's time to the other end.

        Raises:
            grpc.aio.AioRpcError: The connection was given up meanwhile.
        """
        loop = asyncio.get_running_loop()
        slow = self.slowness * self._dice.random() if loop.time() < self.slow_until else 0.0
        await asyncio.sleep(LATENCY_SECONDS * (1 + self._dice.random()) + slow)
        since = loop.time()
        while (now := loop.time()) < self.cut_until:
            left = since + KEEPALIVE_SECONDS - now
            if left <= 0:
                raise _gone()
            await asyncio.sleep(min(left, self.cut_until - now) + 1e-6)

    async def watch(self, request: pb.WatchRequest) -> AsyncIterator[Any]:
        """The coordinator's end of a stream; runs in its process."""
        async for reply in self._service().Watch(request, _Context(self._certificate)):
            await self.travel()
            yield type(reply).FromString(reply.SerializeToString())

    def host(self) -> Host:
        """The coordinator's machine."""
        return self._centre.host


class _Stream:
    """A Watch call at the site's end."""

    def __init__(self, link: Link, request: pb.WatchRequest) -> None:
        self.life = LIFE.get()
        self._link = link
        self._arrived: asyncio.Queue[Any] = asyncio.Queue()
        self._served: asyncio.Task[Any] | None = None
        self._opening = asyncio.get_running_loop().create_task(self._open(request))

    async def _open(self, request: pb.WatchRequest) -> None:
        """Reach the coordinator and have its process serve; runs outside of both processes."""
        try:
            await self._link.travel()
            self._served = self._link.host().spawn(self._serve(request))
            await asyncio.wait({self._served})
            _result(self._served)
            failure = _gone()
        except grpc.aio.AioRpcError as error:
            failure = error
        except Killed:
            failure = _gone()
        self._link.forget(self)
        self._arrived.put_nowait(failure)

    async def _serve(self, request: pb.WatchRequest) -> None:
        replies = self._link.watch(request)
        try:
            async for reply in replies:
                self._arrived.put_nowait(reply)
        finally:
            await replies.aclose()  # type: ignore[attr-defined] # an async generator

    def end(self) -> None:
        """The connection is over: the coordinator's end of it, too."""
        if self._served is not None:
            self._served.cancel()
        elif not self._opening.done():
            self._opening.cancel()
            self._arrived.put_nowait(_gone())
            self._link.forget(self)

    async def initial_metadata(self) -> Metadata:
        """What heads the answer: nothing."""
        return ()

    def cancel(self) -> None:
        """The site lets go; a dead one says nothing any more."""
        life = LIFE.get()
        if life is None or life.alive:
            self.end()

    async def __aiter__(self) -> AsyncIterator[Any]:
        while True:
            found = await self._arrived.get()
            if isinstance(found, grpc.aio.AioRpcError):
                raise found
            yield found


class _Stub:
    """The calls of the federation over a link, as the client makes them."""

    def __init__(self, link: Link) -> None:
        self._link = link

    def __getattr__(self, method: str) -> Any:
        async def call(request: Any, timeout: float, metadata: Metadata) -> Any:
            del metadata
            return await self._link.call(method, request, timeout)

        return self._link.stream if method == "Watch" else call


class SimulatedClient(FederationClient):
    """The site's own client over a simulated link instead of a channel."""

    def __init__(self, link: Link, network: NetworkSection, downloads: DownloadFolder) -> None:
        """Take the line; no channel is made."""
        self._downloads = downloads
        self._address = "coordinator"
        self._network = network
        self._speaks = ours()
        self._stub = _Stub(link)

    async def close(self) -> None:
        """There is no channel to close."""


def _result(task: asyncio.Task[Any]) -> Any:
    """Turn what became of a served call into what its caller sees."""
    if task.cancelled():
        raise _gone()
    error = task.exception()
    if error is None:
        return task.result()
    if isinstance(error, _Abort):
        raise _failed(error.code, error.details, error.metadata)
    if isinstance(error, Killed | grpc.aio.AioRpcError):
        raise _gone()
    raise _failed(grpc.StatusCode.UNKNOWN, f"Unexpected {type(error)}")


def _failed(code: grpc.StatusCode, details: str, metadata: Any = ()) -> grpc.aio.AioRpcError:
    trailing = grpc.aio.Metadata(*metadata)
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details)


def _gone() -> grpc.aio.AioRpcError:
    return _failed(grpc.StatusCode.UNAVAILABLE, "failed to connect to all addresses")
