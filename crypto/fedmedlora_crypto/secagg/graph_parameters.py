"""How many neighbours, shares and survivors a sparse graph needs (PROTOCOL §6.15).

The parties stand on a ring in an order that nobody chose; c of the n are corrupt. Which of them stand within
w positions in a row, or beside one party, then follows the hypergeometric distribution. Every probability
here is an exact integer comparison, with the union bound over all n places of the ring.

What is not here: who stands where (`fedmedlora_crypto.secagg.graph`).
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import lru_cache
from math import comb

from fedmedlora_crypto.errors import TermsError

COMPLETE_UP_TO = 128  # parties; a complete graph costs little below
PRIVACY_BITS = 80  # failing is less likely than 2**-80; 40 of them are for grinding the order (R6.15.6)
COMPLETION_BITS = 20
MIN_NEIGHBOURS = 4


@dataclass(frozen=True)
class GraphTerms:
    """What a charter says about the graph.

    Attributes:
        neighbours: k, positions of the ring whose parties are neighbours of one: k/2 on each side.
        share_threshold: t, shares needed to rebuild a seed.
        window_survivors: s, members that any k/2 consecutive positions have to hold in U1, U2 and U3.
    """

    neighbours: int
    share_threshold: int
    window_survivors: int

    @property
    def reach(self) -> int:
        """k/2: the positions on each side, and the length of a window."""
        return self.neighbours // 2


def check_graph_terms(graph: GraphTerms, *, n: int, colluding: int) -> None:
    """Refuse a graph under which the protocol would not protect n parties of which c collude (R6.15.2).

    Raises:
        TermsError: k is no even number of neighbours, or s or t is below what k needs.
    """
    k = graph.neighbours
    if k % 2 or not MIN_NEIGHBOURS <= k <= n - 2:
        raise TermsError(
            f"a graph of {n} parties has an even number of neighbours, {MIN_NEIGHBOURS} to n - 2"
        )
    if not least_window_survivors(n, colluding, k) <= graph.window_survivors <= graph.reach:
        raise TermsError(f"{graph.window_survivors} survivors of {graph.reach} are no safe window")
    if not least_share_threshold(n, colluding, k) <= graph.share_threshold <= k:
        raise TermsError(f"share threshold {graph.share_threshold} does not fit {k} neighbours")


@lru_cache(maxsize=1024)
def least_window_survivors(n: int, colluding: int, neighbours: int) -> int:
    """Return s: s corrupt parties in some k/2 consecutive positions are less likely than 2**-81 (R6.15.3).

    It may exceed k/2; then no window of that length is safe.
    """
    return most_corrupt(n, colluding, neighbours // 2, places=n) + 1


@lru_cache(maxsize=1024)
def least_share_threshold(n: int, colluding: int, neighbours: int) -> int:
    """Return t (R6.15.3).

    More corrupt neighbours than b of some honest party are less likely than 2**-81. The corrupt holders of
    its seeds are then fewer than t, and half of the honest parties together with all corrupt ones cannot
    rebuild every seed of a session that the others have erased (R6.15.9).
    """
    b = most_corrupt(n - 1, colluding, neighbours, places=n)
    return (neighbours + 1 + b) // 2 + 1


def most_corrupt(parties: int, corrupt: int, positions: int, *, places: int) -> int:
    """Return the least b such that some of `places` samples holds more than b with probability <= 2**-81.

    Args:
        parties: Parties that a sample is drawn from.
        corrupt: How many of them are corrupt.
        positions: Size of a sample.
        places: Samples in the union bound.
    """
    everything = comb(parties, positions)
    beyond, b = 0, min(corrupt, positions)
    while b > 0:
        beyond += _ways(parties, corrupt, positions, b)
        if places * beyond << (PRIVACY_BITS + 1) > everything:
            break
        b -= 1
    return b


def completes(graph: GraphTerms, *, n: int, dropped: int) -> bool:
    """Tell whether random drop-outs leave every window and every neighbourhood enough, but for 2**-20.

    Args:
        graph: The graph.
        n: Parties.
        dropped: How many of them drop out, at any step.
    """
    demands = ((graph.reach, graph.window_survivors), (graph.neighbours, graph.share_threshold))
    for positions, needed in demands:
        too_many = range(max(0, positions - needed + 1), min(dropped, positions) + 1)
        short = sum(_ways(n, dropped, positions, x) for x in too_many)
        if n * short << (COMPLETION_BITS + 1) > comb(n, positions):
            return False
    return True


def least_graph(n: int, *, colluding: int, dropped: int) -> GraphTerms | None:
    """Return the graph with the fewest neighbours that is safe and completes (R6.15.4).

    Args:
        n: Parties.
        colluding: c, the parties that may collude.
        dropped: Random drop-outs of a session that it has to survive.

    Returns:
        None where the complete graph is the only one.
    """
    for graph in _safe_graphs(n, colluding):
        if completes(graph, n=n, dropped=dropped):
            return graph
    return None


def _safe_graphs(n: int, colluding: int) -> Iterable[GraphTerms]:
    for k in range(MIN_NEIGHBOURS, n - 1, 2):
        survivors = least_window_survivors(n, colluding, k)
        threshold = least_share_threshold(n, colluding, k)
        if survivors <= k // 2 and threshold <= k:
            yield GraphTerms(k, threshold, survivors)


def _ways(parties: int, marked: int, positions: int, x: int) -> int:
    """Return how many samples of `positions` parties hold exactly x of the marked ones."""
    return comb(marked, x) * comb(parties - marked, positions - x)
