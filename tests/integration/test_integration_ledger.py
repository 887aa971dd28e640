"""The privacy budget in a federation of real processes: killed, restarted, overspent."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.accountant import milli_of
from fedmedlora_audit.event_data import DpSpent
from fedmedlora_audit.events import Event
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle
from fedmedlora_core.records import write_notes
from fedmedlora_site import reports
from fedmedlora_site.accounting import epsilon_of
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.journal import Journal
from fedmedlora_site.ledger import Charge, Ledger
from fedmedlora_testkit.rehearsal import SITE_IDS, Federation, finish, plain_notes
from fedmedlora_testkit.spending import NO_SIZES, by_hand, privacy_table

pytestmark = pytest.mark.slow


def build(root: Path, *, rounds: int, planned: int, **table: Any) -> Federation:
    """A federation whose budget is just enough for so many planned rounds."""
    changes = {"aggregation": NO_SIZES, "privacy": privacy_table(rounds=planned, **table)}
    return Federation.build(root, rounds=rounds, changes=changes)


def events_of(federation: Federation, site: str) -> list[Event]:
    """What a site said, from its own mirror of the log."""
    held = Holdings.open(federation.site_root(site))
    return [entry.event for entry in held.mirror.entries if entry.event.actor.id == site]


def charges_of(federation: Federation, site: str) -> tuple[Charge, ...]:
    root = federation.site_root(site)
    return Ledger(root / "ledger.jsonl", root / "ledger.head").charges()


def spent_of(federation: Federation, site: str) -> float:
    """Epsilon from the ledger, as the site charges it."""
    terms = federation.study.privacy
    assert terms is not None
    return epsilon_of(charges_of(federation, site), delta=terms.delta, orders=terms.orders)


def verdict_of(federation: Federation) -> Any:
    """What an auditor says."""
    bundle, trust = federation.root / "bundle", federation.root / "trust.json"
    export_bundle(federation.coordinator_root, bundle)
    reports.write_trust(federation.site_root("site-a"), trust)
    return verify_bundle(bundle, Trust.load(trust))


@pytest.mark.long
def test_three_kills_of_a_site_change_nothing_of_what_ten_rounds_cost(tmp_path: Path) -> None:
    """Killed between ledger and event, in the middle of a training, and after its update was kept."""
    federation = build(tmp_path, rounds=10, planned=10)
    coordinator = federation.coordinator()
    others = [federation.site(site) for site in SITE_IDS if site != "site-b"]
    for instant in ("charge:2", "train:4", "upload:6"):
        assert finish(federation.site("site-b", f"die_at={instant!r}"), 600) == -signal.SIGKILL
        key = federation.site_root("site-b") / "run" / "noise.key"
        assert key.exists() == instant.startswith("train"), "what is left is removed by the next process"
    assert finish(federation.site("site-b"), 600) == 0
    assert [finish(process, 600) for process in (*others, coordinator)] == [0, 0, 0, 0]
    logged = {
        site: [e.data for e in events_of(federation, site) if isinstance(e.data, DpSpent)]
        for site in SITE_IDS
    }
    figures = {spent_of(federation, site) for site in SITE_IDS}
    assert len(figures) == 1, "the kills cost nothing"
    found = figures.pop()
    for site in SITE_IDS:
        assert len(logged[site]) == len(charges_of(federation, site)) == 10
        assert found == pytest.approx(by_hand(logged[site], delta=1e-5), rel=1e-9)
        assert logged[site][-1].epsilon_milli == milli_of(found)
        assert not (federation.site_root(site) / "run" / "noise.key").exists()
    # The tests above could not tell if nothing were composed: ten rounds cost far more than one.
    assert found > 1.5 * by_hand(logged["site-b"][:1], delta=1e-5)
    verdict = verdict_of(federation)
    assert verdict.verdict == "pass", {k: c for k, c in verdict.checks.items() if c.result != "pass"}


def test_a_round_beyond_the_budget_is_refused_and_the_others_go_on(tmp_path: Path) -> None:
    """Four rounds fit exactly. One site trains a round twice, on other notes: its fourth is one too many."""
    federation = build(tmp_path, rounds=4, planned=4)
    coordinator = federation.coordinator()
    others = [federation.site(site) for site in SITE_IDS if site != "site-b"]
    assert finish(federation.site("site-b", "die_at='train:2'"), 600) == -signal.SIGKILL
    write_notes(federation.site_root("site-b") / "data" / "notes.jsonl", plain_notes("site-b", 7))
    assert finish(federation.site("site-b"), 600) == 0
    assert [finish(process, 600) for process in (*others, coordinator)] == [0, 0, 0, 0]
    charges = charges_of(federation, "site-b")
    assert [charge.round for charge in charges] == [1, 2, 2, 3]
    assert len({charge.job for charge in charges}) == 4
    said = events_of(federation, "site-b")
    assert [e.round for e in said if e.type == "dp.spent"] == [1, 2, 2, 3]
    refused = [(e.round, json.loads(e.data.model_dump_json())) for e in said if e.type == "step.refused"]
    assert [(number, data["step"], data["reason"]) for number, data in refused] == [
        (4, "plan", "over_budget")
    ]
    (refusal,) = Journal(federation.site_root("site-b") / "run" / "journal.jsonl").refusals
    assert "the study's budget is epsilon 4.000 at delta 1e-5; " in refusal.sentence
    spent = milli_of(spent_of(federation, "site-b"))
    five = milli_of(by_hand([*charges, charges[0]], delta=1e-5))
    assert f"{spent / 1000:.3f} is spent and round 4 costs {(five - spent) / 1000:.3f}" in refusal.sentence
    state = Holdings.open(federation.site_root("site-a")).mirror.state
    assert [state.rounds[number].outcome for number in range(1, 5)] == ["closed"] * 4
    last = state.rounds[4].summed
    assert last is not None and sorted(last.u3) == ["site-a", "site-c", "site-d"]
    assert verdict_of(federation).verdict == "pass"
