"""How much more time a site has earned in a step by moving bytes (sans I/O).

A site on a slow line is not silent: it uploads its update, or downloads the sum and its part of the evidence,
for longer than any fixed patience. So each payload byte that it moved in the current step adds to the step's
time, at a rate that any line of a hospital has. Resending what is here already earns nothing, and what can be
earned is bounded by what there is to move: a site that drips bytes delays a step by a bounded time.
"""

from typing import Final

FLOOR_BYTES_PER_SECOND: Final = 16 * 1024
"""The slowest line (128 kbit/s) on which a site is never taken for silent."""


class Progress:
    """Payload bytes by site in the current step; nothing is durable, a restart begins the step anew."""

    def __init__(self, most_bytes: int) -> None:
        """Start empty.

        Args:
            most_bytes: What one site may have to move in one step; more earns nothing.
        """
        self._most = most_bytes
        self._moved: dict[str, int] = {}

    def begin(self) -> None:
        """A step begins: what was moved before earns nothing in it."""
        self._moved.clear()

    def moved(self, site: str, count: int) -> None:
        """A site moved payload bytes that were new."""
        self._moved[site] = min(self._most, self._moved.get(site, 0) + count)

    def seconds(self, site: str) -> float:
        """Return the time that a site has earned on top of the step's."""
        return self._moved.get(site, 0) / FLOOR_BYTES_PER_SECOND
