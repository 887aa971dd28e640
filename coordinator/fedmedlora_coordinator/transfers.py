"""How many chunks are under way at a time, so that the coordinator's memory does not follow the sites.

gRPC holds a message of 1 MiB whole, some of the time twice: one that comes in until its last byte is here,
one that goes out until the other end has it. A hundred sites that upload at once, or check a sum with
several calls each, would be hundreds of MiB. So an upload is read, and a download answered, when it is
their turn: in order of asking, a few at a time, of one site fewer.

Nobody is held up by somebody else's line: what is under way for longer than `hold_seconds` no longer
counts, and who has waited for `wait_seconds` goes on without a turn. So the bound is one for sites that
read and send, and never a reason for a round to stop; what a site that does neither can pile up is bounded
by its streams.
"""

import asyncio
from collections import Counter, deque
from typing import Final

MOST: Final = 16
MOST_OF_ONE_SITE: Final = 2
HOLD_SECONDS: Final = 10.0
WAIT_SECONDS: Final = 20.0  # well within the time that a site gives a chunk


class Transfer:
    """One chunk that is under way, until `end`."""

    def __init__(self, transfers: "Transfers", site: str) -> None:
        """Start one that counts."""
        self._transfers = transfers
        self._site = site
        self._expiry: asyncio.TimerHandle | None = None

    def expire_after(self, seconds: float) -> None:
        """Count no longer than this."""
        self._expiry = asyncio.get_running_loop().call_later(seconds, self.end)

    def end(self) -> None:
        """The chunk is gone; a second time is no error."""
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
            self._transfers._leave(self._site)  # two classes, one bookkeeping


class Transfers:
    """Who may move a chunk now, and who waits."""

    def __init__(
        self,
        *,
        most: int = MOST,
        most_of_one_site: int = MOST_OF_ONE_SITE,
        hold_seconds: float = HOLD_SECONDS,
        wait_seconds: float = WAIT_SECONDS,
    ) -> None:
        """Start with nothing under way.

        Args:
            most: Chunks at a time, at least 1.
            most_of_one_site: Of one site, at least 1.
            hold_seconds: How long one counts at most.
            wait_seconds: How long anybody waits at most.
        """
        self._most = most
        self._most_of_one_site = most_of_one_site
        self._hold_seconds = hold_seconds
        self._wait_seconds = wait_seconds
        self._under_way: Counter[str] = Counter()
        self._waiting: deque[tuple[str, asyncio.Future[None]]] = deque()

    @property
    def under_way(self) -> int:
        """Chunks that count now."""
        return self._under_way.total()

    async def begin(self, site: str) -> Transfer:
        """Wait for this site's turn.

        Returns:
            The transfer, to be ended by the caller; it counts for `hold_seconds` at most, and not at all
            after `wait_seconds` of waiting.
        """
        transfer = Transfer(self, site)
        if await self._turn(site):
            transfer.expire_after(self._hold_seconds)
        return transfer

    async def _turn(self, site: str) -> bool:
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (site, turn)
        self._waiting.append(entry)
        self._next()
        try:
            await asyncio.wait({turn}, timeout=self._wait_seconds)
        except asyncio.CancelledError:
            if turn.done():  # it has been given a turn that it cannot use
                self._leave(site)
            raise
        finally:
            if entry in self._waiting:
                self._waiting.remove(entry)
        return turn.done()

    def _has_room(self, site: str) -> bool:
        return self.under_way < self._most and self._under_way[site] < self._most_of_one_site

    def _leave(self, site: str) -> None:
        self._under_way[site] -= 1
        if not self._under_way[site]:
            del self._under_way[site]
        self._next()

    def _next(self) -> None:
        """Give the turns that there are to the first who may have them."""
        for entry in list(self._waiting):
            if self.under_way >= self._most:
                return
            site, turn = entry
            if self._has_room(site):
                self._waiting.remove(entry)
                self._under_way[site] += 1
                turn.set_result(None)
