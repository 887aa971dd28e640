"""The site's end of the wire: resumable uploads and downloads, each chunk verified (PROTOCOL §3).

A site dials out only. TLS 1.3, the pinned CA, this site's certificate; the server must show the name
`coordinator`, which the CA gives to no site. Nothing that arrives is believed here: notes are opened by the
mirror, chunks are checked against the digest that a signed event names before they are returned.

No deadline has to fit the line: a connection on which nothing arrives is found by keep-alive pings within
`wire.DEAD_SECONDS`, and as long as bytes move nothing ends a call but a last resort of an hour (R3.1.4).

What this module does not do: decide. It raises `TransportError` (try again) or `RejectedError` (a reason).
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import grpc
import grpc.aio

import fedmedlora_protos  # noqa: F401 - leaves gRPC without TLS 1.2 suites; must come before grpc
from fedmedlora_audit.blob import verify_chunk
from fedmedlora_audit.errors import AuditError
from fedmedlora_protos import wire
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_protos.v1 import federation_pb2_grpc as rpc
from fedmedlora_protos.versions import Speaks
from fedmedlora_site import metrics
from fedmedlora_site.blobs import UploadFile
from fedmedlora_site.config import NetworkSection
from fedmedlora_site.downloads import DownloadFolder
from fedmedlora_site.errors import ForkError, RejectedError, TransportError
from fedmedlora_site.protocol_version import check_agreed, ours, refused_for_version

ENROLMENT_TIMEOUT_SECONDS = 30.0
CHUNK_ATTEMPTS = 4
CONNECT_SECONDS = 10.0  # for one attempt to connect; a handshake takes four times the delay of the line
_OPTIONS: list[tuple[str, Any]] = [
    *wire.CHANNEL_OPTIONS,
    ("grpc.ssl_target_name_override", wire.SERVER_NAME),
]
_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.ABORTED,
    grpc.StatusCode.UNKNOWN,
    grpc.StatusCode.INTERNAL,
}
_KIND_OF: dict[type, str] = {
    pb.SubmitRequest: "events",
    pb.CosignRequest: "cosignatures",
    pb.RenewRequest: "events",  # a kind of its own would be rarer than a restart
    pb.ConfirmRequest: "events",
    pb.PutChunkRequest: "payloads",
    pb.GetChunkRequest: "payloads",
}
_REASONS = {reason.value for reason in wire.Reason}
_LATER = {
    wire.Reason.TOO_FAST.value: "asks this site to call less often",
    # R3.1.5: the ends of lines that broke without a word count until the coordinator gives them up
    wire.Reason.TOO_MANY.value: "holds as much for this site as it may, for now",
    wire.Reason.STOPPING.value: "is stopping",
    wire.Reason.INTERNAL.value: "is stopping",
}
"""Refusals that pass by themselves."""


@dataclass(frozen=True)
class EnrolmentRequest:
    """Everything that one Enroll call carries; the token is not shown in `repr`."""

    address: str
    ca_pem: bytes
    site: str
    token: str = field(repr=False)
    csr_der: bytes
    event_vkey: str
    witness_vkey: str
    event_proof: bytes
    witness_proof: bytes

    def with_proofs(self, *, event: bytes, witness: bytes) -> EnrolmentRequest:
        """Return the request with both proofs of possession."""
        return replace(self, event_proof=event, witness_proof=witness)


@dataclass(frozen=True)
class CertificateAnswer:
    """What the coordinator answers to an enrolment; still to be checked."""

    certificate_pem: bytes
    ca_pem: bytes


@dataclass(frozen=True)
class Batch:
    """One message of the Watch stream; still to be verified."""

    start_index: int
    notes: tuple[bytes, ...]
    checkpoint: bytes
    cosigned: bytes = b""


@dataclass(frozen=True)
class Credentials:
    """What this site shows and trusts in a TLS handshake; no secrets in `repr`."""

    ca_pem: bytes
    certificate_pem: bytes
    key_pem: bytes = field(repr=False)


def request_certificate(request: EnrolmentRequest) -> CertificateAnswer:
    """Send one Enroll call over server-authenticated TLS under the pinned CA.

    Raises:
        TransportError: No answer; the same request may be sent again.
        RejectedError: The coordinator refused; the reason is in the error.
    """
    credentials = grpc.ssl_channel_credentials(root_certificates=request.ca_pem)
    message = pb.EnrollRequest(
        site=request.site,
        token=request.token,
        csr_der=request.csr_der,
        event_vkey=request.event_vkey,
        witness_vkey=request.witness_vkey,
        event_proof=request.event_proof,
        witness_proof=request.witness_proof,
    )
    with grpc.secure_channel(request.address, credentials, options=_OPTIONS) as channel:
        try:
            reply, call = rpc.EnrolmentStub(channel).Enroll.with_call(
                message, timeout=ENROLMENT_TIMEOUT_SECONDS, metadata=ours().metadata()
            )
            check_agreed(ours(), call.initial_metadata())
        except grpc.RpcError as exc:
            raise _enrolment_error(exc, request.address) from None
    return CertificateAnswer(reply.certificate_pem, reply.ca_pem)


# R3.1.6
def _enrolment_error(exc: grpc.RpcError, address: str) -> TransportError | RejectedError:
    """Sort an error of an enrolment: who has no room has refused nothing, and may have issued before."""
    error = _error_of(exc, address)
    if isinstance(error, RejectedError) and error.reason == "unexplained_resource_exhausted":
        return TransportError(f"{address}: the coordinator has no room for this call now; try again")
    return error


class Wire(Protocol):
    """What the agent asks of its connection; see `FederationClient` for the contracts."""

    async def submit(self, note: bytes) -> tuple[bytes, int]:
        """Hand in one signed event."""

    def watch(self, from_index: int) -> AsyncIterator[Batch]:
        """Stream the log's entries."""

    async def cosign(self, checkpoint: bytes, cosignature: bytes) -> None:
        """Hand in this site's cosignature of a head."""

    async def put_blob(self, upload: UploadFile) -> None:
        """Upload a payload."""

    async def get_blob(self, digest: str, *, total_bytes: int, resumed: bool = False) -> bytes | bytearray:
        """Download a payload, checked against its digest."""

    async def get_chunk(self, digest: str, index: int, *, total_bytes: int) -> bytes:
        """Download one chunk of a payload, checked against its digest."""

    async def close(self) -> None:
        """Close the connection."""


class FederationClient:
    """Calls of one site to the coordinator, over one channel that gRPC reconnects.

    Args:
        address: HOST:PORT of the federation listener.
        credentials: This site's certificate and key, and the federation's CA.
        network: Deadlines and pauses.
        downloads: Where a cut download waits for the next connection; None keeps nothing.
        speaks: Versions of the protocol; what the software speaks when None.
    """

    def __init__(
        self,
        address: str,
        credentials: Credentials,
        network: NetworkSection,
        downloads: DownloadFolder | None = None,
        speaks: Speaks | None = None,
    ) -> None:
        """Open a lazy channel: nothing is sent before the first call."""
        self._downloads = downloads
        self._speaks = speaks or ours()
        self._address = address
        self._network = network
        tls = grpc.ssl_channel_credentials(
            root_certificates=credentials.ca_pem,
            private_key=credentials.key_pem,
            certificate_chain=credentials.certificate_pem,
        )
        most = int(network.reconnect_most_seconds * 1000)
        options = [
            *_OPTIONS,
            ("grpc.initial_reconnect_backoff_ms", int(network.reconnect_first_seconds * 1000)),
            # Not a pause, in spite of its name: how long one attempt may take.
            ("grpc.min_reconnect_backoff_ms", int(CONNECT_SECONDS * 1000)),
            ("grpc.max_reconnect_backoff_ms", most),
        ]
        self._channel = grpc.aio.secure_channel(address, tls, options=options)
        self._stub: Any = rpc.FederationStub(self._channel)  # types-grpcio knows the blocking stub only
        self._certificates: Any = rpc.CertificatesStub(self._channel)

    async def close(self) -> None:
        """Close the channel; calls under way are cancelled."""
        await self._channel.close()

    async def submit(self, note: bytes) -> tuple[bytes, int]:
        """Hand in one signed event; idempotent by its leaf.

        Returns:
            (the coordinator's signed receipt, leaf index of the event).

        Raises:
            TransportError: No answer in time; send the same bytes again.
            RejectedError: The coordinator refused the event.
        """
        request = pb.SubmitRequest(note=note)
        reply = await self._call(self._stub.Submit, request, self._network.call_timeout_seconds)
        return bytes(reply.receipt), int(reply.index)

    async def watch(self, from_index: int) -> AsyncIterator[Batch]:
        """Stream the log's entries from an index on, without end.

        Raises:
            TransportError: The stream broke; open another from the mirror's size.
            RejectedError: The coordinator refused, for instance because its log is shorter.
        """
        stream = self._stub.Watch(pb.WatchRequest(from_index=from_index), metadata=self._speaks.metadata())
        try:
            async for reply in stream:
                check_agreed(self._speaks, await stream.initial_metadata())
                metrics.received("log", reply.ByteSize())
                yield Batch(
                    int(reply.start_index), tuple(reply.notes), bytes(reply.checkpoint), bytes(reply.cosigned)
                )
        except grpc.RpcError as exc:
            raise _error_of(exc, self._address, self._speaks) from None
        finally:
            stream.cancel()
        raise TransportError(f"{self._address}: the coordinator ended the stream")

    async def renew(self, csr_der: bytes, event_proof: bytes) -> CertificateAnswer:
        """Ask for this site's next certificate; the same key again gets the same one.

        Raises:
            TransportError: No answer in time.
            RejectedError: The coordinator refused.
        """
        request = pb.RenewRequest(csr_der=csr_der, event_proof=event_proof)
        reply = await self._call(self._certificates.Renew, request, self._network.call_timeout_seconds)
        return CertificateAnswer(reply.certificate_pem, reply.ca_pem)

    async def confirm(self) -> str:
        """Use this connection's certificate once, which ends older ones; returns its serial number.

        Raises:
            TransportError: No answer in time.
            RejectedError: The coordinator refused.
        """
        call = self._certificates.Confirm
        reply = await self._call(call, pb.ConfirmRequest(), self._network.call_timeout_seconds)
        return str(reply.serial)

    async def cosign(self, checkpoint: bytes, cosignature: bytes) -> None:
        """Hand in this site's cosignature of a head; the same one again does no harm.

        Args:
            checkpoint: The head, as the log signed it.
            cosignature: This site's signature line, durable here before it is sent.

        Raises:
            TransportError: No answer in time; send it again.
            RejectedError: The coordinator refused it.
        """
        request = pb.CosignRequest(checkpoint=checkpoint, cosignature=cosignature)
        await self._call(self._stub.Cosign, request, self._network.call_timeout_seconds)

    async def put_blob(self, upload: UploadFile) -> None:
        """Upload the chunks of a blob that the coordinator does not hold yet (PROTOCOL §3.2).

        Args:
            upload: A payload, whole on this site's disk.

        Raises:
            TransportError: The connection broke; calling again resumes.
            RejectedError: The coordinator refused a chunk.
        """
        # R3.2.5
        query = pb.PutChunkRequest(digest=upload.digest, total_bytes=upload.total_bytes, query=True)
        reply = await self._chunk_call(self._stub.PutChunk, query)
        while not reply.complete:
            index = int(reply.next_missing)
            if index >= upload.chunk_count:
                raise RejectedError("bad_chunk")
            data, proof = upload.chunk(index)
            request = pb.PutChunkRequest(
                digest=upload.digest, total_bytes=upload.total_bytes, index=index, data=data, proof=proof
            )
            reply = await self._chunk_call(self._stub.PutChunk, request)

    async def get_blob(self, digest: str, *, total_bytes: int, resumed: bool = False) -> bytes | bytearray:
        """Download a blob; every chunk is checked against the digest before it counts (PROTOCOL §3.2).

        Args:
            digest: Blob digest from a signed event.
            total_bytes: Its length from the same event; anything else is refused.
            resumed: Keep what came on the disk, for another connection or process to go on with. Only for
                what every member may read.

        Raises:
            TransportError: The connection broke.
            RejectedError: The coordinator does not have the blob.
            ForkError: A chunk is not what the signed event names (reason "wrong_digest").
        """
        if resumed and self._downloads is not None:
            return await self._resume(self._downloads, digest, total_bytes)
        out = bytearray(total_bytes)
        count = max(1, -(-total_bytes // wire.CHUNK_BYTES))
        for index in range(count):
            data = await self.get_chunk(digest, index, total_bytes=total_bytes)
            start = index * wire.CHUNK_BYTES
            out[start : start + len(data)] = data
        return out

    async def _resume(self, downloads: DownloadFolder, digest: str, total_bytes: int) -> bytearray:
        """R3.2.6: go on after the last chunk that is here; one damaged part is fetched again as a whole."""
        for _ in range(2):
            download = downloads.open(digest, total_bytes)
            while download.held < download.count:
                chunk = await self.get_chunk(digest, download.held, total_bytes=total_bytes)
                await asyncio.to_thread(download.append, chunk)
            data = await asyncio.to_thread(download.take)
            if data is not None:
                return data
        raise TransportError(f"blob {digest[:12]}…: this site's disk does not keep what was written to it")

    async def get_chunk(self, digest: str, index: int, *, total_bytes: int) -> bytes:
        """Download one chunk of a blob, checked against the digest (PROTOCOL §3.2).

        Args:
            digest: Blob digest from a signed event.
            index: Number of the chunk, from 0.
            total_bytes: The blob's length from the same event.

        Raises:
            TransportError: The connection broke.
            RejectedError: The coordinator does not have the blob, or keeps it from this site.
            ForkError: The chunk is not what the signed event names (reason "wrong_digest").
        """
        request = pb.GetChunkRequest(digest=digest, index=index)
        reply = await self._chunk_call(self._stub.GetChunk, request)
        data, proof = bytes(reply.data), [bytes(item) for item in reply.proof]
        try:
            verify_chunk(digest=digest, total_bytes=total_bytes, index=index, data=data, proof=proof)
        except AuditError:
            raise ForkError(
                "wrong_digest", f"chunk {index} of blob {digest[:12]}… is not what the log names"
            ) from None
        return data

    async def _chunk_call(self, method: Any, request: Any) -> Any:
        """Make one chunk call; a passing failure is retried with a jittered pause."""
        for attempt in range(CHUNK_ATTEMPTS):
            try:
                return await self._call(method, request, self._network.chunk_timeout_seconds)
            except TransportError:
                if attempt + 1 == CHUNK_ATTEMPTS:
                    raise
                await asyncio.sleep(backoff_seconds(attempt, self._network))
        raise TransportError(f"{self._address}: gave up")  # pragma: no cover - the loop returns or raises

    async def _call(self, method: Any, request: Any, timeout: float) -> Any:
        kind = _KIND_OF[type(request)]
        metrics.sent(kind, request.ByteSize())
        try:
            reply = await method(request, timeout=timeout, metadata=self._speaks.metadata())
        except grpc.RpcError as exc:
            raise _error_of(exc, self._address, self._speaks) from None
        metrics.received(kind, reply.ByteSize())
        return reply


def backoff_seconds(attempt: int, network: NetworkSection) -> float:
    """Draw the pause before attempt number `attempt + 1`: doubling, capped, full jitter.

    Jitter keeps a federation's sites from coming back in step after the coordinator restarted.
    """
    return drawn_seconds(min(network.reconnect_most_seconds, network.reconnect_first_seconds * 2.0**attempt))


def drawn_seconds(most: float) -> float:
    """Draw a pause of half of `most` to all of it, so that a federation's sites do not come in step."""
    return most * (0.5 + 0.5 * random.random())  # noqa: S311 - a pause, not a secret


def _error_of(
    exc: grpc.RpcError, address: str, speaks: Speaks | None = None
) -> TransportError | RejectedError:
    """Sort a gRPC error: worth another try, or a refusal with a known reason."""
    code = exc.code() if isinstance(exc, grpc.Call | grpc.aio.AioRpcError) else None
    details = exc.details() if isinstance(exc, grpc.Call | grpc.aio.AioRpcError) else None
    if code is None or details not in _REASONS:
        if code is None or code in _PASSING:
            return TransportError(f"{address}: the coordinator is not reachable ({_name(code)})")
        return RejectedError(f"unexplained_{_name(code)}")
    later = _LATER.get(details or "")
    if later is not None:
        return TransportError(f"{address}: the coordinator {later}")
    if details == wire.Reason.WRONG_VERSION.value and isinstance(exc, grpc.Call | grpc.aio.AioRpcError):
        return refused_for_version(speaks or ours(), exc.trailing_metadata())
    return RejectedError(str(details), _check_of(exc))


def _name(code: grpc.StatusCode | None) -> str:
    return "no status" if code is None else code.name.lower()


def _check_of(exc: grpc.RpcError) -> str | None:
    """Read the law's check id from the trailing metadata, if it is there and looks like one."""
    metadata = exc.trailing_metadata() if isinstance(exc, grpc.Call | grpc.aio.AioRpcError) else None
    for key, value in metadata or ():
        if key == wire.CHECK_METADATA_KEY and isinstance(value, str) and value.isalnum() and len(value) <= 16:
            return value
    return None
