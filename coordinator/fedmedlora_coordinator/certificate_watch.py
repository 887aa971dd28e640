"""What a serving coordinator does about certificates by itself, and what it tells its operator in time."""

import asyncio
import datetime as dt
import logging
from collections.abc import Callable, Collection
from typing import Final

from fedmedlora_coordinator.admission import Admission
from fedmedlora_coordinator.certificates import CertificateState, current, refused_sentence
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.server_certificate import renew_server_if_due
from fedmedlora_protos.operating.logbook import tell

_LOG = logging.getLogger(__name__)
HOUR_SECONDS: Final = 3600.0
WARN_DAYS: Final = 30


class CertificateWatch:
    """Renews the server's certificate, and names sites whose certificate has ended or ends soon.

    TLS refuses an expired certificate in the handshake, where no line of ours is written: so the operator
    would see a silent site only. Each certificate is named once.
    """

    def __init__(
        self,
        folder: Folder,
        admission: Admission,
        members: Collection[str],
        clock: Callable[[], dt.datetime],
    ) -> None:
        """Take the folder, who gets in, the members of the study, and the clock."""
        self._folder = folder
        self._admission = admission
        self._members = members
        self._clock = clock
        self._told: set[tuple[str, bool]] = set()

    async def run(self) -> None:
        """Look every hour, without end."""
        while True:
            self.look()
            await asyncio.sleep(HOUR_SECONDS)

    def look(self) -> list[str]:
        """Renew what is due and return the lines for the operator, which are logged too."""
        now = self._clock()
        renew_server_if_due(self._folder, now)
        lines = []
        for row in current(self._admission.rows).values():
            expired = row.state(now) is CertificateState.EXPIRED
            soon = row.ends - now.timestamp() < WARN_DAYS * 86_400
            if row.site not in self._members or not soon or (row.serial, expired) in self._told:
                continue
            self._told.add((row.serial, expired))
            ends = dt.datetime.fromtimestamp(row.ends, dt.UTC)
            lines.append(
                refused_sentence(row, CertificateState.EXPIRED)
                if expired
                else f"the certificate of '{row.site}' expires on {ends:%Y-%m-%d}; there: `site renew`"
            )
        for line in lines:
            tell(_LOG, "certificate_problem", detail=line)
        return lines
