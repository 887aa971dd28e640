"""An older and a newer site at a real listener: agreed, or refused with one sentence at both ends."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmedlora_coordinator import transport
from fedmedlora_coordinator.version_gate import VersionGate
from fedmedlora_protos.versions import Speaks
from fedmedlora_site.client import Credentials, FederationClient
from fedmedlora_site.config import NetworkSection
from fedmedlora_site.errors import RejectedError
from fedmedlora_site.protocol_version import VersionError
from fedmedlora_testkit.house import House

NETWORK = NetworkSection(reconnect_first_seconds=0.05, reconnect_most_seconds=0.1)


class Doorstep(House):
    """A ward's coordinator behind its real listener, and sites that claim what a test wants."""

    def site(self, port: int, speaks: Speaks | None) -> FederationClient:
        key, certificate = self.certificate("site-a")
        credentials = Credentials(self.authority.pem, certificate, key)
        return FederationClient(f"127.0.0.1:{port}", credentials, NETWORK, speaks=speaks)

    def first_note(self, speaks: Speaks | None) -> bytes:
        """Watch as a site that claims to speak something, and return the first entry of the log."""

        async def run() -> bytes:
            async with self.served() as federation:
                client = self.site(federation.port, speaks)
                try:
                    async for batch in client.watch(0):
                        if batch.notes:
                            return batch.notes[0]
                finally:
                    await client.close()
            raise AssertionError("the stream ended")

        return asyncio.run(run())

    def submitted(self, speaks: Speaks) -> None:
        """Hand in a note as a site that claims to speak something."""

        async def run() -> None:
            async with self.served() as federation:
                client = self.site(federation.port, speaks)
                try:
                    await client.submit(b"not an event")
                finally:
                    await client.close()

        asyncio.run(run())


@pytest.fixture
def house(tmp_path: Path) -> Iterator[Doorstep]:
    yield Doorstep(tmp_path)


def gate(monkeypatch: pytest.MonkeyPatch, speaks: Speaks) -> None:
    """Have the coordinator be another release."""
    monkeypatch.setattr(transport, "VersionGate", lambda event, **more: VersionGate(event, speaks, **more))


def test_a_newer_site_that_still_speaks_our_version_gets_the_log(house: Doorstep) -> None:
    # R3.3.1
    assert house.first_note(Speaks(1, 7, "2.0.0"))


def test_a_site_that_is_too_new_is_told_to_wait_for_the_coordinator(
    house: Doorstep, caplog: pytest.LogCaptureFixture
) -> None:
    # R3.3.2
    with caplog.at_level(logging.WARNING), pytest.raises(VersionError) as caught:
        house.first_note(Speaks(2, 3, "0.9.0"))
    sentence = str(caught.value)
    assert "the site speaks protocol 2 to 3 (fedmedlora 0.9.0), the coordinator protocol 1" in sentence
    assert sentence.endswith("upgrade the coordinator")
    # Both operators read the same line.
    assert (
        f"peer=site 'site-a' limit=wrong_version count=1 {sentence}" in caplog.text
    )  # both operators read the same line


def test_a_site_that_is_too_old_is_told_to_upgrade(house: Doorstep, monkeypatch: pytest.MonkeyPatch) -> None:
    gate(monkeypatch, Speaks(2, 3, "0.9.0"))
    with pytest.raises(
        VersionError, match=r"coordinator protocol 2 to 3 \(fedmedlora 0\.9\.0\).*upgrade the site"
    ):
        house.first_note(None)


def test_a_message_of_another_version_is_refused_before_it_is_read(
    house: Doorstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(VersionError, match="upgrade the coordinator"):
        house.submitted(Speaks(2, 2, "0.9.0"))


def test_without_the_gate_the_message_would_be_read(house: Doorstep, monkeypatch: pytest.MonkeyPatch) -> None:
    async def open_gate(self: VersionGate, continuation: object, details: object) -> object:
        return await continuation(details)  # type: ignore[operator]

    monkeypatch.setattr(VersionGate, "intercept_service", open_gate)
    with pytest.raises(RejectedError, match=r"bad_event|malformed|bad_signature"):
        house.submitted(Speaks(2, 2, "0.9.0"))


def test_a_coordinator_that_takes_an_unknown_version_is_not_believed(
    house: Doorstep, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R3.3.3
    async def claims(self: VersionGate, continuation: object, details: object) -> object:
        from fedmedlora_coordinator.version_gate import _answering

        handler = await continuation(details)  # type: ignore[operator]
        return _answering(handler, (("fedmedlora-protocol", "9"),))

    monkeypatch.setattr(VersionGate, "intercept_service", claims)
    with pytest.raises(VersionError, match="the coordinator protocol 9"):
        house.first_note(None)


def test_a_site_without_the_rule_is_served_while_version_1_is_spoken(house: Doorstep) -> None:
    class Silent(Speaks):
        def metadata(self) -> tuple[tuple[str, str], ...]:
            return ()

    assert house.first_note(Silent(1, 1, "0"))
