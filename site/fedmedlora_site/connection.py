"""The agent's connection over the years: calls go out under the certificate that is in use on the disk.

Between two streams of the log, and while one is open, this looks whether there is a newer certificate, from
`site renew` or from a renewal of its own when less than a third of the time is left. Then it opens a channel
with the new one; calls under way end on the old channel, which is closed after them.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

from fedmedlora_audit.note import NoteSigner
from fedmedlora_protos.operating.logbook import tell
from fedmedlora_protos.wire import CERTIFICATE_REASONS
from fedmedlora_site.blobs import UploadFile
from fedmedlora_site.client import Batch, FederationClient, drawn_seconds
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.downloads import DownloadFolder
from fedmedlora_site.errors import CertificateError, FolderError, RejectedError, SiteError, TransportError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.holdings import FolderLock, Holdings
from fedmedlora_site.renewal import refused_sentence, renew_over
from fedmedlora_site.server_check import server_problem
from fedmedlora_site.tls_identity import TlsIdentity, now_utc

_LOG = logging.getLogger(__name__)
LOOK_SECONDS = 10.0  # how long a certificate of `site renew` may wait while a stream is open
PROBE_EVERY_SECONDS = 60.0  # how often a failing connection is looked into
_Answer = TypeVar("_Answer")


def dial(held: Holdings) -> Connection:
    """Make the connection to the coordinator of `site.toml`, with this site's certificate."""
    return Connection(held.folder, held.config, held.keys.event_signer)


class Connection:
    """A `client.Wire` whose certificate follows the folder.

    Args:
        folder: This site's folder.
        config: Its settings.
        signer: Its event key, which a renewal is proved with.
    """

    def __init__(self, folder: SiteFolder, config: SiteConfig, signer: NoteSigner) -> None:
        """Read the certificate; nothing is sent before the first call."""
        self._folder = folder
        self._config = config
        self._signer = signer
        self._identity = TlsIdentity.load(folder)
        self._client = self._dialled(self._identity)
        self._calls: Counter[FederationClient] = Counter()
        self._next_renewal = 0.0  # monotonic
        self._next_probe = 0.0

    async def close(self) -> None:
        """Close the channels; calls under way are cancelled."""
        for client in {self._client, *self._calls}:
            await client.close()

    async def submit(self, note: bytes) -> tuple[bytes, int]:
        """Hand in one signed event; see `FederationClient.submit`."""
        return await self._call(lambda client: client.submit(note))

    async def cosign(self, checkpoint: bytes, cosignature: bytes) -> None:
        """Hand in a cosignature; see `FederationClient.cosign`."""
        await self._call(lambda client: client.cosign(checkpoint, cosignature))

    async def put_blob(self, upload: UploadFile) -> None:
        """Upload a payload; see `FederationClient.put_blob`."""
        await self._call(lambda client: client.put_blob(upload))

    async def get_blob(self, digest: str, *, total_bytes: int, resumed: bool = False) -> bytes | bytearray:
        """Download a payload; see `FederationClient.get_blob`."""
        return await self._call(
            lambda client: client.get_blob(digest, total_bytes=total_bytes, resumed=resumed)
        )

    async def get_chunk(self, digest: str, index: int, *, total_bytes: int) -> bytes:
        """Download one chunk; see `FederationClient.get_chunk`."""
        return await self._call(lambda client: client.get_chunk(digest, index, total_bytes=total_bytes))

    async def watch(self, from_index: int) -> AsyncIterator[Batch]:
        """Stream the log's entries; ends with a TransportError also when the certificate was renewed.

        Raises:
            TransportError: The stream broke; open another.
            CertificateError: This site's certificate lets it in no more, and there is no other.
            RejectedError: The coordinator refused for another reason.
        """
        await self._use_newest()
        self._identity.need_valid(now_utc())
        client = self._client
        self._calls[client] += 1  # a channel is closed under no stream: gRPC would cancel the reader
        stream = client.watch(from_index)
        tending = asyncio.create_task(self._tend())
        following: asyncio.Future[Batch] | None = None
        try:
            while True:
                following = asyncio.ensure_future(anext(stream))
                await asyncio.wait({following, tending}, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    yield following.result()
                else:
                    tending.result()
                    raise TransportError("this site's certificate was renewed; connecting with the new one")
        except RejectedError as exc:
            await self._judge(exc, client)
            raise
        except TransportError:
            await self._look_into()
            raise
        finally:
            tending.cancel()
            if following is not None:
                following.cancel()
            await asyncio.gather(tending, *filter(None, [following]), return_exceptions=True)
            await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
            await self._ended(client)

    async def _call(self, call: Callable[[FederationClient], Awaitable[_Answer]]) -> _Answer:
        self._identity.need_valid(now_utc())
        client = self._client
        self._calls[client] += 1
        try:
            return await call(client)
        except RejectedError as exc:
            await self._judge(exc, client)
            raise
        finally:
            await self._ended(client)

    async def _ended(self, client: FederationClient) -> None:
        """Count a call as over; the last one on an old channel closes it."""
        self._calls[client] -= 1
        if not self._calls[client]:
            del self._calls[client]
            if client is not self._client:
                await client.close()

    async def _judge(self, exc: RejectedError, client: FederationClient) -> None:
        """Turn a refusal of the certificate that a call used into another try, or into the end.

        Of several calls under the old certificate the first one changes to the newest.
        """
        if exc.reason not in CERTIFICATE_REASONS:
            return
        if client is not self._client or await self._use_newest():
            raise TransportError("this site's certificate was renewed; connecting with the new one") from None
        raise CertificateError(refused_sentence(exc.reason, self._identity)) from None

    async def _use_newest(self) -> bool:
        """Change to the certificate on the disk if it is another one; tell whether it was."""
        try:
            found = TlsIdentity.load(self._folder)
        except FolderError as exc:  # what was read before goes on for as long as it is good
            tell(_LOG, "certificate_problem", detail=str(exc))
            return False
        if found.certificate_pem == self._identity.certificate_pem:
            return False
        before = self._client
        self._identity, self._client = found, self._dialled(found)
        if not self._calls[before]:
            del self._calls[before]
            await before.close()
        said = f"using the certificate that is valid until {found.ends.date()}"
        tell(_LOG, "certificate_changed", detail=said)
        return True

    async def _tend(self) -> None:
        """Return once a newer certificate is in use; renew when it is time."""
        while not await self._use_newest():
            if self._config.certificate.renew and time.monotonic() >= self._next_renewal:
                pause = self._config.certificate.check_hours * 3600
                self._next_renewal = time.monotonic() + drawn_seconds(pause)
                if self._identity.is_due(now_utc()):
                    await self._renew()
                    continue
            await asyncio.sleep(drawn_seconds(LOOK_SECONDS))

    async def _renew(self) -> None:
        """Renew over this connection; what goes wrong is told and tried again at the next look."""
        try:
            lock = FolderLock(self._folder.renewal_lock, "another renewal is under way")
        except FolderError:
            return
        try:
            made = await renew_over(self._client, self._folder, self._signer)
        except SiteError as exc:
            said = f"the certificate, valid until {self._identity.ends.date()}, was not renewed: {exc}"
            tell(_LOG, "certificate_problem", detail=said)
        else:
            said = f"renewed this site's certificate: it is valid until {made.ends.date()}"
            tell(_LOG, "certificate_changed", detail=said)
        finally:
            lock.release()

    async def _look_into(self) -> None:
        """Say it when the coordinator's certificate is why nothing goes; the site tries on."""
        if time.monotonic() < self._next_probe:
            return
        self._next_probe = time.monotonic() + PROBE_EVERY_SECONDS
        address = self._config.site.coordinator_address
        problem = await asyncio.to_thread(server_problem, address, self._identity.ca_pem)
        if problem is not None:
            tell(_LOG, "certificate_problem", detail=problem)

    def _dialled(self, identity: TlsIdentity) -> FederationClient:
        address = self._config.site.coordinator_address
        downloads = DownloadFolder(self._folder.downloads)
        return FederationClient(address, identity.credentials, self._config.network, downloads)
