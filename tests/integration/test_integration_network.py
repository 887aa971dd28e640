"""Bad lines between one site and a real listener: cuts, slow lines, connections that died without a word."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.blob import BlobTree, blob_leaves
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_coordinator import transport
from fedmedlora_coordinator.model import GlobalModel, RoundSizes
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.progress import FLOOR_BYTES_PER_SECOND
from fedmedlora_coordinator.runtime import Federation
from fedmedlora_site import client as site_client
from fedmedlora_site.blobs import UploadFolder
from fedmedlora_site.client import Credentials, FederationClient
from fedmedlora_site.config import NetworkSection
from fedmedlora_site.downloads import DownloadFolder
from fedmedlora_site.errors import TransportError
from fedmedlora_testkit.house import House
from fedmedlora_testkit.relay import Relay

DATA = bytes(range(256)) * (12 << 12)  # 12 MiB
TREE = BlobTree(blob_leaves(DATA), len(DATA))
QUICK = NetworkSection(reconnect_first_seconds=0.01, reconnect_most_seconds=0.05)
MOST_SENT = 1.2  # times the payload, whatever was cut


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    """A coordinator whose study has an update of 12 MiB, which is nobody's secret here."""
    sizes = (RoundSizes(len(DATA), len(DATA), range(0)),)
    monkeypatch.setattr(GlobalModel, "sizes", lambda _: sizes)
    monkeypatch.setattr(Payloads, "may_fetch", lambda *_: True)
    return House(tmp_path)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep-alive of 1 and 4 seconds at both ends instead of 20 and 80, so that a test need not wait."""
    quick = {"grpc.keepalive_time_ms": 1000, "grpc.keepalive_timeout_ms": 4000}
    quick["grpc.http2.ping_timeout_ms"] = 4000
    server = {**dict(transport.SERVER_OPTIONS), **quick}
    server["grpc.http2.min_ping_interval_without_data_ms"] = 100
    monkeypatch.setattr(transport, "SERVER_OPTIONS", tuple(server.items()))
    monkeypatch.setattr(site_client, "_OPTIONS", list({**dict(site_client._OPTIONS), **quick}.items()))


class Line:
    """A site of the house behind a relay; a new client is a new process of the site."""

    def __init__(self, house: House, relay: Relay, folder: Path, site: str) -> None:
        key, chain = house.certificate(site)
        self._credentials = Credentials(house.authority.pem, chain, key)
        self._folder = folder
        self.relay = relay

    def client(self) -> FederationClient:
        downloads = DownloadFolder(self._folder / "downloads")
        return FederationClient(self.relay.address, self._credentials, QUICK, downloads)


def on_line(
    house: House, folder: Path, act: Callable[[Federation, Line], Awaitable[None]], **line: Any
) -> None:
    async def run() -> None:
        async with house.served() as federation:
            relay = Relay(federation.port, **line)
            await relay.open()
            try:
                await act(federation, Line(house, relay, folder, "site-a"))
            finally:
                await relay.close()

    asyncio.run(run())


async def insist(attempt: Callable[[], Awaitable[Any]]) -> Any:
    """What the agent does: try again as long as only the connection breaks."""
    for _ in range(20):
        try:
            return await attempt()
        except TransportError:
            continue
    raise AssertionError("the line never held")


def test_an_upload_over_a_line_that_is_cut_again_and_again_goes_on_at_the_chunk(
    house: House, tmp_path: Path
) -> None:
    # R3.2.5
    upload = UploadFolder(tmp_path / "uploads").store(DATA)

    async def act(federation: Federation, line: Line) -> None:
        client = line.client()
        await insist(lambda: client.put_blob(upload))
        await client.close()
        assert federation._blobs.size(TREE.digest) == len(DATA)
        assert line.relay.connections == 4
        assert len(DATA) < line.relay.up < MOST_SENT * len(DATA)

    on_line(house, tmp_path, act, cuts=[int(3.4 * CHUNK_BYTES)] * 3)


def test_a_cut_download_goes_on_at_the_chunk_in_another_process(house: House, tmp_path: Path) -> None:
    # R3.2.6
    received: list[int] = []

    async def act(federation: Federation, line: Line) -> None:
        for chunk in (DATA[at : at + CHUNK_BYTES] for at in range(0, len(DATA), CHUNK_BYTES)):
            index = len(received)
            federation._blobs.put_chunk(
                "site-a", digest=TREE.digest, total_bytes=len(DATA), index=index, data=chunk,
                proof=tuple(TREE.proof(index)),
            )  # fmt: skip
            received.append(index)

        async def attempt() -> Any:
            client = line.client()
            try:
                return await client.get_blob(TREE.digest, total_bytes=len(DATA), resumed=True)
            finally:
                await client.close()

        assert await insist(attempt) == DATA
        assert line.relay.connections == 4
        assert line.relay.down < MOST_SENT * len(DATA)
        assert not list((tmp_path / "downloads").iterdir())

    on_line(house, tmp_path, act, cuts=[int(3.4 * CHUNK_BYTES)] * 3)


@pytest.mark.usefixtures("impatient")
def test_a_line_far_slower_than_keep_alive_is_not_taken_for_dead(house: House, tmp_path: Path) -> None:
    """A chunk takes as long as on the slowest line that is promised, at a twentieth of all times (R3.1.4)."""
    upload = UploadFolder(tmp_path / "uploads").store(DATA[:CHUNK_BYTES])

    async def act(federation: Federation, line: Line) -> None:
        client = line.client()
        began = time.monotonic()
        await client.put_blob(upload)
        await client.close()
        assert time.monotonic() - began > 3
        assert line.relay.connections == 1

    on_line(house, tmp_path, act, per_second=20 * FLOOR_BYTES_PER_SECOND)


@pytest.mark.usefixtures("impatient")
def test_a_connection_that_died_without_a_word_is_found_at_both_ends(house: House, tmp_path: Path) -> None:
    # R3.1.4
    async def act(federation: Federation, line: Line) -> None:
        client = line.client()
        watching = aiter(client.watch(0))
        await anext(watching)
        assert federation._presence.is_connected("site-a")
        line.relay.fall_silent()
        began = time.monotonic()
        with pytest.raises(TransportError):
            while True:
                await asyncio.wait_for(anext(watching), 12)
        while federation._presence.is_connected("site-a"):
            await asyncio.sleep(0.05)
            assert time.monotonic() - began < 15
        await client.close()

    on_line(house, tmp_path, act)
