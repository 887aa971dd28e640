"""Who holds whose shares in each session, as the log and the advertised keys say it (PROTOCOL §6.15).

On the complete graph that is U1. On a sparse one it follows from the contributions in the keys payloads,
which are read once per session.
"""

from collections.abc import Mapping, Sequence
from typing import Final

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import KeysBroadcast, SessionOpened, UpdateReady
from fedmedlora_audit.events import Entry
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_crypto.secagg.aggregator import Aggregator
from fedmedlora_crypto.secagg.graph import Commitments, Graph, chain_link
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms
from fedmedlora_crypto.secagg.session import SessionTerms

_KEPT: Final = 2  # graphs: shares of the live session, and late ones of the one before


def party_of(terms: CharterTerms, site: str) -> int:
    """Return a member's party index: its position in the charter, from 1."""
    return terms.member_ids.index(site) + 1


def commitments_of(
    terms: CharterTerms, *, link: int, ready: Sequence[str], heads: Mapping[str, str]
) -> Commitments | None:
    """Return what the sites of a session committed to, if the charter has a graph (R6.15.6).

    Args:
        terms: The charter.
        link: Which link of its chain each site reveals.
        ready: Sites of the session.
        heads: What each site said with its `update.ready`, in hex.
    """
    if terms.graph is None:
        return None
    return Commitments(link, {party_of(terms, site): bytes.fromhex(heads[site]) for site in ready})


def session_terms(terms: CharterTerms, sid: str, commitments: Commitments | None = None) -> SessionTerms:
    """Return the constants of one session: from the charter, and with a graph from the log before it."""
    return SessionTerms(
        sid=bytes.fromhex(sid),
        n=terms.n,
        threshold=terms.threshold,
        colluding=terms.colluding_sites,
        suite=terms.suite,
        graph=None if terms.graph is None else GraphTerms(*terms.graph),
        commitments=commitments,
    )


class Neighbourhoods:
    """The sessions of a log, with the graph of each."""

    def __init__(self, terms: CharterTerms, blobs: BlobStore) -> None:
        """Start before the first entry."""
        self._terms = terms
        self._blobs = blobs
        self._heads: dict[int, dict[str, str]] = {}  # by round
        self._sessions: dict[str, SessionTerms] = {}
        self._broadcast: dict[str, KeysBroadcast] = {}
        self._graphs: dict[str, Graph] = {}

    def learn(self, entry: Entry) -> None:
        """Note what an entry says about graphs."""
        event = entry.event
        heads = self._heads.setdefault(event.round or 0, {})
        if isinstance(event.data, UpdateReady) and event.data.graph is not None:
            heads[event.actor.id] = event.data.graph
        elif isinstance(event.data, SessionOpened):
            said = event.data
            link = chain_link(said.purpose, said.attempt)
            commitments = commitments_of(self._terms, link=link, ready=said.ready, heads=heads)
            self._sessions[said.sid] = session_terms(self._terms, said.sid, commitments)
        elif isinstance(event.data, KeysBroadcast):
            self._broadcast[event.data.sid] = event.data

    def terms_of(self, sid: str) -> SessionTerms:
        """Return the constants of a session that the log has opened."""
        return self._sessions[sid]

    def view_of(self, sid: str) -> bytes:
        """Return the view of a session whose U1 is fixed."""
        return bytes.fromhex(self._broadcast[sid].view)

    def graph_of(self, sid: str) -> Graph:
        """Return the graph of a session whose U1 is fixed.

        Raises:
            PeerError: A stored keys payload should have been left out.
        """
        if sid not in self._graphs:
            while len(self._graphs) >= _KEPT:
                del self._graphs[next(iter(self._graphs))]
            self._graphs[sid] = self._read(sid)
        return self._graphs[sid]

    def _read(self, sid: str) -> Graph:
        rows = {party_of(self._terms, row.id): row.digest for row in self._broadcast[sid].u1}
        if self._terms.graph is None:
            return Graph(tuple(sorted(rows)))
        keys = {party: self._blobs.read(digest) for party, digest in rows.items()}
        return Aggregator(self.terms_of(sid)).graph(keys)
