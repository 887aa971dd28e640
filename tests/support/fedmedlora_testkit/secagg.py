"""Ward: every party of one session in memory, step by step, so that a test can bend what is in between."""

from collections.abc import Callable, Collection, Iterable

import numpy as np

from fedmedlora_crypto.secagg import MASKED_SUITE, Aggregator, Party, SessionTerms, Unmasking, quorum
from fedmedlora_crypto.secagg.reference import reference_view, repeatable_source
from fedmedlora_crypto.xof import Vector

SID = bytes(range(32))


def terms_of(
    n: int, *, colluding: int | None = None, suite: str = MASKED_SUITE, sid: bytes = SID
) -> SessionTerms:
    """Return the terms of n parties with the default colluding bound."""
    c = n // 3 if colluding is None else colluding
    return SessionTerms(sid, n, quorum(n, c), c, suite)


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
        self, n: int, *, colluding: int | None = None, suite: str = MASKED_SUITE, sid: bytes = SID
    ) -> None:
        self.terms = terms_of(n, colluding=colluding, suite=suite, sid=sid)
        self.parties = {
            i: Party(self.terms, i, randomness=repeatable_source(sid + bytes([i]))) for i in range(1, n + 1)
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
            self.parties[i].fix(self.shares)
            if i not in late:
                vector = (vectors or vectors_of(self.parties))[i].copy()
                self.parties[i].mask(vector)
                self.masked[i] = vector

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
