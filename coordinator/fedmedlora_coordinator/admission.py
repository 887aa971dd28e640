"""Whose certificate still gets in: asked at every call, and over open streams for as long as they last.

TLS has verified the chain and, in the handshake, the dates. What it cannot know stands in the register: a
certificate that was revoked, or renewed and then used by another holder of the old key. A command may write
there at any moment, so the register is read again every second. A call never waits for more than that: a
serial that stood nowhere when it was first shown is remembered as such, since a certificate is registered
before it is handed out.
"""

import asyncio
import datetime as dt
import logging
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from typing import Any, Final

from fedmedlora_coordinator.certificates import Certificates, IssuedCertificate, refusal_of
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_protos.operating.logbook import tell
from fedmedlora_protos.wire import PeerCertificate

_LOG = logging.getLogger(__name__)
REFRESH_SECONDS: Final = 1.0
MOST_UNKNOWN: Final = 1024  # serials that are remembered as standing nowhere


class Admission:
    """Decides on certificates that TLS has verified."""

    def __init__(self, certificates: Certificates, clock: Callable[[], dt.datetime]) -> None:
        """Take the register and the clock that certificates expire by."""
        self._certificates = certificates
        self._clock = clock
        self._rows: dict[str, IssuedCertificate] = {}
        self._unknown: OrderedDict[str, None] = OrderedDict()
        self._seen: set[str] = set()  # serials that were used here, so that older ones have ended
        self._open: dict[PeerCertificate, set[asyncio.Future[PeerRefusedError]]] = {}
        self._reads = 0
        self.refresh()

    @property
    def rows(self) -> list[IssuedCertificate]:
        """What the register held a moment ago, in the order of issue."""
        return list(self._rows.values())

    def refresh(self) -> None:
        """Read the register again, and end the streams of who is refused now."""
        self._take(self._certificates.all())

    def _take(self, rows: list[IssuedCertificate]) -> None:
        self._reads += 1
        self._rows = {row.serial: row for row in rows}
        for peer, streams in list(self._open.items()):
            refusal = self._refusal(peer)
            if refusal is not None:
                for refused in streams:
                    if not refused.done():
                        refused.set_result(refusal)

    # R2.1.8
    def check(self, peer: PeerCertificate) -> None:
        """Admit a caller, whose older certificates end with it.

        Raises:
            PeerRefusedError: certificate_unknown, _revoked, _renewed or _expired.
            StoreError: The register refused.
        """
        if peer.serial not in self._rows:
            self._look_for(peer.serial)
        refusal = self._refusal(peer)
        if refusal is not None:
            raise refusal
        if peer.serial in self._seen:
            return
        number = self._rows[peer.serial].number
        older = [row for row in self._rows.values() if row.site == peer.site and row.number < number]
        if any(row.retired is None for row in older):
            self._certificates.retire_older(peer, self._clock())
            said = f"'{peer.site}' uses its next certificate; the one before has ended"
            tell(_LOG, "certificate_changed", detail=said)
            self.refresh()
        self._seen.add(peer.serial)

    def _look_for(self, serial: str) -> None:
        """Read the register for a certificate that may have been issued a moment ago, once for each.

        One that gets into the register later, as when it is restored, is found by the next reading of all.
        """
        if serial in self._unknown:
            return
        self.refresh()
        if serial not in self._rows:
            self._unknown[serial] = None
            if len(self._unknown) > MOST_UNKNOWN:
                self._unknown.popitem(last=False)

    async def admitted_until(self, peer: PeerCertificate, event: Coroutine[object, object, None]) -> None:
        """Wait for an event of an open stream.

        Raises:
            PeerRefusedError: The caller's certificate is refused meanwhile.
        """
        waiting = asyncio.ensure_future(event)
        refused: asyncio.Future[PeerRefusedError] = asyncio.get_running_loop().create_future()
        streams = self._open.setdefault(peer, set())
        streams.add(refused)
        try:
            self.check(peer)
            either: set[asyncio.Future[Any]] = {waiting, refused}
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            if refused.done():
                raise refused.result()
            waiting.result()
        finally:
            waiting.cancel()
            streams.discard(refused)
            if not streams:
                self._open.pop(peer, None)

    async def run(self) -> None:
        """Read the register every second, without end.

        Raises:
            StoreError: The register cannot be read; nobody knows any more who is revoked.
        """
        while True:
            await asyncio.sleep(REFRESH_SECONDS)
            reads = self._reads
            rows = await asyncio.to_thread(self._certificates.all)
            if reads == self._reads:  # else the loop has read newer ones meanwhile
                self._take(rows)

    def _refusal(self, peer: PeerCertificate) -> PeerRefusedError | None:
        return refusal_of(self._rows.get(peer.serial), peer, self._clock())
