"""The graph of a session: who is whose neighbour, and why nobody chose it (PROTOCOL §6.15).

All members of the charter stand on a ring; a party's neighbours are the members of U1 among the k/2
positions on each side (a Harary graph). Positions follow from a seed to which every member of U1
contributes 32 bytes that it committed to before it saw anybody else's.

Without a graph in the charter every member of U1 is everybody's neighbour.
"""

import hashlib
import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import accumulate

from fedmedlora_crypto import labels
from fedmedlora_crypto.encoding import DIGEST_BYTES, digest_fields, encode_index
from fedmedlora_crypto.errors import ContributionError, QuorumError, TermsError

MAX_ATTEMPTS = 1000
VOTE_LINKS = MAX_ATTEMPTS // 2
COUNT_LINKS = VOTE_LINKS + VOTE_LINKS // 2
SEED_ITERATIONS = 1 << 16  # makes each try of another U1 cost 2**17 hashes; about 20 ms


def chain_link(purpose: str, attempt: int) -> int:
    """Return which link of its chain a party reveals in a session (R6.15.6).

    A vote and a sum of counts have links of their own: those of the sum before are known, and so would their
    graph be. In a round they follow each other in the order of their links.

    Raises:
        TermsError: The attempt lies outside the purpose's links: 1..500 for updates, 1..250 for the others.
    """
    first, last = {
        "update": (0, VOTE_LINKS),
        "statistics": (COUNT_LINKS, MAX_ATTEMPTS),
    }.get(purpose, (VOTE_LINKS, COUNT_LINKS))
    if not 1 <= attempt <= last - first:
        raise TermsError(f"an attempt is from 1 to {last - first}")
    return first + attempt


@dataclass(frozen=True)
class Commitments:
    """What the log says about the contributions when a session opens.

    Attributes:
        attempt: The attempt of the round; each uses the next preimage.
        heads: For each party that reported ready the commitment it made then.
    """

    attempt: int
    heads: Mapping[int, bytes] = field(repr=False)

    def __post_init__(self) -> None:
        """Refuse an attempt that no commitment reaches."""
        if not 1 <= self.attempt <= MAX_ATTEMPTS:
            raise TermsError(f"an attempt is from 1 to {MAX_ATTEMPTS}")

    def check(self, party: int, contribution: bytes) -> None:
        """Demand the preimage that a party committed to for this attempt (R6.15.6).

        Raises:
            ContributionError: It committed to none or to another.
        """
        value = _step_up(contribution, party, self.attempt)
        if not hmac.compare_digest(value, self.heads.get(party, b"")):
            raise ContributionError("contribution to the graph is not the one committed to", party=party)


def commitment(secret: bytes, party: int) -> bytes:
    """Return what a party commits to in a round: the end of a chain of hashes from its round secret."""
    return _step_up(secret, party, MAX_ATTEMPTS)


def contribution(secret: bytes, party: int, *, attempt: int) -> bytes:
    """Return what a party reveals in an attempt: earlier attempts reveal nothing about it (R6.15.6).

    Args:
        secret: 32 bytes that nobody else knows, of this party and this round.
        party: Its index.
        attempt: 1 to `MAX_ATTEMPTS`.
    """
    if len(secret) != DIGEST_BYTES or not 1 <= attempt <= MAX_ATTEMPTS:
        raise TermsError("a chain of contributions starts from 32 bytes and has 1000 attempts")
    return _step_up(secret, party, MAX_ATTEMPTS - attempt)


def ring_order(sid: bytes, n: int, contributions: Mapping[int, bytes]) -> tuple[int, ...]:
    """Return all n members in ring order (R6.15.7).

    Args:
        sid: Session id.
        n: Members of the charter.
        contributions: Of each member of U1.
    """
    parts = [piece for i in sorted(contributions) for piece in (encode_index(i), contributions[i])]
    return _order(digest_fields(labels.GRAPH_SEED, sid, *parts), n)


@lru_cache(maxsize=8)
def _order(digest: bytes, n: int) -> tuple[int, ...]:
    seed = hashlib.pbkdf2_hmac("sha256", digest, labels.GRAPH_SEED, SEED_ITERATIONS)
    places = {i: digest_fields(labels.GRAPH_ORDER, seed, encode_index(i)) for i in range(1, n + 1)}
    return tuple(sorted(places, key=places.__getitem__))


def _step_up(value: bytes, party: int, steps: int) -> bytes:
    for _ in range(steps):
        value = digest_fields(labels.GRAPH_CHAIN, encode_index(party), value)
    return value


@dataclass(frozen=True)
class Graph:
    """Neighbours within U1.

    Attributes:
        members: U1 in ascending order.
        ring: All members of the charter in ring order; empty for the complete graph.
        reach: k/2.
        window_survivors: s.
    """

    members: tuple[int, ...]
    ring: tuple[int, ...] = ()
    reach: int = 0
    window_survivors: int = 0

    def holders_of(self, party: int) -> tuple[int, ...]:
        """Return who holds a party's shares, in ascending order: its neighbours and itself."""
        if not self.ring:
            return self.members
        if party not in self._known:
            at, size = self._places[party], len(self.ring)
            near = (self.ring[(at + d) % size] for d in range(-self.reach, self.reach + 1))
            self._known[party] = tuple(sorted(self._inside.intersection(near)))
        return self._known[party]

    def check_windows(self, listed: Collection[int], short: type[QuorumError]) -> None:
        """Demand that any k/2 consecutive positions hold at least s of the listed parties (R6.15.5).

        Raises:
            QuorumError: They do not, as the given class.
        """
        if self.ring and (fewest := self.fewest_in_a_window(listed)) < self.window_survivors:
            raise short(fewest, self.window_survivors)

    def fewest_in_a_window(self, listed: Collection[int]) -> int:
        """Return the least number of listed parties in any k/2 consecutive positions of the ring."""
        inside = set(listed)
        counts = (0, *accumulate(int(x in inside) for x in (*self.ring, *self.ring[: self.reach])))
        return min(counts[at + self.reach] - counts[at] for at in range(len(self.ring)))

    @cached_property
    def _inside(self) -> frozenset[int]:
        return frozenset(self.members)

    @cached_property
    def _places(self) -> dict[int, int]:
        return {party: at for at, party in enumerate(self.ring)}

    @cached_property
    def _known(self) -> dict[int, tuple[int, ...]]:
        """Holders of the parties that were asked for."""
        return {}
