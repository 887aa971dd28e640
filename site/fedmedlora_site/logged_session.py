"""The constants of a session that this site reads in its mirror, for whoever checks it afterwards."""

from __future__ import annotations

from fedmedlora_audit.law import Session
from fedmedlora_crypto.secagg.graph import Commitments, chain_link
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_site.holdings import Holdings


def logged_terms(held: Holdings, session: Session) -> SessionTerms:
    """Return the constants of a session; with a graph also what the log held of it before (R6.15.6)."""
    terms, graph, commitments = held.terms, None, None
    if terms.graph is not None:
        said = held.mirror.state.rounds[session.round].commitments
        index = {site: i for i, site in enumerate(terms.member_ids, start=1)}
        heads = {index[site]: bytes.fromhex(said[site]) for site in session.ready if site in said}
        graph, commitments = (
            GraphTerms(*terms.graph),
            Commitments(chain_link(session.purpose, session.attempt), heads),
        )
    return SessionTerms(
        bytes.fromhex(session.sid),
        terms.n,
        terms.threshold,
        terms.colluding_sites,
        session.suite,
        graph=graph,
        commitments=commitments,
    )
