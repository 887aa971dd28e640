"""Who is there: sites with an open stream, or heard of a moment ago (sans I/O, the clock is a parameter).

Nothing here is durable: after a restart nobody is there yet and everybody's absence begins anew, so that
sites get the whole grace time to come back.
"""

from dataclasses import dataclass, field


@dataclass
class _Seen:
    streams: int = 0
    last: float = 0.0


@dataclass
class Presence:
    """Connection facts by site.

    Args:
        started: Monotonic time at which this coordinator began to listen.
    """

    started: float
    _sites: dict[str, _Seen] = field(default_factory=dict)

    def opened(self, site: str, now: float) -> None:
        """A site opened a stream."""
        seen = self._sites.setdefault(site, _Seen())
        seen.streams += 1
        seen.last = now

    def closed(self, site: str, now: float) -> None:
        """A stream of a site ended."""
        seen = self._sites.setdefault(site, _Seen())
        seen.streams = max(0, seen.streams - 1)
        seen.last = now

    def heard(self, site: str, now: float) -> None:
        """A site made a call."""
        self._sites.setdefault(site, _Seen()).last = now

    def is_connected(self, site: str) -> bool:
        """Tell whether a site has an open stream."""
        seen = self._sites.get(site)
        return seen is not None and seen.streams > 0

    def away_since(self, site: str) -> float | None:
        """Return since when a site has been away, or None while it has an open stream."""
        seen = self._sites.get(site)
        if seen is None:
            return self.started
        return None if seen.streams else max(seen.last, self.started)

    def connected(self) -> tuple[str, ...]:
        """Return the connected sites in order."""
        return tuple(sorted(site for site, seen in self._sites.items() if seen.streams))
