"""Limits per peer at the real listener: who is over one is refused, and the others do not feel it."""

from __future__ import annotations

import asyncio
import logging
import socket
from pathlib import Path

import pytest

from fedmedlora_coordinator import metrics, peer_limits
from fedmedlora_coordinator.runtime import Federation
from fedmedlora_protos import wire
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_testkit.house import House

import grpc  # isort: skip - after fedmedlora_protos, which takes TLS 1.2 away

ATTACKER = "127.0.0.66"
WITHOUT = {"connections_per_address": 4096, "new_connections_per_second": 4096.0, "calls_per_second": 1e6}


def knock(port: int, count: int) -> list[socket.socket]:
    """Open TCP connections from another address and say nothing."""
    found = []
    for _ in range(count):
        caller = socket.socket()
        caller.bind((ATTACKER, 0))
        caller.settimeout(5)
        caller.connect(("127.0.0.1", port))
        found.append(caller)
    return found


def let_in(callers: list[socket.socket]) -> int:
    """How many of them were not closed again."""
    there = 0
    for caller in callers:
        caller.settimeout(0.05)
        try:
            there += caller.recv(1) != b""
        except TimeoutError:
            there += 1
        except OSError:
            pass
    return there


async def answered(house: House, federation: Federation) -> None:
    """An honest site, from its own address, is answered."""
    async with house.stub(federation.port, house.certificate("site-a")) as stub:
        reply = await anext(aiter(stub.Watch(pb.WatchRequest(from_index=0), timeout=10)))
        assert reply.notes


@pytest.mark.parametrize(("changes", "most"), [({}, 16), (WITHOUT, 200)])
def test_silent_connections_of_one_address_are_few_and_without_the_limits_all(
    tmp_path: Path, changes: dict[str, object], most: int, caplog: pytest.LogCaptureFixture
) -> None:
    # R3.1.5
    house = House(tmp_path)
    house.with_peers(**changes)

    async def act(federation: Federation) -> None:
        callers = await asyncio.to_thread(knock, federation.port, 200)
        await answered(house, federation)
        assert await asyncio.to_thread(let_in, callers) == most
        for caller in callers:
            caller.close()

    with caplog.at_level(logging.WARNING):
        house.serve(act)
    lines = [line for line in caplog.messages if ATTACKER in line]
    assert len(lines) == (0 if changes else 1), "one line for two hundred refusals"
    if lines:
        assert lines[0] == f"refused a call: peer={ATTACKER} limit=connections_per_address count=1"


def test_a_site_that_floods_is_slowed_down_and_the_others_are_answered(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.with_peers(calls_per_second=5.0)

    async def act(federation: Federation) -> None:
        async with house.stub(federation.port, house.certificate("site-b")) as stub:
            nothing = pb.GetChunkRequest(digest="0" * 64)
            # By its answer the client has heard how many streams it may open; those beyond would be reset.
            first = await asyncio.gather(stub.GetChunk(nothing, timeout=20), return_exceptions=True)
            calls = [stub.GetChunk(nothing, timeout=20) for _ in range(15)]
            found = [*first, *await asyncio.gather(*calls, return_exceptions=True)]
            await answered(house, federation)
        reasons = [error.details() for error in found if isinstance(error, grpc.aio.AioRpcError)]
        assert reasons.count("unknown_blob") >= 10
        assert "too_fast" in reasons
        refused = [
            e.code() for e in found if isinstance(e, grpc.aio.AioRpcError) and e.details() == "too_fast"
        ]
        assert set(refused) == {grpc.StatusCode.RESOURCE_EXHAUSTED}

    house.serve(act)


def limited(limit: str) -> float:
    return metrics.REGISTRY.get_sample_value(
        "fedmedlora_coordinator_limited_calls_total", {"limit": limit}
    ) or 0.0  # fmt: skip


def unread(method: str) -> float:
    return metrics.REGISTRY.get_sample_value(
        "fedmedlora_coordinator_unread_calls_total", {"method": method}
    ) or 0.0  # fmt: skip


def test_who_speaks_no_tls_is_gone_at_once_and_who_is_silent_after_a_while(tmp_path: Path) -> None:
    # R3.1.5
    house = House(tmp_path)
    house.with_peers(handshake_seconds=1)

    async def act(federation: Federation) -> None:
        before = limited("not_tls"), limited("slow")
        silent, other, begun = await asyncio.to_thread(knock, federation.port, 3)
        other.sendall(b"GET / HTTP/1.1\r\n\r\n")
        begun.sendall(b"\x16\x03\x01\x02\x00\x01")
        for caller in (other, silent, begun):
            assert await asyncio.to_thread(ended, caller)
        await answered(house, federation)
        assert limited("not_tls") == before[0] + 1
        assert limited("slow") == before[1] + 2

    house.serve(act)


def ended(caller: socket.socket) -> bool:
    """Whether the other side ends the connection within the caller's patience."""
    with caller:
        caller.settimeout(30)
        try:
            return caller.recv(1) == b""
        except ConnectionResetError:
            return True


def test_a_member_that_is_refused_again_and_again_is_slowed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R3.1.5
    monkeypatch.setattr(peer_limits, "REFUSALS_PER_SECOND", 2.0)
    house = House(tmp_path)

    async def act(federation: Federation) -> None:
        before = limited("rate")
        async with house.stub(federation.port, house.certificate("site-b")) as stub:
            for _ in range(6):  # far within what a site may call
                with pytest.raises(grpc.aio.AioRpcError, match="unknown_blob"):
                    await stub.GetChunk(pb.GetChunkRequest(digest="0" * 64), timeout=60)
            assert limited("rate") > before
            assert await anext(aiter(stub.Watch(pb.WatchRequest(from_index=0), timeout=60))), "not locked out"

    house.serve(act)


def test_a_site_that_is_no_member_is_refused_a_few_times_and_then_not_read_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R3.1.5
    monkeypatch.setattr(peer_limits, "REFUSALS_PER_SECOND", 1.0)
    house = House(tmp_path)

    async def act(federation: Federation) -> None:
        async with house.stub(federation.port, house.certificate("stranger")) as stub:
            calls = [stub.GetChunk(pb.GetChunkRequest(digest="0" * 64), timeout=60) for _ in range(16)]
            found = await asyncio.gather(*calls, return_exceptions=True)
            await answered(house, federation)
        said = [error.details() or "" for error in found if isinstance(error, grpc.aio.AioRpcError)]
        # A call beyond the streams of a connection may be sent back by gRPC before anybody judges it.
        reasons = {reason for reason in said if "RST_STREAM" not in reason}
        assert len(said) == 16
        assert reasons == {"not_a_member", "too_fast"}

    house.serve(act)


def test_a_giant_message_and_a_giant_header_are_refused(tmp_path: Path) -> None:
    house = House(tmp_path)

    async def act(federation: Federation) -> None:
        async with house.stub(federation.port, house.certificate("site-b")) as stub:
            before = unread("Submit")
            with pytest.raises(grpc.aio.AioRpcError) as giant:
                await stub.Submit(pb.SubmitRequest(note=bytes(wire.CHUNK_BYTES * 2)), timeout=20)
            assert giant.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            await answered(house, federation)
            assert unread("Submit") == before + 1
            with pytest.raises(grpc.aio.AioRpcError) as header:
                await stub.Submit(pb.SubmitRequest(note=b"x"), metadata=(("x", "y" * 20_000),), timeout=20)
            assert header.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
        await answered(house, federation)

    house.serve(act)
