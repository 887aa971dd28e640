"""The end of a run at a site: it stays until a quorum stands behind the log's last head, but not for long.

With that head this site's own bundle proves by itself that most members saw the same end (C3). It comes when
the others have cosigned, a moment after this site did. Where too few of them are there, the site leaves
without it; a later `site run` asks for it again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final

from fedmedlora_audit.cosignature import is_cosigned_after
from fedmedlora_site.holdings import Holdings

PATIENCE_SECONDS: Final = 20.0


class Farewell:
    """Tells when a site that has nothing left to do may go.

    Args:
        held: The site's durable state.
        wake: Makes the agent ask again.
        seconds: How long to wait for the others.
    """

    def __init__(self, held: Holdings, wake: Callable[[], None], seconds: float = PATIENCE_SECONDS) -> None:
        """Wait for nobody yet."""
        self._held = held
        self._wake = wake
        self._seconds = seconds
        self._deadline: float | None = None

    def may_go(self) -> bool:
        """Tell whether a quorum stands behind the end, none is demanded, or it was waited for long enough."""
        held = self._held
        if "C3" not in held.terms.demands or held.mirror.witnessed >= self._last_size():
            return True
        loop = asyncio.get_running_loop()
        if self._deadline is None:
            self._deadline = loop.time() + self._seconds
            loop.call_at(self._deadline, self._wake)
        return loop.time() >= self._deadline

    def _last_size(self) -> int:
        """Size of the last head that witnesses sign."""
        entries = reversed(self._held.mirror.entries)
        return next((e.index + 1 for e in entries if is_cosigned_after(e.event.type)), 0)
