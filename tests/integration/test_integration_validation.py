"""Validation counts of real processes over loopback TLS: what the log shows, and what is released."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import ModelReleased, RoundClosed
from fedmedlora_audit.events import Event, parse_event
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.validation_data import ValidationCounted
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import read_entries
from fedmedlora_core.adapter import Adapter
from fedmedlora_testkit.rehearsal import Federation, finish

pytestmark = pytest.mark.slow

SECONDS = 400.0
FOUND = {"site-a": (3, 9, 5), "site-b": (4, 8, 5), "site-c": (2, 7, 6), "site-d": (5, 9, 1)}
"""Mentions of ten that each site finds with the adapter of round 1, 2 and 3."""
COUNTING = {"secure_aggregation": {"validation": {"every_rounds": 1, "choose": "best"}}}


def trainer_of(site: str) -> str:
    kit = "__import__('fedmedlora_testkit.finding', fromlist=['finding'])"
    return f"trainer={kit}.FindingTrainer{FOUND[site]}"


def run(federation: Federation, *, die: str = "", site_dies: str = "") -> list[Event]:
    """Run to the end; who was told to die is started again. Returns the log's events."""
    centre = federation.coordinator(f"die_at={die!r}" if die else "")
    plans = {s: f", die_at={site_dies!r}" if site_dies and s == "site-b" else "" for s in federation.ids}
    sites = {s: federation.site(s, trainer_of(s) + plan) for s, plan in plans.items()}
    if site_dies:
        assert finish(sites["site-b"], SECONDS) == -9
        sites["site-b"] = federation.site("site-b", trainer_of("site-b"))
    if die:
        assert finish(centre, SECONDS) == -9
        centre = federation.coordinator()
    assert [finish(process, SECONDS) for process in sites.values()] == [0] * 4
    assert finish(centre, SECONDS) == 0
    entries = read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))
    return [parse_event(entry.note).event for entry in entries]


def check_verdict(federation: Federation, bundle: Path) -> None:
    export_bundle(federation.coordinator_root, bundle)
    terms = CharterTerms.from_json(federation.study.canonical_json())
    genesis = leaf_hash(read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))[0].note)
    verdict = verify_bundle(bundle, Trust.from_terms(terms, genesis=genesis))
    assert verdict.verdict == "pass", {k: c for k, c in verdict.checks.items() if c.result == "fail"}
    assert verdict.checks["G49"].count > 0


@pytest.mark.parametrize(
    ("die", "site_dies"),
    [("", ""), ("tally:2:after", ""), pytest.param("", "counts:2", marks=pytest.mark.long)],
)
def test_the_round_with_the_best_summed_counts_is_released_and_the_log_shows_sums_only(
    tmp_path: Path, die: str, site_dies: str
) -> None:
    # R4.15.3, R4.15.8
    federation = Federation.build(tmp_path, rounds=3, changes=COUNTING)
    events = run(federation, die=die, site_dies=site_dies)
    sums = {
        e.round: [(row.tp, row.fp, row.fn) for row in e.data.entities]
        for e in events
        if isinstance(e.data, ValidationCounted) and e.type == "validation.counted"
    }
    rounds = {number: sum(found[number - 1] for found in FOUND.values()) for number in (1, 2, 3)}
    assert sums == {number: [(tp, 4, 40 - tp)] for number, tp in rounds.items()}
    closed = {e.round: e.data for e in events if isinstance(e.data, RoundClosed)}
    release = next(e.data for e in events if isinstance(e.data, ModelReleased))
    assert (release.round, release.rounds) == (2, 3)
    assert release.adapter == closed[2].next_base != closed[3].next_base
    assert Adapter.load(federation.coordinator_root / "released").digest == release.adapter
    assert status(federation.coordinator_root)["released"] == release.adapter
    check_verdict(federation, tmp_path / "bundle")
