"""The federation's calls: read the message, ask the ledger or the blobs, answer (PROTOCOL §3).

Nothing is decided here. The caller is who its certificate says; a certificate of the federation that the
charter does not name gets nothing at all.
"""

import errno
import logging
from collections.abc import AsyncIterator, Callable
from typing import NoReturn

from fedmedlora_protos import wire

# isort: split
import grpc

from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.callers import Callers
from fedmedlora_coordinator.errors import CoordinatorError, PeerRefusedError, StoreError, disk_error
from fedmedlora_coordinator.ledger import Ledger
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.presence import Presence
from fedmedlora_coordinator.progress import Progress
from fedmedlora_coordinator.status import refuse
from fedmedlora_coordinator.transfers import Transfers
from fedmedlora_coordinator.transport import peer_certificate
from fedmedlora_coordinator.witnesses import Witnesses
from fedmedlora_protos.operating.logbook import place_of, tell
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_protos.v1 import federation_pb2_grpc as pb_grpc
from fedmedlora_protos.wire import Reason

_LOG = logging.getLogger(__name__)
MAX_STREAMS_PER_SITE = 4
_SERVICE = pb.DESCRIPTOR.services_by_name["Federation"].full_name
_DISK_ERRORS = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO})


class FederationService(pb_grpc.FederationServicer):
    """The calls of the federation listener."""

    def __init__(
        self,
        *,
        callers: Callers,
        ledger: Ledger,
        blobs: BlobStore,
        payloads: Payloads,
        presence: Presence,
        witnesses: Witnesses,
        progress: Progress,
        monotonic: Callable[[], float],
        wake: Callable[[], None],
        fatal: Callable[[Exception], None],
    ) -> None:
        """Take the parts.

        Args:
            callers: Decides on the caller.
            ledger: The log.
            blobs: Payloads by digest.
            payloads: Rules about which payload goes with which event.
            presence: Told of every call and stream.
            witnesses: Takes and shows cosignatures.
            progress: Told of every payload byte that was moved.
            monotonic: Clock of `presence`.
            wake: Called when something changed that the conductor may act on.
            fatal: Called with an error after which the process must end.
        """
        self._callers = callers
        self._admission = callers.admission
        self._ledger = ledger
        self._blobs = blobs
        self._payloads = payloads
        self._presence = presence
        self._witnesses = witnesses
        self._progress = progress
        self._monotonic = monotonic
        self._wake = wake
        self._fatal = fatal
        self._transfers = Transfers()
        self._streams: dict[str, int] = {}
        self._sent: dict[str, int] = {}
        self._shown: dict[str, int] = {}  # size of the newest cosigned head that a site was shown

    def add_to(self, server: grpc.aio.Server) -> None:
        """Serve the calls.

        For the caller PutChunk is a call of one message, as the .proto says. Here it is a stream of one: gRPC
        reads the message of any other call before its handler may ask it to wait.
        """
        put = grpc.stream_unary_rpc_method_handler(
            self.put_chunk_in_turn, pb.PutChunkRequest.FromString, pb.PutChunkResponse.SerializeToString
        )
        pb_grpc.add_FederationServicer_to_server(self, server)
        server.add_registered_method_handlers(_SERVICE, {"PutChunk": put})  # in place of the generated one

    async def Submit(  # noqa: N802
        self, request: pb.SubmitRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> pb.SubmitResponse:
        """Take one signed event and answer with the receipt."""
        try:
            site = self._caller(context)
            note = wire.read_submit(request)
            receipt, index = self._ledger.submit(site, note, self._payloads.check)
        except Exception as error:  # noqa: BLE001 - every error becomes a reason; see _end
            await self._end(context, error)
        self._wake()
        return pb.SubmitResponse(receipt=receipt, index=index)

    async def Watch(  # noqa: N802
        self, request: pb.WatchRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> AsyncIterator[pb.WatchResponse]:
        """Stream the log from an index on, each batch under a head that covers exactly it."""
        try:
            site = self._caller(context)
            at = wire.read_watch(request)
            if at > self._ledger.size:
                raise PeerRefusedError(Reason.AHEAD_OF_LOG)
            if self._streams.get(site, 0) >= MAX_STREAMS_PER_SITE:
                raise PeerRefusedError(Reason.TOO_MANY)
        except Exception as error:  # noqa: BLE001
            await self._end(context, error)
        self._streams[site] = self._streams.get(site, 0) + 1
        self._presence.opened(site, self._monotonic())
        self._wake()
        try:
            while True:
                batch = self._ledger.batch(at)
                at += len(batch.notes)
                shown = self._witnesses.newest_size()
                yield pb.WatchResponse(
                    start_index=batch.start,
                    notes=batch.notes,
                    checkpoint=batch.checkpoint,
                    cosigned=self._witnesses.newest(at),
                )
                self._sent[site], self._shown[site] = at, shown
                await self._admission.admitted_until(
                    peer_certificate(context), self._witnesses.news(at, shown)
                )
        except PeerRefusedError as error:  # revoked, renewed or expired while the stream was open
            await self._end(context, error)
        finally:
            self._streams[site] -= 1
            self._presence.closed(site, self._monotonic())
            self._wake()

    def behind(self) -> tuple[str, ...]:
        """Return the sites with an open stream that lack entries, or the newest head with a quorum."""
        newest = self._witnesses.newest_size()
        open_ones = [site for site, streams in self._streams.items() if streams]
        return tuple(
            site
            for site in open_ones
            if not self.has_been_sent(site, self._ledger.size) or self._shown.get(site, 0) < newest
        )

    def has_been_sent(self, site: str, size: int) -> bool:
        """Tell whether a site was sent the log up to a size, in this process's time."""
        return self._sent.get(site, 0) >= size

    async def PutChunk(  # noqa: N802
        self, request: pb.PutChunkRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> pb.PutChunkResponse:
        """Take one chunk of a blob, or say which is missing."""
        try:
            return self._put(self._caller(context), request)
        except Exception as error:  # noqa: BLE001
            await self._end(context, error)

    async def put_chunk_in_turn(
        self, requests: AsyncIterator[pb.PutChunkRequest], context: "grpc.aio.ServicerContext[object, object]"
    ) -> pb.PutChunkResponse:
        """Do what `PutChunk` does; the message is read when it is its turn."""
        try:
            site = self._caller(context)
            await self._turn(site, context)
            return self._put(site, await _only(requests))
        except Exception as error:  # noqa: BLE001
            await self._end(context, error)

    def _put(self, site: str, request: pb.PutChunkRequest) -> pb.PutChunkResponse:
        chunk = wire.read_put_chunk(request)
        self._payloads.check_upload(chunk.total_bytes)
        if chunk.data is None:
            missing = self._blobs.query(chunk.digest, chunk.total_bytes)
        else:
            self._payloads.check_chunk(chunk.total_bytes, chunk.index, chunk.data)
            before = self._blobs.query(chunk.digest, chunk.total_bytes)
            missing = self._blobs.put_chunk(
                site,
                digest=chunk.digest,
                total_bytes=chunk.total_bytes,
                index=chunk.index,
                data=chunk.data,
                proof=chunk.proof,
            )
            if missing != before:
                self._progress.moved(site, len(chunk.data))
        return pb.PutChunkResponse(complete=missing is None, next_missing=missing or 0)

    async def GetChunk(  # noqa: N802
        self, request: pb.GetChunkRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> pb.GetChunkResponse:
        """Give one chunk of a blob that members may read."""
        try:
            site = self._caller(context)
            digest, index = wire.read_get_chunk(request)
            if not self._payloads.may_fetch(site, digest):
                raise PeerRefusedError(Reason.UNKNOWN_BLOB)
            await self._turn(site, context)
            total, data, proof = self._blobs.chunk(digest, index)
            self._progress.moved(site, len(data))
        except Exception as error:  # noqa: BLE001
            await self._end(context, error)
        return pb.GetChunkResponse(total_bytes=total, data=data, proof=proof)

    async def Cosign(  # noqa: N802
        self, request: pb.CosignRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> pb.CosignResponse:
        """Take a witness's cosignature of a head."""
        try:
            site = self._caller(context)
            note, line = wire.read_cosign(request)
            self._witnesses.take(site, note, line)
        except Exception as error:  # noqa: BLE001
            await self._end(context, error)
        self._wake()
        return pb.CosignResponse()

    # R3.1.2: the certificate says who calls; the ledger compares it with the event's author.
    def _caller(self, context: "grpc.aio.ServicerContext[object, object]") -> str:
        site = self._callers.admit(context, self._ledger.terms.members).site
        self._presence.heard(site, self._monotonic())
        return site

    async def _turn(self, site: str, context: "grpc.aio.ServicerContext[object, object]") -> None:
        """Wait until this call may move a chunk; its turn is over when the call is."""
        transfer = await self._transfers.begin(site)
        context.add_done_callback(lambda _: transfer.end())  # type: ignore[arg-type]  # the stub wants a class

    async def _end(self, context: "grpc.aio.ServicerContext[object, object]", error: Exception) -> NoReturn:
        """End a call with the reason of its error; an error of our own also reaches the operator."""
        if isinstance(error, OSError) and error.errno in _DISK_ERRORS:
            error = disk_error(str(error.filename or "the folder of payloads"), error)
        if isinstance(error, StoreError):
            self._fatal(error)
        elif isinstance(error, CoordinatorError | wire.WireError):
            await self._callers.refused(context, error)
        else:
            tell(_LOG, "call_failed", error=type(error).__name__, place=place_of(error))
        await refuse(context, error)


async def _only(requests: AsyncIterator[pb.PutChunkRequest]) -> pb.PutChunkRequest:
    """Read a stream of one message to its end: gRPC would keep the message of an unfinished one for long.

    Raises:
        WireError: There is none, or another.
    """
    request = await anext(requests, None)
    if request is None or await anext(requests, None) is not None:
        raise wire.WireError("one message")
    return request
