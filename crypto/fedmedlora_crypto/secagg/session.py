"""The constants of one session (PROTOCOL §6.7)."""

from dataclasses import dataclass

from fedmedlora_crypto.encoding import DIGEST_BYTES
from fedmedlora_crypto.errors import TermsError
from fedmedlora_crypto.keys import Binding
from fedmedlora_crypto.secagg.graph import Commitments
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms, check_graph_terms
from fedmedlora_crypto.secagg.suites import MASKED_SUITE, SUITES, Suite

MIN_PARTIES = 3  # a sum of two shows each the other's value
MAX_PARTIES = 1024
MIN_HONEST = 2  # the sum of a single honest party is that party's value


@dataclass(frozen=True)
class SessionTerms:
    """The constants of a session: from the charter, never from a message of it (R6.7.1).

    Attributes:
        sid: Session id, 32 bytes; each party computes it itself.
        n: Members of the charter; party indices are 1..n in charter order.
        threshold: T = floor((n + c) / 2) + 1: parties needed at every step; on the complete graph also the
            shares needed to rebuild a seed.
        colluding: c, the parties that may collude with the coordinator.
        suite: One of `SUITES`. `plain/1` runs the same flow and adds no mask.
        graph: The charter's graph; None for the complete graph.
        commitments: With a graph, what the log says about contributions when the session opens.

    Raises:
        TermsError: The values do not make a safe session.
    """

    sid: bytes
    n: int
    threshold: int
    colluding: int
    suite: str = MASKED_SUITE
    graph: GraphTerms | None = None
    commitments: Commitments | None = None

    def __post_init__(self) -> None:
        """Refuse terms under which the protocol would not protect (R6.7.2)."""
        if len(self.sid) != DIGEST_BYTES:
            raise TermsError(f"a session id has {DIGEST_BYTES} bytes")
        if not MIN_PARTIES <= self.n <= MAX_PARTIES:
            raise TermsError(f"{self.n} parties: {MIN_PARTIES} to {MAX_PARTIES} can run a session")
        if not 0 <= self.colluding < self.n:
            raise TermsError("the number of colluding parties is from 0 to n - 1")
        if self.threshold != quorum(self.n, self.colluding) or self.threshold > self.n:
            raise TermsError(f"threshold {self.threshold} does not follow from the members")
        if self.threshold - self.colluding < MIN_HONEST:
            raise TermsError("fewer than two honest parties would be left in a sum")
        if self.suite not in SUITES:
            raise TermsError("unknown suite")
        if (self.graph is None) != (self.commitments is None):
            raise TermsError("a graph needs commitments to its order, and nothing else does")
        if self.graph is not None:
            check_graph_terms(self.graph, n=self.n, colluding=self.colluding)

    @property
    def layout(self) -> Suite:
        """What the suite's name stands for."""
        return SUITES[self.suite]

    @property
    def share_threshold(self) -> int:
        """Shares needed to rebuild a seed."""
        return self.threshold if self.graph is None else self.graph.share_threshold

    def binding(self, view: bytes) -> Binding:
        """Return what the keys of this session are bound to under a view."""
        return Binding(self.sid, view, self.suite)

    def holds(self, party: int) -> bool:
        """Tell whether an index names a member."""
        return 1 <= party <= self.n


def quorum(n: int, colluding: int) -> int:
    """Return T = floor((n + c) / 2) + 1: two sets of T parties share an honest one (R6.7.2)."""
    return (n + colluding) // 2 + 1
