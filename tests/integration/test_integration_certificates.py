"""Certificates over real TLS: renewed under a running connection, revoked on an open stream, expired."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_coordinator import certificate_commands
from fedmedlora_coordinator.authority import LEAF_DAYS
from fedmedlora_coordinator.runtime import Federation
from fedmedlora_coordinator.server_certificate import renew_server
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_site.client import FederationClient
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.connection import Connection
from fedmedlora_site.errors import CertificateError, RejectedError, TransportError
from fedmedlora_site.renewal import renew, renew_over
from fedmedlora_site.server_check import server_problem
from fedmedlora_site.tls_identity import TlsIdentity
from fedmedlora_testkit.certified import certified_folder, certify
from fedmedlora_testkit.house import NOW, House

import grpc  # isort: skip - after fedmedlora_protos

DAY = dt.timedelta(days=1)


class Line:
    """One site's folder and connection to a house that is served."""

    def __init__(self, house: House, federation: Federation, root: Path) -> None:
        self.house = house
        self.port = federation.port
        self.folder = certified_folder(root, "site-a", house.authority, f"127.0.0.1:{federation.port}")
        self.config = SiteConfig.load(self.folder.config)
        self.signer = house.ward.hospital("site-a").signer
        (self.folder.keys / "event.seed").write_bytes(bytes([1]) * 32)  # the hospital's, as enrolled
        self.certify()

    def certify(self, **issue: Any) -> None:
        """Another certificate for the key, known to the coordinator."""
        self.house.enter("site-a", certify(self.folder, "site-a", self.house.authority, **issue))

    def connection(self) -> Connection:
        return Connection(self.folder, self.config, self.signer)

    def client(self, identity: TlsIdentity) -> FederationClient:
        return FederationClient(f"127.0.0.1:{self.port}", identity.credentials, self.config.network)


def with_line(tmp_path: Path, act: Callable[[Line, Federation], Awaitable[None]]) -> None:
    house = House(tmp_path)

    async def run() -> None:
        async with house.served() as federation:
            await act(Line(house, federation, tmp_path / "site"), federation)

    asyncio.run(run())


@asynccontextmanager
async def watching(connection: Connection) -> AsyncIterator[Any]:
    """An open stream that has brought its first batch."""
    async with aclosing(connection.watch(0)) as stream:  # type: ignore[type-var]  # it is a generator
        await asyncio.wait_for(anext(stream), 20)
        yield stream


async def refusal(call: Awaitable[Any]) -> str:
    with pytest.raises(RejectedError) as caught:
        await call
    return caught.value.reason


async def until_answered(connection: Connection) -> str:
    """Try again, as an agent does, and return the reason of the first answer."""
    while True:
        try:
            return await refusal(connection.get_chunk("0" * 64, 0, total_bytes=1))
        except TransportError:
            continue


async def confirmed(client: FederationClient) -> str:
    try:
        return await client.confirm()
    finally:
        await client.close()


def test_a_connection_renews_by_itself_when_less_than_a_third_is_left_and_goes_on(tmp_path: Path) -> None:
    async def act(line: Line, federation: Federation) -> None:
        line.certify(now=NOW - (LEAF_DAYS - 200) * DAY)
        old = TlsIdentity.load(line.folder)
        connection = line.connection()
        stream = connection.watch(0)
        with pytest.raises(TransportError, match="was renewed"):
            while True:
                await asyncio.wait_for(anext(stream), 20)
        new = TlsIdentity.load(line.folder)
        assert new.ends > NOW + 800 * DAY
        assert new.key_pem != old.key_pem
        async with watching(connection):  # the first use of the new one ends the old one
            assert await refusal(confirmed(line.client(old))) == "certificate_renewed"
            assert await refusal(connection.get_chunk("0" * 64, 0, total_bytes=1)) == "unknown_blob"
        await connection.close()

    with_line(tmp_path, act)


def test_a_site_may_keep_renewals_to_itself(tmp_path: Path) -> None:
    async def act(line: Line, federation: Federation) -> None:
        line.certify(now=NOW - (LEAF_DAYS - 200) * DAY)
        held = TlsIdentity.load(line.folder)
        manual = line.config.certificate.model_copy(update={"renew": False})
        line.config = line.config.model_copy(update={"certificate": manual})
        connection = line.connection()
        async with watching(connection):
            await refusal(connection.get_chunk("0" * 64, 0, total_bytes=1))
        assert TlsIdentity.load(line.folder) == held
        await connection.close()

    with_line(tmp_path, act)


def test_site_renew_beside_a_running_connection_moves_it_to_the_new_certificate(tmp_path: Path) -> None:
    # R2.1.7
    async def act(line: Line, federation: Federation) -> None:
        connection = line.connection()
        async with watching(connection) as stream:
            made = await asyncio.to_thread(renew, line.folder.root)
            assert made.confirmed
            with pytest.raises(TransportError, match="was renewed"):  # and no CertificateError
                await asyncio.wait_for(anext(stream), 20)
        async with watching(connection):
            pass
        await connection.close()

    with_line(tmp_path, act)


def test_a_certificate_that_another_holder_of_the_key_renewed_stops_the_site_with_a_line(
    tmp_path: Path,
) -> None:
    """Who has both keys can renew; the site notices at once, because its own certificate ends with that."""

    async def act(line: Line, federation: Federation) -> None:
        thief = certified_folder(tmp_path / "thief", "site-a", line.house.authority, "127.0.0.1:1")
        for path in ("keys/tls.key", "tls/cert.pem"):
            (thief.root / path).write_bytes((line.folder.root / path).read_bytes())
        connection = line.connection()
        async with watching(connection) as stream:
            client = line.client(TlsIdentity.load(thief))
            await renew_over(client, thief, line.signer)
            await client.close()
            await confirmed(line.client(TlsIdentity.load(thief)))
            with pytest.raises(CertificateError, match=r"somebody has your keys.*revoke site-a"):
                await asyncio.wait_for(anext(stream), 20)
        await connection.close()

    with_line(tmp_path, act)


def test_a_revoked_site_loses_its_open_stream_and_every_call_also_after_a_restart(tmp_path: Path) -> None:
    # R2.1.8
    house = House(tmp_path)
    root = house.ward.folder.root
    pair = house.certificate("site-a")

    async def run() -> None:
        async with house.served() as federation, house.stub(federation.port, pair) as stub:
            stream = stub.Watch(pb.WatchRequest(from_index=0))
            await asyncio.wait_for(stream.read(), 20)
            certificate_commands.revoke(root, "site-a", "key-compromised")
            with pytest.raises(grpc.aio.AioRpcError) as ended:
                await asyncio.wait_for(stream.read(), 20)
            assert ended.value.details() == "certificate_revoked"
            assert await refused(stub) == "certificate_revoked"
            assert federation._presence.connected() == ()
        async with house.served() as federation, house.stub(federation.port, pair) as stub:
            assert await refused(stub) == "certificate_revoked"
            certificate_commands.reinstate(root, "site-a")
            federation._admission.refresh()
            assert await refused(stub) == "unknown_blob"

    asyncio.run(run())


async def refused(stub: Any) -> str:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await stub.GetChunk(pb.GetChunkRequest(digest="0" * 64), timeout=20)
    return str(caught.value.details())


def test_a_revoked_site_ends_with_a_line_that_says_what_to_do(tmp_path: Path) -> None:
    async def act(line: Line, federation: Federation) -> None:
        connection = line.connection()
        async with watching(connection) as stream:
            certificate_commands.revoke(line.house.ward.folder.root, "site-a", "mistake")
            with pytest.raises(CertificateError, match=r"revoked this site's certificate.*reinstate site-a"):
                await asyncio.wait_for(anext(stream), 20)
        await connection.close()

    with_line(tmp_path, act)


def test_an_expired_certificate_is_refused_by_tls_and_said_by_the_site(tmp_path: Path) -> None:
    async def act(line: Line, federation: Federation) -> None:
        line.certify(now=NOW - 900 * DAY)
        with pytest.raises(TransportError):  # the protection of TLS itself, without our line
            await confirmed(line.client(TlsIdentity.load(line.folder)))
        connection = line.connection()
        for call in (connection.submit(b"x"), anext(connection.watch(0))):
            with pytest.raises(CertificateError, match=r"expired on .*invite site-a --again"):
                await call
        await connection.close()

    with_line(tmp_path, act)


def test_an_expired_server_certificate_is_named_by_the_site_and_renewed_without_a_restart(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async def act(line: Line, federation: Federation) -> None:
        folder, address = line.house.ward.folder, f"127.0.0.1:{line.port}"
        assert await asyncio.to_thread(server_problem, address, line.house.authority.pem) is None
        renew_server(folder, now=NOW - 900 * DAY)
        connection = line.connection()
        with pytest.raises(TransportError):
            await anext(connection.watch(0))
        assert "the coordinator's certificate expired on" in caplog.text
        assert "has to run `fedmedlora coordinator renew`" in caplog.text
        renew_server(folder)
        assert await asyncio.wait_for(until_answered(connection), 20) == "unknown_blob"
        await connection.close()

    with_line(tmp_path, act)


def test_a_listener_of_another_ca_is_named(tmp_path: Path) -> None:
    house, other = House(tmp_path / "a"), House(tmp_path / "b")

    async def run() -> str | None:
        async with house.served() as federation:
            address = f"127.0.0.1:{federation.port}"
            return await asyncio.to_thread(server_problem, address, other.authority.pem)

    found = asyncio.run(run())
    assert found is not None
    assert "not of this federation's CA" in found
