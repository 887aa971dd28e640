"""Refusals in the operator's log: each kind at once, then at most once a minute with a count.

A peer that is refused a thousand times a second must not fill the disk with sentences about it.
"""

import logging
import threading
from collections import OrderedDict
from typing import Final

from fedmedlora_protos.operating.logbook import tell

EVERY_SECONDS: Final = 60.0
MOST_KINDS: Final = 1024


class RefusalLog:
    """Tells `peer=… limit=… count=…` as an event of the log catalogue; may be used by several threads."""

    def __init__(self, logger: logging.Logger, event: str) -> None:
        """Take where to write, and the event: call_refused or enrolment_refused."""
        self._logger = logger
        self._event = event
        self._lock = threading.Lock()
        self._kinds: OrderedDict[tuple[str, str], tuple[float, int]] = OrderedDict()

    def note(self, peer: str, limit: str, now: float, *, detail: str = "") -> None:
        """One more refusal.

        Args:
            peer: Site id, or address.
            limit: Name of the limit or reason.
            now: Monotonic seconds.
            detail: One line for the operator about the newest of them.
        """
        with self._lock:
            last, count = self._kinds.pop((peer, limit), (float("-inf"), 0))
            count += 1
            due = now - last >= EVERY_SECONDS
            self._kinds[peer, limit] = (now, 0) if due else (last, count)
            if len(self._kinds) > MOST_KINDS:
                self._kinds.popitem(last=False)
        if due:
            said = f"peer={peer} limit={limit} count={count}{f' {detail}' if detail else ''}"
            tell(self._logger, self._event, detail=said)
