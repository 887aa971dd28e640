"""Twenty-five kill -9 of coordinator and site, at random instants of a study: nothing is lost or forked."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedlora_cli.demo.federation import clear_earlier_run
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_cli.demo.records import read_rounds
from fedmedlora_core.study import Study
from fedmedlora_testkit.storm import Storm, assert_nothing_acknowledged_is_lost, drawn_kills

pytestmark = pytest.mark.slow

KILLS = 25
ROUNDS = 8


@pytest.mark.long
def test_twenty_five_kills_lose_no_event_and_fork_no_head(tmp_path: Path) -> None:
    out = tmp_path / "run"
    clear_earlier_run(out)
    kills = drawn_kills(("coordinator", "site-b"), KILLS, most_events=14, seed=4)
    storm = Storm(DemoOptions(out=out, rounds=ROUNDS, secure="masks", rehearsal=True), kills)
    storm.provision()
    storm.import_notes()
    storm.agree()
    storm.train()
    assert len(storm.struck) == KILLS, "the study ended before the plan did"
    verdict = storm.review()
    assert verdict["verdict"] == "pass", verdict
    checks = verdict["checks"]
    assert isinstance(checks, dict)
    # One history: every head that a site holds is a head of the log, and a quorum stands behind its end.
    assert checks["C6"]["count"] == 4
    assert {checks[name]["result"] for name in ("C3", "C4", "C6", "E5", "E6", "E8")} == {"pass"}
    assert_nothing_acknowledged_is_lost(storm)
    rows = read_rounds(storm.bundle, Study.load(storm.study))
    assert len(rows) == ROUNDS
    assert any(row.outcome == "closed" for row in rows)
    for site in storm.options.site_ids:
        promised = json.loads((storm.site(site) / "run" / "witness.json").read_text())
        assert promised["size"] <= verdict["events"]
