"""Time stamps on the heads that close rounds, asked for beside the rounds and never in their way (AUDIT).

Which heads are stamped follows from the log; which are lacking, from the folder. So there is no state to
keep: after a kill, or after days without an authority, the next try goes on where stamps are missing.

What leaves the coordinator is one digest of a head: it says nothing of the study.
"""

import asyncio
import logging
import urllib.request
from collections.abc import Iterable, Mapping
from http.client import HTTPException
from pathlib import Path
from typing import Final

from cryptography import x509

from fedmedlora_audit.checkpoint import Checkpoint
from fedmedlora_audit.errors import StampError
from fedmedlora_audit.events import Entry
from fedmedlora_audit.stamps import (
    MAX_STAMP_BYTES,
    StampsUnavailableError,
    closing_heads,
    open_stamp,
    read_roots,
    request_of,
)
from fedmedlora_coordinator.errors import TsaError
from fedmedlora_coordinator.folder import Folder, write_atomic
from fedmedlora_coordinator.ledger import Ledger
from fedmedlora_coordinator.settings import Stamps
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.operating.logbook import tell

_LOG = logging.getLogger(__name__)
QUERY_TYPE: Final = "application/timestamp-query"
REPLY_TYPE: Final = "application/timestamp-reply"


class TimeStamper:
    """Asks one authority for stamps and keeps those that hold."""

    def __init__(self, folder: Folder, settings: Stamps) -> None:
        """Read the authority's certificates.

        Raises:
            ConfigError: They cannot be read, or the library is not installed (the operator's).
        """
        self._folder = folder
        self._settings = settings
        self._roots = _roots(folder.root / settings.tsa_certificates)
        try:
            request_of(Checkpoint("origin", 0, bytes(32)))
        except StampsUnavailableError as error:
            raise ConfigError(f"stamps.tsa_url is set. {error}") from None

    def stamp(self, head: Checkpoint) -> None:
        """Get and keep the stamp over a head; blocks for at most the time-out.

        Raises:
            TsaError: The authority did not answer, refused, or answered with what is no stamp over this head
                (the authority's, or the line's); nothing was kept.
        """
        request, nonce = request_of(head)
        answer = self._ask(request)
        try:
            open_stamp(answer, head, self._roots, nonce=nonce)
        except StampError as error:
            raise TsaError(f"{self._settings.tsa_url}: {error.sentence}") from None
        write_atomic(stamp_file(self._folder, head.size), answer)

    def _ask(self, request: bytes) -> bytes:
        url = self._settings.tsa_url
        call = urllib.request.Request(  # noqa: S310 - the settings admit http and https only
            url, data=request, headers={"Content-Type": QUERY_TYPE, "Accept": REPLY_TYPE}
        )
        try:
            with urllib.request.urlopen(call, timeout=self._settings.timeout_seconds) as reply:  # noqa: S310 # http(s) # nosec B310
                answer: bytes = reply.read(MAX_STAMP_BYTES + 1)
        except (OSError, ValueError, HTTPException) as error:  # URLError and a time-out are OSErrors
            raise TsaError(f"{url}: no answer ({type(error).__name__})") from None
        if len(answer) > MAX_STAMP_BYTES:
            raise TsaError(f"{url}: an answer of more than {MAX_STAMP_BYTES} bytes")
        return answer


def make_stamper(folder: Folder, settings: Stamps) -> TimeStamper | None:
    """Return who asks for stamps; None where the settings name no authority.

    Raises:
        ConfigError: The authority's certificates cannot be read, or the library is not installed.
    """
    return TimeStamper(folder, settings) if settings.tsa_url else None


class StampKeeper:
    """Sees to it that every closed round gets its stamp, for as long as the study is served."""

    def __init__(self, ledger: Ledger, folder: Folder, stamper: TimeStamper, settings: Stamps) -> None:
        """Take the log, and who asks for stamps."""
        self._ledger = ledger
        self._folder = folder
        self._stamper = stamper
        self._retry_seconds = settings.retry_seconds
        self._lacking: dict[int, int] = {}
        self._read = 0

    async def run(self) -> None:
        """Stamp what is lacking, then wait for the next round; while the authority is down, try again."""
        while True:
            if await self.catch_up():
                await self._ledger.grown_beyond(self._read)
            else:
                await asyncio.sleep(self._retry_seconds)

    async def catch_up(self) -> bool:
        """Ask for every stamp that is lacking, up to the first not got; tell whether all are there."""
        entries = self._ledger.entries[self._read :]
        self._read += len(entries)
        self._lacking |= lacking_stamps(self._folder, entries)
        for size, number in sorted(self._lacking.items()):
            head = Checkpoint(self._ledger.terms.origin, size, self._ledger.state.tree.root(size))
            try:
                await asyncio.to_thread(self._stamper.stamp, head)
            except (TsaError, OSError) as error:
                tell(_LOG, "stamp_lacking", round=number, detail=str(error))
                return False
            del self._lacking[size]
            tell(_LOG, "stamp_got", round=number)
        return True


def stamp_file(folder: Folder, size: int) -> Path:
    """Where the stamp over the head of a size lies."""
    return folder.stamps / f"{size}.tsr"


def wanted_stamps(entries: Iterable[Entry]) -> dict[int, int]:
    """Return size of head and round of every stamp that a log should have."""
    return closing_heads((entry.index, entry.event) for entry in entries)


def lacking_stamps(folder: Folder, entries: Iterable[Entry]) -> dict[int, int]:
    """Return size of head and round of every closed round without a stamp."""
    wanted = wanted_stamps(entries)
    return {size: number for size, number in wanted.items() if not stamp_file(folder, size).is_file()}


def kept_stamps(folder: Folder, size: int) -> Mapping[int, bytes]:
    """Return the stamps that are there over heads up to a size, by size of head."""
    files = {int(path.stem): path for path in folder.stamps.glob("*.tsr") if path.stem.isdecimal()}
    return {at: path.read_bytes() for at, path in sorted(files.items()) if at <= size}


def _roots(path: Path) -> tuple[x509.Certificate, ...]:
    try:
        return read_roots(path.read_bytes())
    except OSError:
        raise ConfigError(f"{path}: no certificates of the authority (stamps.tsa_certificates)") from None
    except StampError as error:
        raise ConfigError(f"{path}: {error.sentence}") from None
