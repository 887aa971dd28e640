"""The site's end of the wire: what is resumed, what is checked, how errors are sorted."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import grpc.aio
import pytest

from fedmedlora_audit.blob import BlobTree, blob_leaves
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_protos.wire import Reason
from fedmedlora_site import client as module
from fedmedlora_site.blobs import UploadFolder
from fedmedlora_site.client import Credentials, FederationClient, backoff_seconds
from fedmedlora_site.config import NetworkSection
from fedmedlora_site.errors import ForkError, RejectedError, SiteError, TransportError

DATA = bytes(range(256)) * 8192 + b"tail"  # three chunks
TREE = BlobTree(blob_leaves(DATA), len(DATA))
QUICK = NetworkSection(reconnect_first_seconds=0.001, reconnect_most_seconds=0.002)


def failure(code: grpc.StatusCode, details: str = "", **trailing: str) -> grpc.aio.AioRpcError:
    metadata = grpc.aio.Metadata(*trailing.items())
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), metadata, details=details)


class FakeStub:
    """Answers calls from Python objects; counts them."""

    def __init__(self, held: dict[int, bytes] | None = None) -> None:
        self.held = held or {}
        self.failures: list[BaseException] = []
        self.calls: list[Any] = []
        self.change: Callable[[bytes], bytes] = lambda data: data

    async def PutChunk(self, request: Any, timeout: float, metadata: Any = ()) -> Any:  # noqa: N802 - the name of the RPC
        self._call(request)
        if not request.query:
            self.held[request.index] = request.data
        missing = [index for index in range(3) if index not in self.held]
        return pb.PutChunkResponse(complete=not missing, next_missing=missing[0] if missing else 0)

    async def GetChunk(self, request: Any, timeout: float, metadata: Any = ()) -> Any:  # noqa: N802 - the name of the RPC
        self._call(request)
        data = DATA[request.index * CHUNK_BYTES : (request.index + 1) * CHUNK_BYTES]
        return pb.GetChunkResponse(
            total_bytes=len(DATA), data=self.change(data), proof=TREE.proof(request.index)
        )

    async def Submit(self, request: Any, timeout: float, metadata: Any = ()) -> Any:  # noqa: N802 - the name of the RPC
        self._call(request)
        return pb.SubmitResponse(receipt=b"receipt", index=7)

    def _call(self, request: Any) -> None:
        self.calls.append(request)
        if self.failures:
            raise self.failures.pop(0)


def call(stub: FakeStub, act: Callable[[FederationClient], Awaitable[Any]]) -> Any:
    async def run() -> Any:
        client = FederationClient("127.0.0.1:1", Credentials(b"", b"", b""), QUICK)
        client._stub = stub
        try:
            return await act(client)
        finally:
            await client.close()

    return asyncio.run(run())


def test_an_upload_sends_only_what_is_missing(tmp_path: Path) -> None:
    upload = UploadFolder(tmp_path).store(DATA)
    stub = FakeStub({0: DATA[:CHUNK_BYTES], 1: DATA[CHUNK_BYTES : 2 * CHUNK_BYTES]})
    call(stub, lambda client: client.put_blob(upload))
    assert [(request.query, request.index) for request in stub.calls] == [(True, 0), (False, 2)]
    assert b"".join(stub.held[index] for index in range(3)) == DATA


def test_an_upload_that_is_there_sends_nothing(tmp_path: Path) -> None:
    upload = UploadFolder(tmp_path).store(DATA)
    stub = FakeStub(dict.fromkeys(range(3), b""))
    call(stub, lambda client: client.put_blob(upload))
    assert len(stub.calls) == 1


def test_a_broken_upload_goes_on_where_it_was(tmp_path: Path) -> None:
    upload = UploadFolder(tmp_path).store(DATA)
    stub = FakeStub()
    stub.failures = [failure(grpc.StatusCode.UNAVAILABLE), failure(grpc.StatusCode.DEADLINE_EXCEEDED)]
    call(stub, lambda client: client.put_blob(upload))
    assert b"".join(stub.held[index] for index in range(3)) == DATA


def test_a_coordinator_that_asks_for_a_chunk_beyond_the_end_is_refused(tmp_path: Path) -> None:
    upload = UploadFolder(tmp_path).store(b"small")
    with pytest.raises(RejectedError, match="bad_chunk"):
        call(FakeStub({0: b""}), lambda client: client.put_blob(upload))


def test_a_download_is_checked_chunk_by_chunk() -> None:
    stub = FakeStub()
    get = lambda client: client.get_blob(TREE.digest, total_bytes=len(DATA))  # noqa: E731
    assert call(stub, get) == DATA
    assert [request.index for request in stub.calls] == [0, 1, 2]


def altered(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


@pytest.mark.parametrize("change", [altered, lambda data: data[:-1], lambda _: b""])
def test_an_altered_chunk_is_refused(change: Callable[[bytes], bytes]) -> None:
    stub = FakeStub()
    stub.change = change
    with pytest.raises(ForkError) as found:
        call(stub, lambda client: client.get_blob(TREE.digest, total_bytes=len(DATA)))
    assert found.value.reason == "wrong_digest"


def test_without_the_check_an_altered_chunk_would_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "verify_chunk", lambda **_: None)
    stub = FakeStub()
    stub.change = altered
    assert call(stub, lambda client: client.get_blob(TREE.digest, total_bytes=len(DATA))) != DATA


def test_another_length_than_the_signed_one_is_refused() -> None:
    with pytest.raises(ForkError):
        call(FakeStub(), lambda client: client.get_blob(TREE.digest, total_bytes=len(DATA) - 1))


@pytest.mark.parametrize(
    ("error", "kind", "text"),
    [
        (failure(grpc.StatusCode.UNAVAILABLE), TransportError, "not reachable"),
        (failure(grpc.StatusCode.DEADLINE_EXCEEDED), TransportError, "not reachable"),
        (failure(grpc.StatusCode.UNAVAILABLE, Reason.STOPPING), TransportError, "stopping"),
        (failure(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.TOO_FAST), TransportError, "less often"),
        (failure(grpc.StatusCode.RESOURCE_EXHAUSTED, Reason.TOO_MANY), TransportError, "for now"),
        (failure(grpc.StatusCode.FAILED_PRECONDITION, Reason.LAW_REFUSED, check="G37"), RejectedError, "G37"),
        (failure(grpc.StatusCode.NOT_FOUND, Reason.UNKNOWN_BLOB), RejectedError, "unknown_blob"),
        (failure(grpc.StatusCode.PERMISSION_DENIED, "anything at all"), RejectedError, "unexplained"),
    ],
)
def test_errors_are_sorted_by_what_helps(
    error: grpc.aio.AioRpcError, kind: type[SiteError], text: str
) -> None:
    stub = FakeStub()
    stub.failures = [error]
    with pytest.raises(kind, match=text) as found:
        call(stub, lambda client: client.submit(b"note"))
    assert "anything at all" not in str(found.value)


def test_a_check_id_that_is_none_is_not_shown() -> None:
    stub = FakeStub()
    stub.failures = [failure(grpc.StatusCode.FAILED_PRECONDITION, Reason.LAW_REFUSED, check="rm -rf /")]
    with pytest.raises(RejectedError) as found:
        call(stub, lambda client: client.submit(b"note"))
    assert found.value.check is None


def test_pauses_grow_are_capped_and_differ() -> None:
    network = NetworkSection(reconnect_first_seconds=0.5, reconnect_most_seconds=8.0)
    for attempt, most in enumerate([0.5, 1, 2, 4, 8, 8, 8]):
        pauses = [backoff_seconds(attempt, network) for _ in range(50)]
        assert all(most / 2 <= pause <= most for pause in pauses)
        assert len(set(pauses)) > 1


def test_credentials_show_no_key() -> None:
    assert "secret" not in repr(Credentials(b"ca", b"cert", b"secret"))
