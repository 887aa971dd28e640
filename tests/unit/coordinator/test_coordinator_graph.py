"""Studies on the sparse graph, by the real coordinator: drop-outs, bad contributions, thin windows."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.event_data import UpdateReady
from fedmedlora_audit.law import Session
from fedmedlora_coordinator.aggregate import check_windows, terms_of_session
from fedmedlora_coordinator.errors import PeerRefusedError, RoundError
from fedmedlora_coordinator.study import adopt_study
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_crypto.secagg.graph import Graph
from fedmedlora_crypto.secagg.messages import decode_shares
from fedmedlora_crypto.secagg.suites import SUITES
from fedmedlora_protos.wire import Reason
from fedmedlora_testkit.hospital import FlakyStore, Hospital
from fedmedlora_testkit.studies import changed
from fedmedlora_testkit.ward import Ward

N = 14  # T = 9 with two colluding
GRAPH = {"neighbours": 10, "share_threshold": 7, "window_survivors": 3}


@pytest.fixture(autouse=True)
def _unarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def sparse_ward(root: Path, **more: Any) -> Ward:
    return Ward(
        root,
        n=N,
        rounds=1,
        secure_aggregation__graph=GRAPH,
        secure_aggregation__colluding_sites=2,
        **more,
    )


def last_session(ward: Ward) -> Session:
    return ward.ledger.state.rounds[1].sessions[-1]


def graph_of(ward: Ward) -> Graph:
    return ward.payloads.neighbourhoods.graph_of(last_session(ward).sid)


@pytest.mark.parametrize("step", ["none", "share", "upload", "survivors", "unmask"])
def test_a_hospital_that_falls_silent_does_not_cost_the_round(tmp_path: Path, step: str) -> None:
    # R6.15.1, R6.15.8
    ward = sparse_ward(tmp_path)
    if step != "none":
        ward.hospital("site-d").refuses.add(step)
    ward.run()
    session = last_session(ward)
    assert len(session.u1) == N
    assert ("site-d" in session.u3) == (step not in ("share", "upload"))
    assert ward.ledger.state.rounds[1].outcome == "closed"
    assert np.allclose(
        Adapter.load(ward.folder.released).vector(), ward.expected_vector([sorted(session.u3)]), atol=2e-6
    )
    holders = graph_of(ward).holders_of(1)
    assert len(holders) == 11 < N


def test_a_restarted_coordinator_finds_the_same_graph(tmp_path: Path) -> None:
    # R6.15.7
    ward = sparse_ward(tmp_path)
    ward.run(until=lambda state: bool(state.session and state.session.u2))
    before = graph_of(ward)
    ward.store.close()
    ward.start()
    assert graph_of(ward) == before
    assert ward.run().rounds[1].outcome == "closed"


def test_a_second_attempt_has_fresh_contributions_to_the_same_commitments(tmp_path: Path) -> None:
    # R6.15.6
    ward = sparse_ward(tmp_path)
    ward.run(until=lambda state: bool(state.session and state.session.u2))
    first = graph_of(ward)
    commitments = dict(ward.ledger.state.rounds[1].commitments)
    for site in sorted(last_session(ward).u2)[:7]:
        ward.drop(site)
        ward.come_back(site)
    ward.run()
    sessions = ward.ledger.state.rounds[1].sessions
    assert [session.attempt for session in sessions] == [1, 2]
    assert ward.ledger.state.rounds[1].commitments == commitments
    assert graph_of(ward).ring != first.ring
    assert ward.ledger.state.rounds[1].outcome == "closed"


def test_a_contribution_that_was_not_committed_to_leaves_its_hospital_out(tmp_path: Path) -> None:
    # R6.15.6
    ward = sparse_ward(tmp_path)
    liar = ward.hospital("site-c")
    ward.run(until=lambda state: state.session is not None)
    sent = ward.payload

    def lying(hospital: Hospital, step: str, session: Session) -> bytes:
        payload = sent(hospital, step, session)
        return payload[:-32] + bytes(32) if hospital is liar and step == "advertise" else payload

    ward.payload = lying  # type: ignore[method-assign]
    ward.run()
    session = last_session(ward)
    assert [(row.id, row.reason) for row in session.left_out] == [("site-c", "wrong_contribution")]
    assert "site-c" not in session.u1
    assert ward.ledger.state.rounds[1].outcome == "closed"


def test_shares_for_other_than_the_neighbours_are_not_taken(tmp_path: Path) -> None:
    # R6.15.1
    ward = sparse_ward(tmp_path)
    ward.run(until=lambda state: bool(state.session and state.session.u1))
    session, hospital = last_session(ward), ward.hospital("site-a")
    sid, suite = bytes.fromhex(session.sid), SUITES[ward.terms.suite]
    good = decode_shares(ward.payload(hospital, "share", session), sid=sid, party=1, suite=suite)
    stranger = next(x for x in range(2, N + 1) if x not in good.holders)
    holders = tuple(sorted({*good.holders[:-1], stranger}))
    bent = replace(good, holders=holders).encode(sid)
    ward.payload = lambda *_: bent  # type: ignore[method-assign]
    with pytest.raises(PeerRefusedError) as caught:
        ward.act(hospital)
    assert caught.value.reason == Reason.BAD_PAYLOAD


def test_a_list_that_every_site_would_refuse_is_not_fixed(tmp_path: Path) -> None:
    # R6.15.5: five that stand side by side fall silent; nine are left, which is T
    ward = sparse_ward(tmp_path)
    ward.run(until=lambda state: bool(state.session and state.session.u1))
    graph = graph_of(ward)
    for party in graph.ring[3:8]:
        ward.hospitals[party - 1].refuses.add("share")
    state = ward.run()
    assert state.rounds[1].outcome == "aborted"
    assert not last_session(ward).u2
    with pytest.raises(RoundError, match="the graph is too thin"):
        check_windows(graph, [party for party in graph.ring if party not in graph.ring[3:8]])


def test_without_the_window_rule_the_list_would_be_fixed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward = sparse_ward(tmp_path)
    ward.run(until=lambda state: bool(state.session and state.session.u1))
    for party in graph_of(ward).ring[3:8]:
        ward.hospitals[party - 1].refuses.add("share")
    monkeypatch.setattr(Graph, "check_windows", lambda *_: None)
    ward.run(until=lambda state: bool(state.session and state.session.u2) or state.run_closed)
    assert len(last_session(ward).u2) == 9


@pytest.mark.parametrize("graph", [None, "0" * 64])
def test_a_commitment_belongs_to_a_graph_and_a_graph_needs_one(tmp_path: Path, graph: str | None) -> None:
    # R6.15.6
    sparse = graph is None
    ward = sparse_ward(tmp_path) if sparse else Ward(tmp_path, rounds=1)
    ward.run(until=lambda state: state.round is not None and "site-a" in state.round.accepted)
    current = ward.ledger.state.round
    assert current is not None
    data = UpdateReady(base=current.base, graph=graph)
    with pytest.raises(PeerRefusedError, match="commits to no graph") as caught:
        ward.submit(
            ward.hospital("site-a"), "update.ready", data, current.number, refs=(current.plan.leaf.hex(),)
        )
    assert caught.value.check == "G44"


def test_a_study_with_a_weak_graph_is_not_taken_in(tmp_path: Path) -> None:
    # R6.15.2
    ward = sparse_ward(tmp_path)
    weak = changed(
        ward.study,
        "secure_aggregation",
        graph={"neighbours": 10, "share_threshold": 6, "window_survivors": 3},
    )
    weak.write(ward.folder.study / "study.toml")
    with pytest.raises(ConfigError, match="share threshold 6 does not fit 10 neighbours"):
        adopt_study(ward.folder, None, ward.ledger._keys)


def test_a_session_binds_what_was_committed_before_it(tmp_path: Path) -> None:
    ward = sparse_ward(tmp_path)
    ward.run(until=lambda state: state.session is not None)
    terms = terms_of_session(ward.ledger.state, last_session(ward))
    assert terms.commitments is not None
    assert sorted(terms.commitments.heads) == list(range(1, N + 1))


def test_a_vote_has_a_graph_of_its_own(tmp_path: Path) -> None:
    """R6.15.6: the contributions to the sum's graph are known when its vote begins."""
    ward = sparse_ward(tmp_path, secure_aggregation__vote={"every_rounds": 1})
    ward.run()
    update, vote = list(ward.ledger.state.sids.values())[:2]
    assert (update.purpose, vote.purpose) == ("update", "score")
    known = ward.payloads.neighbourhoods
    assert known.graph_of(update.sid).holders_of(1) != known.graph_of(vote.sid).holders_of(1)
    assert ward.ledger.state.rounds[1].outcome == "closed"
