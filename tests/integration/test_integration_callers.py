"""Every call at the real listeners is decided on by certificate and limits, also of what nobody serves."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_coordinator import certificate_commands, metrics, peer_limits, transport
from fedmedlora_coordinator.runtime import Federation, _start_enrolment
from fedmedlora_protos import wire
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_protos.v1 import federation_pb2_grpc as rpc
from fedmedlora_testkit.house import House
from fedmedlora_testkit.rehearsal import free_port

import grpc  # isort: skip - after fedmedlora_protos, which takes TLS 1.2 away
from grpc_health.v1 import health_pb2, health_pb2_grpc  # isort: skip - it imports grpc

Pair = tuple[bytes, bytes]
SERVING = health_pb2.HealthCheckResponse.ServingStatus.Value("SERVING")
METHODS = ("GetChunk", "Confirm", "Renew", "Health/Check", "Health/Watch", "unknown")
AT_ONCE = 8  # as many as a connection may have


@asynccontextmanager
async def channel(house: House, port: int, pair: Pair | None) -> AsyncIterator[grpc.aio.Channel]:
    """A connection of its own."""
    given = grpc.ssl_channel_credentials(house.authority.pem, *(pair or ()))
    options = (
        *wire.CHANNEL_OPTIONS,
        ("grpc.ssl_target_name_override", wire.SERVER_NAME),
        ("grpc.use_local_subchannel_pool", 1),
    )
    async with grpc.aio.secure_channel(f"127.0.0.1:{port}", given, options=options) as found:
        yield found


def call(found: grpc.aio.Channel, method: str) -> Any:
    """Begin one call of a method, in its smallest form."""
    if method == "GetChunk":
        return rpc.FederationStub(found).GetChunk(pb.GetChunkRequest(digest="0" * 64), timeout=60)
    if method == "Confirm":
        return rpc.CertificatesStub(found).Confirm(pb.ConfirmRequest(), timeout=60)
    if method == "Renew":
        return rpc.CertificatesStub(found).Renew(pb.RenewRequest(), timeout=60)
    health = health_pb2_grpc.HealthStub(found)
    if method == "Health/Check":
        return health.Check(health_pb2.HealthCheckRequest(), timeout=60)
    if method == "Health/Watch":
        return anext(aiter(health.Watch(health_pb2.HealthCheckRequest(), timeout=60)))
    nothing: Any = found.unary_unary("/fedmedlora.v1.Federation/Nothing")
    return nothing(b"", timeout=60)


async def outcome(found: grpc.aio.Channel, method: str) -> str:
    """What one call came to: the reason of its refusal, or "answered"."""
    try:
        await call(found, method)
    except grpc.aio.AioRpcError as error:
        return str(error.details())
    return "answered"


async def outcomes(found: grpc.aio.Channel, method: str, count: int) -> list[str]:
    """What some calls at once came to."""
    return await asyncio.gather(*(outcome(found, method) for _ in range(count)))


def count_of(name: str, **labels: str) -> float:
    return metrics.REGISTRY.get_sample_value(f"fedmedlora_coordinator_{name}_total", labels) or 0.0


def make_refusals_few(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two refusals at once and two a second; the others wait a moment only, for the test's sake."""
    monkeypatch.setattr(peer_limits, "REFUSALS_PER_SECOND", 2.0)
    monkeypatch.setattr(peer_limits, "CALL_BURST_SECONDS", 1.0)
    monkeypatch.setattr(peer_limits, "REFUSAL_SECONDS", 0.2)


@pytest.mark.parametrize("method", METHODS)
def test_a_revoked_certificate_gets_no_answer_and_few_refusals_whatever_it_calls(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R2.1.8, R3.1.6
    make_refusals_few(monkeypatch)
    house = House(tmp_path)

    async def act(federation: Federation) -> None:
        pair = house.certificate("site-b")
        certificate_commands.revoke(house.ward.folder.root, "site-b", "key-compromised")
        federation._admission.refresh()
        async with channel(house, federation.port, pair) as found:
            said = await outcomes(found, method, AT_ONCE)
        assert set(said) == {"certificate_revoked", "too_fast"}

    house.serve(act)


@pytest.mark.parametrize("method", ["Confirm", "Renew", "Health/Check", "unknown"])
def test_every_call_counts_for_its_site_and_so_does_the_connection_it_came_by(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R3.1.6
    make_refusals_few(monkeypatch)
    house = House(tmp_path)
    house.with_peers(connections_per_site=1, calls_per_second=2.0)

    async def act(federation: Federation) -> None:
        pair = house.certificate("site-b")
        async with (
            channel(house, federation.port, pair) as one,
            channel(house, federation.port, pair) as other,
        ):
            first = await outcome(one, method)
            assert first not in ("too_fast", "too_many")
            assert await outcome(other, method) == "too_many"
            assert "too_fast" in await outcomes(one, method, AT_ONCE)
        async with channel(house, federation.port, house.certificate("site-c")) as third:
            assert await outcome(third, method) == first

    house.serve(act)


@pytest.mark.parametrize("method", ["Health/Watch", "unknown"])
def test_a_member_that_asks_for_what_is_not_there_is_slowed_down_and_not_locked_out(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_refusals_few(monkeypatch)
    house = House(tmp_path)

    async def act(federation: Federation) -> None:
        before, refused = (
            count_of("limited_calls", limit="rate"),
            count_of("refused_calls", reason="unsupported"),
        )
        async with channel(house, federation.port, house.certificate("site-b")) as found:
            assert await outcomes(found, method, AT_ONCE) == ["unsupported"] * AT_ONCE
            assert count_of("limited_calls", limit="rate") > before
            assert count_of("refused_calls", reason="unsupported") == refused + AT_ONCE
            assert await outcome(found, "Confirm") == "answered"

    house.serve(act)


def test_a_probe_is_told_and_never_refused_at_a_pace_no_probe_has(tmp_path: Path) -> None:
    """One that keeps its connection, and one that makes a new one each time, of a site in no study."""
    house = House(tmp_path)

    async def act(federation: Federation) -> None:
        federation._probes.ready = True
        pair = house.certificate("probe")
        async with channel(house, federation.port, pair) as found:
            stub = health_pb2_grpc.HealthStub(found)
            for service in ("", "fedmedlora.v1.Federation") * 20:
                reply = await stub.Check(health_pb2.HealthCheckRequest(service=service), timeout=10)
                assert reply.status == SERVING
            with pytest.raises(grpc.aio.AioRpcError) as unknown:
                await stub.Check(health_pb2.HealthCheckRequest(service="other"), timeout=10)
            assert unknown.value.code() is grpc.StatusCode.NOT_FOUND
            with pytest.raises(grpc.aio.AioRpcError) as watched:
                await anext(aiter(stub.Watch(health_pb2.HealthCheckRequest(), timeout=10)))
            assert watched.value.code() is grpc.StatusCode.UNIMPLEMENTED
        for _ in range(8):
            async with channel(house, federation.port, pair) as found:
                assert await outcome(found, "Health/Check") == "answered"

    house.serve(act)


def test_connections_of_a_revoked_certificate_take_no_room_from_the_site_itself(tmp_path: Path) -> None:
    house = House(tmp_path)
    house.with_peers(connections_per_site=1)

    async def act(federation: Federation) -> None:
        async with channel(house, federation.port, house.certificate("site-b")) as stolen:
            assert await outcome(stolen, "Confirm") == "answered"
            certificate_commands.revoke(house.ward.folder.root, "site-b", "key-compromised")
            federation._admission.refresh()
            assert await outcome(stolen, "Confirm") == "certificate_revoked"
            async with channel(house, federation.port, house.certificate("site-b")) as own:
                assert await outcome(own, "Confirm") == "answered"

    house.serve(act)


def enrol(house: House, act: Callable[[int], Awaitable[None]]) -> None:
    """Act on a coordinator that only enrols, at a port."""
    port = free_port()
    listeners = house.settings.coordinator.model_copy(update={"enrolment_listen": f"127.0.0.1:{port}"})
    settings = house.settings.model_copy(update={"coordinator": listeners})

    async def run() -> None:
        async with AsyncExitStack() as stack:
            await _start_enrolment(house.ward.folder, settings, stack)
            await act(port)

    asyncio.run(run())


async def asked(house: House, port: int) -> str:
    """What an honest caller with a connection of its own is told of a request without proofs."""
    async with channel(house, port, None) as found:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await rpc.EnrolmentStub(found).Enroll(pb.EnrollRequest(site="site-a"), timeout=20)
    return str(refused.value.details())


def test_calls_that_never_say_anything_do_not_shut_enrolment_for_others(tmp_path: Path) -> None:
    # R3.1.6
    house = House(tmp_path)

    async def act(port: int) -> None:
        expected = await asked(house, port)
        assert expected == "malformed"
        async with AsyncExitStack() as stack:
            held = []
            for _ in range(8):
                found = await stack.enter_async_context(channel(house, port, None))
                enroll: Any = found.stream_unary("/fedmedlora.v1.Enrolment/Enroll")
                begun = [asyncio.ensure_future(enroll().wait_for_connection()) for _ in range(8)]
                await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
                held += begun
            for _ in range(4):
                assert await asked(house, port) == expected
            for one in held:
                one.cancel()

    enrol(house, act)


@pytest.mark.parametrize("version", ["1", "77"])
def test_what_nobody_serves_is_refused_few_times_at_enrolment(
    version: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R3.1.6
    make_refusals_few(monkeypatch)
    house = House(tmp_path)

    async def act(port: int) -> None:
        async with channel(house, port, None) as found:
            nothing: Any = found.unary_unary("/x.Y/Enroll")
            metadata = (("fedmedlora-protocol", version),)
            told = await asyncio.gather(
                *(nothing(b"", timeout=60, metadata=metadata) for _ in range(6)), return_exceptions=True
            )
        said = [str(error.details()) for error in told if isinstance(error, grpc.aio.AioRpcError)]
        assert len(said) == 6
        assert set(said) == {"unsupported", "too_fast"}

    enrol(house, act)


def test_another_version_at_enrolment_is_told_so_and_slowed_down(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_refusals_few(monkeypatch)
    monkeypatch.setattr(transport, "REFUSED_VERSION_SECONDS", 0.0)  # what is tested comes on top of it
    house = House(tmp_path)

    async def act(port: int) -> None:
        before = count_of("limited_calls", limit="rate")
        async with channel(house, port, None) as found:
            for _ in range(4):
                with pytest.raises(grpc.aio.AioRpcError, match="wrong_version"):
                    await rpc.EnrolmentStub(found).Enroll(
                        pb.EnrollRequest(), timeout=60, metadata=(("fedmedlora-protocol", "77"),)
                    )
        assert count_of("limited_calls", limit="rate") > before

    enrol(house, act)
