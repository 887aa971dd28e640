"""Ward: every party of one session in memory, step by step, so that a test can bend what is in between."""

import hashlib
from collections.abc import Callable, Collection, Iterable

import numpy as np

from fedmedlora_crypto.secagg import MASKED_SUITE, Aggregator, Party, SessionTerms, Unmasking, quorum
from fedmedlora_crypto.secagg.graph import Commitments, commitment, contribution
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms
from fedmedlora_crypto.secagg.messages import decode_opened
from fedmedlora_crypto.secagg.reference import reference_view, repeatable_source
from fedmedlora_crypto.shamir import combine_shares
from fedmedlora_crypto.xof import Keystream, Vector, add_keystreams

SID = bytes(range(32))
SMALL_GRAPH = GraphTerms(neighbours=10, share_threshold=7, window_survivors=3)  # safe for c = 2


def terms_of(
    n: int,
    *,
    colluding: int | None = None,
    suite: str = MASKED_SUITE,
    sid: bytes = SID,
    graph: GraphTerms | None = None,
    attempt: int = 1,
) -> SessionTerms:
    """Return the terms of n parties with the default colluding bound."""
    c = n // 3 if colluding is None else colluding
    heads = {i: commitment(round_secret(i), i) for i in range(1, n + 1)} if graph else {}
    commitments = Commitments(attempt, heads) if graph else None
    return SessionTerms(sid, n, quorum(n, c), c, suite, graph, commitments)


def round_secret(party: int) -> bytes:
    """Return what a party's chain of contributions starts from."""
    return hashlib.sha256(b"round secret of %d" % party).digest()


def contributions_to(terms: SessionTerms) -> dict[int, bytes]:
    """Return what each party contributes to the graph of a session; empty bytes without one."""
    if terms.commitments is None:
        return dict.fromkeys(range(1, terms.n + 1), b"")
    attempt = terms.commitments.attempt
    return {i: contribution(round_secret(i), i, attempt=attempt) for i in range(1, terms.n + 1)}


def vectors_of(parties: Iterable[int], dimension: int = 64, seed: int = 1) -> dict[int, Vector]:
    """Return a repeatable vector for each party."""
    return {
        i: np.random.default_rng((seed, i)).integers(0, 2**32, dimension, dtype=np.uint32) for i in parties
    }


def plain_sum(vectors: Iterable[Vector]) -> Vector:
    """Return the sum modulo 2**32 the plain way."""
    total: Vector = np.sum(list(vectors), axis=0, dtype=np.uint32)
    return total


class Ward:
    """A session whose honest steps are one call each; every payload between them is a public dict."""

    def __init__(
        self,
        n: int,
        *,
        colluding: int | None = None,
        suite: str = MASKED_SUITE,
        sid: bytes = SID,
        graph: GraphTerms | None = None,
    ) -> None:
        self.terms = terms_of(n, colluding=colluding, suite=suite, sid=sid, graph=graph)
        self.parties = {
            i: Party(self.terms, i, contribution=given, randomness=repeatable_source(sid + bytes([i])))
            for i, given in contributions_to(self.terms).items()
        }
        self.aggregator = Aggregator(self.terms)
        self.keys: dict[int, bytes] = {}
        self.view = b""
        self.shares: dict[int, bytes] = {}
        self.masked: dict[int, Vector] = {}
        self.opened: dict[int, bytes] = {}

    def advertise(self) -> None:
        self.keys = {i: party.advertise() for i, party in self.parties.items()}
        self.view = reference_view(self.terms.sid, self.keys)

    def share(self, senders: Collection[int] | None = None) -> None:
        self.shares = {i: self.parties[i].share(self.keys, self.view) for i in senders or self.parties}

    def upload(self, vectors: dict[int, Vector] | None = None, *, late: Collection[int] = ()) -> None:
        for i in self.shares:
            self.fix(i)
            if i not in late:
                vector = (vectors or vectors_of(self.parties))[i].copy()
                self.parties[i].mask(vector)
                self.masked[i] = vector

    def fix(self, i: int, u2: Collection[int] | None = None) -> None:
        listed = tuple(self.shares if u2 is None else u2)
        self.parties[i].fix({x: self.shares[x] for x in self.parties[i].neighbours_in(listed)}, listed)

    def agree(self) -> None:
        for i in self.masked:
            self.parties[i].agree(self.survivors)

    def open(self) -> None:
        self.opened = {i: self.parties[i].open(self.survivors, self.survivors) for i in self.survivors}

    def run_to_upload(
        self, vectors: dict[int, Vector] | None = None, *, late: Collection[int] = ()
    ) -> "Ward":
        """Run the honest steps up to the uploads; those that are late masked nothing yet."""
        self.advertise()
        self.share()
        self.upload(vectors, late=late)
        return self

    def run_to(self, last: Callable[[], None]) -> "Ward":
        """Run the honest steps up to and including one, given as the bound method."""
        for step in (self.advertise, self.share, self.upload, self.agree, self.open):
            step()
            if step == last:
                break
        return self

    @property
    def survivors(self) -> tuple[int, ...]:
        return tuple(self.masked)

    def total(self) -> Vector:
        return plain_sum(self.masked.values())

    def unmask(self, total: Vector) -> Unmasking:
        return self.aggregator.unmask(total, self.keys, self.shares, self.survivors, self.opened)


def opened_seed(ward: Ward, opened: dict[int, bytes], dealer: int) -> bytes:
    """Rebuild whichever seed of a dealer the payloads open."""
    shares = {}
    for holder, payload in opened.items():
        message = decode_opened(payload, sid=SID, party=holder)
        if dealer in message.dealers:
            shares[holder] = message.shares[message.dealers.index(dealer)]
    return combine_shares(dict(list(shares.items())[: ward.terms.threshold]))


def take_off(vector: Vector, *streams: tuple[Keystream, int]) -> Vector:
    """Undo streams that a party has added with these signs."""
    result = vector.copy()
    add_keystreams(result, [(stream, -sign) for stream, sign in streams])
    return result
