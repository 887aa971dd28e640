"""The coordinator's listeners over loopback with real TLS: who gets in, and what an outsider is told."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from fedmedlora_audit.blob import BlobTree, blob_leaves, verify_chunk
from fedmedlora_audit.checkpoint import open_checkpoint
from fedmedlora_audit.event_data import CharterSigned
from fedmedlora_audit.merkle import leaf_hash, tree_root
from fedmedlora_audit.note import VerifierKey
from fedmedlora_coordinator import door, service
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.model import GlobalModel, RoundSizes
from fedmedlora_coordinator.transfers import Transfers
from fedmedlora_protos import wire
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_site.client import _error_of
from fedmedlora_site.errors import TransportError
from fedmedlora_testkit.house import NOW, House

import grpc  # isort: skip - after fedmedlora_protos


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(tmp_path)


async def failure(call: Awaitable[Any]) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    return caught.value


def with_site(house: House, site: str, act: Callable[[Any], Awaitable[None]]) -> None:
    """Run `act` with a stub of a site that holds a certificate of the federation."""

    async def run() -> None:
        async with house.served() as federation, house.stub(federation.port, house.certificate(site)) as stub:
            await act(stub)

    asyncio.run(run())


async def log_of(stub: Any, size: int = 5) -> list[bytes]:
    notes: list[bytes] = []
    async for reply in stub.Watch(pb.WatchRequest(from_index=0)):
        notes.extend(reply.notes)
        if len(notes) >= size:
            break
    return notes


def s_client(port: int, ca: Path, *more: str) -> subprocess.CompletedProcess[bytes]:
    command = ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-alpn", "h2", "-CAfile", str(ca)]
    return subprocess.run(
        [*command, "-verify_return_error", *more], input=b"", capture_output=True, timeout=20, check=False
    )


def test_tls_1_2_is_refused_and_1_3_is_not(house: House, tmp_path: Path) -> None:
    # R3.1.1
    key, chain = house.certificate("site-a")
    for name, content in (("key.pem", key), ("cert.pem", chain)):
        (tmp_path / name).write_bytes(content)
    own = ("-key", str(tmp_path / "key.pem"), "-cert", str(tmp_path / "cert.pem"))

    async def run() -> None:
        async with house.served() as federation:
            ca = house.ward.folder.ca_certificate
            old = await asyncio.to_thread(s_client, federation.port, ca, "-tls1_2", *own)
            new = await asyncio.to_thread(s_client, federation.port, ca, "-tls1_3", *own)
            assert b"Cipher is (NONE)" in old.stdout
            assert old.returncode != 0
            assert b"New, TLSv1.3" in new.stdout
            assert b"Verification: OK" in new.stdout

    asyncio.run(run())


UNPROTECTED = """
import sys, grpc, time
from concurrent.futures import ThreadPoolExecutor
key, chain = (open(path, "rb").read() for path in sys.argv[1:3])
server = grpc.server(ThreadPoolExecutor(1))
print(server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([(key, chain)])), flush=True)
server.start()
sys.stdin.read()
"""


def test_without_the_cipher_list_grpc_would_accept_tls_1_2(house: House) -> None:
    """The protection off: the same library, our certificate, but not our package imported first."""
    folder = house.ward.folder
    command = [sys.executable, "-c", UNPROTECTED, str(folder.tls_key), str(folder.tls_certificate)]
    environment = {k: v for k, v in os.environ.items() if k != "GRPC_SSL_CIPHER_SUITES"}
    with subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        old = s_client(port, folder.ca_certificate, "-tls1_2")
        process.communicate(b"")
    assert b"New, TLSv1.2" in old.stdout


def test_a_caller_without_certificate_or_of_another_ca_gets_no_connection(house: House) -> None:
    stranger = house.certificate("site-a", Authority.create("other", now=NOW))

    async def run() -> None:
        async with house.served() as federation:
            for pair in (None, stranger):
                async with house.stub(federation.port, pair) as stub:
                    error = await failure(stub.GetChunk(pb.GetChunkRequest(digest="0" * 64), timeout=10))
                    assert error.code() is grpc.StatusCode.UNAVAILABLE

    asyncio.run(run())


def test_the_servers_own_certificate_opens_no_client_door(house: House) -> None:
    folder = house.ward.folder
    pair = (folder.tls_key.read_bytes(), folder.tls_certificate.read_bytes())

    async def run() -> None:
        async with house.served() as federation, house.stub(federation.port, pair) as stub:
            error = await failure(stub.GetChunk(pb.GetChunkRequest(digest="0" * 64), timeout=10))
            assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED)

    asyncio.run(run())


def test_a_certified_site_outside_the_study_gets_nothing(house: House) -> None:
    # R3.1.2
    async def act(stub: Any) -> None:
        for call in (
            stub.Submit(pb.SubmitRequest(note=b"x")),
            stub.GetChunk(pb.GetChunkRequest(digest="0" * 64)),
            log_of(stub),
        ):
            error = await failure(call)
            assert error.code() is grpc.StatusCode.PERMISSION_DENIED
            assert error.details() == "not_a_member"

    with_site(house, "site-z", act)


def test_watch_streams_the_log_under_heads_that_cover_it(house: House) -> None:
    async def act(stub: Any) -> None:
        notes = await log_of(stub)
        reply = await anext(aiter(stub.Watch(pb.WatchRequest(from_index=2))))
        assert reply.start_index == 2
        assert list(reply.notes) == notes[2:]
        key = VerifierKey.parse(house.ward.terms.log_vkey)
        head = open_checkpoint(reply.checkpoint, key, origin=house.ward.terms.origin)
        assert (head.size, head.root) == (5, tree_root(leaf_hash(n) for n in notes))
        empty = await anext(aiter(stub.Watch(pb.WatchRequest(from_index=5))))
        assert list(empty.notes) == []
        error = await failure(anext(aiter(stub.Watch(pb.WatchRequest(from_index=6)))))
        assert (error.code(), error.details()) == (grpc.StatusCode.OUT_OF_RANGE, "ahead_of_log")

    with_site(house, "site-a", act)


def test_sites_that_left_with_the_whole_log_are_not_waited_for(house: House) -> None:
    async def run() -> None:
        async with AsyncExitStack() as stack:
            federation = await stack.enter_async_context(house.served())
            *most, last = house.ward.terms.members
            for site in most:
                async with house.stub(federation.port, house.certificate(site)) as stub:
                    await log_of(stub)
            waiting = asyncio.create_task(federation.delivered())
            _, pending = await asyncio.wait({waiting}, timeout=0.5)
            assert pending, "one member has not been heard of and the grace time is not over"
            async with house.stub(federation.port, house.certificate(last)) as stub:
                await log_of(stub)
            await asyncio.wait_for(waiting, timeout=house.settings.timing.grace_seconds / 2)

    asyncio.run(run())


def test_a_submitted_event_gets_the_same_receipt_every_time(house: House) -> None:
    async def act(stub: Any) -> None:
        note = signature_of(house, "site-a")
        first = await stub.Submit(pb.SubmitRequest(note=note))
        assert first.index == 5
        assert await stub.Submit(pb.SubmitRequest(note=note)) == first
        assert (await log_of(stub, 7))[6] == first.receipt

    with_site(house, "site-a", act)


def signature_of(house: House, site: str) -> bytes:
    """A signed `charter.signed` of a site on the log's first five entries."""
    ward = house.ward
    return ward.note(ward.hospital(site), "charter.signed", CharterSigned(charter=ward.terms.digest), None)


def test_an_event_is_refused_with_a_reason_and_nothing_else(house: House) -> None:
    note = signature_of(house, "site-a")
    other = signature_of(house, "site-b")
    flipped = bytearray(note)
    flipped[-10] ^= 1
    ward = house.ward
    wrong = ward.note(ward.hospital("site-a"), "charter.signed", CharterSigned(charter="0" * 64), None)

    async def act(stub: Any) -> None:
        expected = [
            (b"", grpc.StatusCode.INVALID_ARGUMENT, "malformed"),
            (b"garbage", grpc.StatusCode.INVALID_ARGUMENT, "bad_event"),
            (bytes(flipped), grpc.StatusCode.INVALID_ARGUMENT, None),
            (other, grpc.StatusCode.PERMISSION_DENIED, "wrong_actor"),
            (wrong, grpc.StatusCode.FAILED_PRECONDITION, "law_refused"),
        ]
        for content, code, reason in expected:
            error = await failure(stub.Submit(pb.SubmitRequest(note=content)))
            assert error.code() is code
            assert error.details() in ({"bad_event", "bad_signature"} if reason is None else {reason})
        metadata = dict(error.trailing_metadata() or ())
        assert metadata[wire.CHECK_METADATA_KEY] == "K1"
        assert len(await log_of(stub)) == 5

    with_site(house, "site-a", act)


def test_unknown_fields_are_refused(house: House) -> None:
    async def act(stub: Any) -> None:
        request = pb.SubmitRequest.FromString(
            pb.SubmitRequest(note=b"x").SerializeToString() + b"\x98\x06\x01"
        )
        error = await failure(stub.Submit(request))
        assert error.details() == "malformed"

    with_site(house, "site-a", act)


def test_chunks_go_up_with_proofs_and_come_down_only_when_public(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(range(256)) * 5000
    sizes = (RoundSizes(len(data), len(data), range(0)),)
    monkeypatch.setattr(GlobalModel, "sizes", lambda _: sizes)  # as if the study's adapter were that large
    tree = BlobTree(blob_leaves(data), len(data))

    def put(index: int, content: bytes) -> pb.PutChunkRequest:
        proof = tree.proof(index)
        return pb.PutChunkRequest(
            digest=tree.digest, total_bytes=len(data), index=index, data=content, proof=proof
        )

    async def act(stub: Any) -> None:
        query = pb.PutChunkRequest(digest=tree.digest, total_bytes=len(data), query=True)
        assert not (await stub.PutChunk(query)).complete
        error = await failure(stub.PutChunk(put(0, bytes(wire.CHUNK_BYTES))))
        assert (error.code(), error.details()) == (grpc.StatusCode.INVALID_ARGUMENT, "bad_chunk")
        error = await failure(stub.PutChunk(put(1, data[: wire.CHUNK_BYTES])))
        assert error.details() == "malformed"
        assert (await stub.PutChunk(put(0, data[: wire.CHUNK_BYTES]))).next_missing == 1
        assert (await stub.PutChunk(put(1, data[wire.CHUNK_BYTES :]))).complete
        large = pb.PutChunkRequest(digest="0" * 64, total_bytes=5 << 20, query=True)
        error = await failure(stub.PutChunk(large))
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_large")
        # Complete, but named in no event: nobody's to read.
        error = await failure(stub.GetChunk(pb.GetChunkRequest(digest=tree.digest)))
        assert (error.code(), error.details()) == (grpc.StatusCode.NOT_FOUND, "unknown_blob")

    with_site(house, "site-a", act)


def test_an_upload_that_waits_for_its_turn_stays_with_its_site(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hundred sites that upload at once are not a hundred chunks in the coordinator's memory (ADR 0055)."""
    transfers = Transfers(most=1, hold_seconds=1000, wait_seconds=1000)
    monkeypatch.setattr(service, "Transfers", lambda: transfers)
    carried = Counter[str]()
    received = door._Side._received

    def counted(side: Any, data: bytes) -> None:
        carried["bytes"] += len(data)
        received(side, data)

    monkeypatch.setattr(door._Side, "_received", counted)
    data = bytes(wire.CHUNK_BYTES)
    monkeypatch.setattr(GlobalModel, "sizes", lambda _: (RoundSizes(len(data), len(data), range(0)),))
    tree = BlobTree(blob_leaves(data), len(data))
    put = pb.PutChunkRequest(digest=tree.digest, total_bytes=len(data), index=0, data=data, proof=[])

    async def run() -> None:
        async with house.served() as federation, AsyncExitStack() as stack:
            held = await transfers.begin("another")
            stubs = [
                await stack.enter_async_context(house.stub(federation.port, house.certificate(site)))
                for site in ("site-a", "site-b", "site-c", "site-d")
            ]
            calls = [asyncio.ensure_future(stub.PutChunk(put)) for stub in stubs]
            await until_still(lambda: carried["bytes"], stubs[1])
            assert len(stubs) * 16 * 1024 < carried["bytes"] < len(stubs) * len(data) / 4
            assert not any(call.done() for call in calls)
            held.end()
            assert all(reply.complete for reply in await asyncio.gather(*calls))

    asyncio.run(run())


async def until_still(count: Callable[[], int], stub: Any) -> None:
    """Wait until a count of bytes has grown, and grows no more while a site is answered again and again."""
    before, still = -1, 0
    while still < 10:
        await failure(stub.GetChunk(pb.GetChunkRequest(digest="0" * 64), timeout=20))
        still = still + 1 if count() > 64 * 1024 and count() - before < 4096 else 0  # the answers alone
        before = count()


def test_a_full_disk_under_a_payload_ends_the_coordinator_and_the_site_is_told_to_come_again(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = bytes(1000)
    sizes = (RoundSizes(len(data), len(data), range(0)),)
    monkeypatch.setattr(GlobalModel, "sizes", lambda _: sizes)
    tree = BlobTree(blob_leaves(data), len(data))
    key = house.ward.folder.blobs / "incoming" / f"{tree.digest}.{len(data)}.key"
    key.symlink_to("/dev/full")  # a device on which every write finds no space

    async def run() -> None:
        async with (
            house.served() as federation,
            house.stub(federation.port, house.certificate("site-a")) as stub,
        ):
            call = stub.PutChunk(
                pb.PutChunkRequest(
                    digest=tree.digest, total_bytes=len(data), index=0, data=data, proof=tree.proof(0)
                )
            )
            error = await failure(call)
            assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "stopping")
            with pytest.raises(
                StoreError, match=r"No space left on device.*nothing that was acknowledged is lost"
            ):
                await federation.run()

    asyncio.run(run())


@pytest.mark.parametrize("published", [False, True])
def test_members_fetch_uploads_and_opened_shares_of_a_published_sum_only(
    tmp_path: Path, published: bool
) -> None:
    """R3.2.3: before the sum is in the log an upload is nobody's to fetch, a dropped site's never."""
    house = House(tmp_path)
    ward = house.ward
    ward.start()
    ward.run(lambda s: s.session is not None and s.session.step == "upload" and bool(s.session.updates))
    late = ward.put(ward.hospital("site-d"), b"\x01" * ward.model.sizes()[0].ring)
    ward.hospital("site-d").refuses.add("upload")
    # With the third answer the coordinator that is served below would publish at once.
    state = ward.run(lambda s: s.session is not None and len(s.session.responses) == 2)
    if published:
        state = ward.run(lambda s: s.session is not None and s.session.step == "aggregate")
    session = state.session
    assert session is not None
    ward.store.close()

    async def act(stub: Any) -> None:
        evidence = [*session.u3.values(), *session.responses.values()]
        open_to_members = [*session.u1.values(), *session.u2.values()]
        for digest in [*open_to_members, *([session.ring, *evidence] if published else [])]:
            reply = await stub.GetChunk(pb.GetChunkRequest(digest=digest))
            verify_chunk(
                digest=digest,
                total_bytes=reply.total_bytes,
                index=0,
                data=reply.data,
                proof=list(reply.proof),
            )
        for digest in [late, *([] if published else evidence)]:
            assert ward.blobs.size(digest) is not None
            error = await failure(stub.GetChunk(pb.GetChunkRequest(digest=digest)))
            assert error.details() == "unknown_blob"

    with_site(house, "site-a", act)


def test_one_site_cannot_hold_many_streams(house: House) -> None:
    async def act(stub: Any) -> None:
        streams = [stub.Watch(pb.WatchRequest(from_index=0)) for _ in range(4)]
        for stream in streams:
            await anext(aiter(stream))
        error = await failure(anext(aiter(stub.Watch(pb.WatchRequest(from_index=0)))))
        assert (error.code(), error.details()) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many")
        assert isinstance(_error_of(error, "x"), TransportError), "lines that broke unheard end no agent"
        streams[0].cancel()
        while True:  # the site tries again, and gets in once an old stream is given up
            try:
                await anext(aiter(stub.Watch(pb.WatchRequest(from_index=0))))
                break
            except grpc.aio.AioRpcError as refused:
                assert refused.details() in {"too_many", "too_fast"}

    with_site(house, "site-a", act)


def test_an_elliptic_key_is_all_an_authority_needs() -> None:
    authority = Authority.create("x" * 100, now=NOW)
    assert isinstance(authority.certificate.public_key(), ec.EllipticCurvePublicKey)
    assert "key" not in repr(authority).lower()
