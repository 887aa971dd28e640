"""A coordinator that alters one value of its sum, against real sites over TLS and a reviewer afterwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import StepRefused
from fedmedlora_audit.events import Event, parse_event
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_cli.sum_review import SumReview
from fedmedlora_coordinator.evidence_export import export_evidence
from fedmedlora_coordinator.reports import export_bundle
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import read_entries
from fedmedlora_testkit.rehearsal import Federation, finish, start

pytestmark = pytest.mark.slow

ALTERING = """
from pathlib import Path
from fedmedlora_coordinator import aggregate
from fedmedlora_coordinator.runtime import serve
honest = aggregate.sum_and_unmask

def altered(*arguments, **options):
    total = honest(*arguments, **options)
    total[300_000] += 1
    return total

aggregate.sum_and_unmask = altered
serve(Path({root!r}), study=Path({package!r}), until_closed=True)
"""


def events_of(federation: Federation) -> list[Event]:
    entries = read_entries(SqliteDatabase(federation.coordinator_root / "store.sqlite"))
    return [parse_event(entry.note).event for entry in entries]


def test_an_altered_sum_closes_no_round_and_the_reviewer_says_who_was_wrong(tmp_path: Path) -> None:
    """R4.6.2, R4.6.6: three of four sites check the chunk that holds value 300,000."""
    federation = Federation.build(tmp_path, rounds=1, dimension=400_000)
    chunk = f"chunk {300_000 // federation.study.packing().frame_words} "
    root, package = federation.coordinator_root, federation.package
    centre = start(ALTERING.format(root=str(root), package=str(package)), tmp_path / "coordinator.log")
    sites = [federation.site(site) for site in federation.ids]
    assert all(finish(site) != 0 for site in sites), "the run was closed without a model"
    finish(centre)

    events = events_of(federation)
    refused = {e.actor.id for e in events if isinstance(e.data, StepRefused) and e.data.reason == "wrong_sum"}
    assert len(refused) >= 1
    assert [e.reason for e in events if e.type == "round.aborted"] == ["disagreement"]
    assert not any(e.type == "round.closed" for e in events)
    for site in refused:
        lines = (federation.site_root(site) / "run" / "journal.jsonl").read_text().splitlines()
        assert any(chunk in json.loads(line)["sentence"] for line in lines)

    # The policy is to shred, but a sum that was not verified keeps its evidence.
    assert [e.type for e in events if e.type.startswith("evidence.")] == ["evidence.kept"]
    export_evidence(root, 1, tmp_path / "evidence")
    export_bundle(root, tmp_path / "bundle")
    terms = CharterTerms.from_json(federation.study.canonical_json())
    trust = Trust.from_terms(
        terms, genesis=leaf_hash(read_entries(SqliteDatabase(root / "store.sqlite"))[0].note)
    )
    verdict = verify_bundle(tmp_path / "bundle", trust, sums=SumReview(tmp_path / "evidence"))
    assert {finding.check for finding in verdict.findings} == {"A3"}
    published = next(index for index, event in enumerate(events) if event.type == "aggregate.published")
    assert verdict.checks["A3"].first == published
    assert chunk in verdict.checks["A3"].sentence
    assert verify_bundle(tmp_path / "bundle", trust).verdict == "pass", "the log alone does not show it"
