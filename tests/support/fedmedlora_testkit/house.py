"""A ward's coordinator behind its real federation listener: TLS, certificates, door, limits."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

from fedmedlora_coordinator import setup
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.database import transaction
from fedmedlora_coordinator.enrolment_tables import record_certificate
from fedmedlora_coordinator.ledger import Keys
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.runtime import Federation, Options
from fedmedlora_coordinator.study import RunningStudy
from fedmedlora_protos import wire
from fedmedlora_protos.v1 import federation_pb2_grpc as rpc
from fedmedlora_testkit.certificates import member_certificate
from fedmedlora_testkit.ward import Ward

import grpc  # isort: skip - after fedmedlora_protos

NOW = dt.datetime.now(dt.UTC)


class House:
    """A ward's coordinator behind its real federation listener."""

    def __init__(self, tmp_path: Path) -> None:
        self.ward = Ward(tmp_path)
        self.ward.store.close()
        folder = self.ward.folder
        self.authority = Authority.load(folder)
        listeners = self.ward.settings.coordinator.model_copy(update={"listen": "127.0.0.1:0"})
        self.settings = self.ward.settings.model_copy(update={"coordinator": listeners})
        self.keys = Keys(setup.load_event_signer(folder), setup.load_log_signer(folder))
        self.running = RunningStudy(self.ward.study, self.ward.terms, folder.study)
        Register(enrolment_database(folder)).close()

    @asynccontextmanager
    async def served(self) -> AsyncIterator[Federation]:
        async with AsyncExitStack() as stack:
            federation = Federation(self.ward.folder, self.settings, self.keys, self.running, Options())
            await federation.start(stack)
            task = asyncio.create_task(federation.run())
            try:
                yield federation
            finally:
                task.cancel()

    def with_peers(self, **changes: object) -> None:
        """Change what peers may do; for what is served from now on."""
        peers = self.settings.peers.model_copy(update=changes)
        self.settings = self.settings.model_copy(update={"peers": peers})

    def serve(self, act: Callable[[Federation], Awaitable[None]]) -> None:
        """Act on the coordinator while it serves."""

        async def run() -> None:
            async with self.served() as federation:
                await act(federation)

        asyncio.run(run())

    def certificate(
        self, site: str, authority: Authority | None = None, *, days_ago: float = 0
    ) -> tuple[bytes, bytes]:
        """(key, certificate) of a site, issued by this or another authority, now or some days ago."""
        issued = NOW - dt.timedelta(days=days_ago)
        key_pem, pem = member_certificate(authority or self.authority, site, now=issued)
        if authority is None:
            self.enter(site, pem)
        return key_pem, pem

    def enter(self, site: str, pem: bytes) -> None:
        """Put a certificate into the register, as enrolment does."""
        engine = enrolment_database(self.ward.folder).open_shared()
        with transaction(engine, "entering") as connection:
            record_certificate(connection, site, pem, NOW)
        engine.dispose()

    @asynccontextmanager
    async def stub(self, port: int, pair: tuple[bytes, bytes] | None) -> AsyncIterator[Any]:
        key, chain = pair or (None, None)
        credentials = grpc.ssl_channel_credentials(self.authority.pem, key, chain)
        options = (*wire.CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", wire.SERVER_NAME))
        async with grpc.aio.secure_channel(f"127.0.0.1:{port}", credentials, options=options) as channel:
            yield rpc.FederationStub(channel)
