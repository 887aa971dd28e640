"""An allowance that refills with time: the one measure behind every rate that is limited (sans I/O)."""

from collections import OrderedDict


class Allowance:
    """So many at once, and so many a second after that (a token bucket)."""

    def __init__(self, per_second: float, burst: float, now: float) -> None:
        """Start full.

        Args:
            per_second: What comes back each second.
            burst: The most that is there.
            now: Monotonic seconds.
        """
        self._per_second = per_second
        self._burst = burst
        self._left = burst
        self._at = now

    def take(self, now: float) -> bool:
        """Take one, if there is one."""
        self._left = min(self._burst, self._left + (now - self._at) * self._per_second)
        self._at = now
        if self._left < 1:
            return False
        self._left -= 1
        return True

    def wait(self) -> float:
        """Return how many seconds after the last `take` there will be one."""
        return max(0.0, (1 - self._left) / self._per_second)


class Allowances:
    """One allowance for each peer, for a bounded number of peers: the one unheard of for longest goes.

    Whoever is forgotten starts with a full allowance. An attacker with more addresses than are remembered
    gains by that what it has already: more addresses.
    """

    def __init__(self, per_second: float, burst: float, *, most_peers: int = 4096) -> None:
        """Take the allowance of one peer, and how many peers are remembered."""
        self._per_second = per_second
        self._burst = burst
        self._most = most_peers
        self._peers: OrderedDict[str, Allowance] = OrderedDict()

    def take(self, peer: str, now: float) -> float | None:
        """Take one for a peer.

        Returns:
            None when there was one; else the seconds until there will be.
        """
        found = self._peers.get(peer)
        if found is None:
            found = self._peers[peer] = Allowance(self._per_second, self._burst, now)
            if len(self._peers) > self._most:
                self._peers.popitem(last=False)
        self._peers.move_to_end(peer)
        return None if found.take(now) else found.wait()
