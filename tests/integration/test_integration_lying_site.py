"""A lying site among real ones: what it can do to the adapter, and that the others' vote takes it back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import RoundClosed, VotesCounted
from fedmedlora_audit.events import Event, parse_event
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import read_entries
from fedmedlora_core.adapter import Adapter
from fedmedlora_testkit.rehearsal import Federation, finish

pytestmark = pytest.mark.slow

LIAR = "site-d"
LYING = "trainer=__import__('fedmedlora_testkit.liar', fromlist=['liar']).LyingTrainer(2)"
VOTE = {"every_rounds": 1, "margin_milli": 5}


def run(federation: Federation) -> list[Event]:
    """Two rounds; in the second one site lies. Returns the log's events."""
    centre = federation.coordinator()
    sites = [federation.site(s, LYING if s == LIAR else "") for s in federation.ids]
    assert [finish(process) for process in sites] == [0] * 4
    assert finish(centre) == 0
    entries = read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))
    return [parse_event(entry.note).event for entry in entries]


def check_verdict(federation: Federation, bundle: Path) -> None:
    export_bundle(federation.coordinator_root, bundle)
    terms = CharterTerms.from_json(federation.study.canonical_json())
    genesis = leaf_hash(read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))[0].note)
    verdict = verify_bundle(bundle, Trust.from_terms(terms, genesis=genesis))
    assert verdict.verdict == "pass", {k: c for k, c in verdict.checks.items() if c.result == "fail"}
    assert verdict.checks["G42"].count > 0


def released(federation: Federation) -> np.ndarray:
    return Adapter.load(federation.coordinator_root / "released").vector()


def test_a_harmful_update_is_voted_down_and_the_adapter_stays(tmp_path: Path) -> None:
    federation = Federation.build(tmp_path, rounds=2, vote=VOTE)
    events = run(federation)
    counts = [
        (e.round, e.data.against)
        for e in events
        if isinstance(e.data, VotesCounted) and e.actor.id == "coordinator"
    ]
    assert counts == [(1, 0), (2, 3)], "the three honest sites find it worse, the liar does not"
    assert [e.type for e in events if e.type in ("round.closed", "round.rolled_back")] == [
        "round.closed",
        "round.rolled_back",
    ]
    after_round_1 = next(e.data for e in events if e.type == "round.closed")
    found = status(federation.coordinator_root)
    assert (found["closed"], found["rolled_back"]) == (1, 1)
    assert isinstance(after_round_1, RoundClosed)
    assert found["released"] == after_round_1.next_base
    assert abs(float(released(federation).mean())) < 0.001
    for site in federation.ids:
        kept = {
            p.name.rsplit("-", 1)[1] for p in (federation.site_root(site) / "run" / "adapters").glob("base-*")
        }
        assert kept == {str(found["released"])[:16]}, "no site keeps the refused adapter"
    check_verdict(federation, tmp_path / "bundle")


def test_without_the_vote_the_harmful_update_is_taken(tmp_path: Path) -> None:
    federation = Federation.build(tmp_path, rounds=2)
    run(federation)
    assert (status(federation.coordinator_root)["closed"]) == 2
    assert float(released(federation).mean()) < -0.03, "one site of four moved every value by almost its lie"
