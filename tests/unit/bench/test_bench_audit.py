"""`bench audit`: the log it writes is lawful, and its figures are those of a real verifier and ledger."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedlora_audit.note import holds
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_bench.audit.judging import claims_of
from fedmedlora_bench.audit.rows import audit_rows, conditions
from fedmedlora_bench.audit.study_log import StudyLog
from fedmedlora_bench.cost_tables import render_audit
from fedmedlora_cli.__main__ import main


def test_written_log_passes_with_every_check_that_a_bundle_alone_allows(tmp_path: Path) -> None:
    log = StudyLog(tmp_path, rounds=2, sites=4).play()
    log.write_bundle(tmp_path / "bundle")
    log.close()
    verdict = verify_bundle(tmp_path / "bundle", log.trust)
    assert (verdict.verdict, verdict.findings) == ("pass", ())
    assert verdict.events == log.ledger.size
    assert log.mirror.size == log.ledger.size
    assert {verdict.checks[name].result for name in ("C3", "E8", "U1")} == {"pass"}


def test_signatures_counted_are_all_there_are(tmp_path: Path) -> None:
    log = StudyLog(tmp_path, rounds=1, sites=4).play()
    log.write_bundle(tmp_path / "bundle")
    log.close()
    claims = claims_of(tmp_path / "bundle", log.trust)
    heads = 3  # survivors fixed, round closed, run closed
    assert len(claims) == log.ledger.size + heads * (1 + 4)
    assert all(map(holds, claims))


@pytest.mark.slow
def test_bench_audit_writes_every_figure_of_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "audit.json"
    demo = tmp_path / "result.json"
    demo.write_text('{"study": {"rounds": 2}, "audit": {"events": 100}, "seconds": {"training": 20.0}}')
    arguments = ["--rounds", "1", "--sites", "4", "--repeats", "1", "--workers", "1", "--json", str(file)]
    arguments += ["--demo", str(demo)]
    with pytest.raises(SystemExit) as left:
        main(["bench", "audit", *arguments])
    assert not left.value.code
    result = json.loads(file.read_text())
    assert result["verdict"] == "pass"
    assert result["signatures"] > result["events"] > result["write"]["events_per_round"] > 0
    assert result["load"]["before"] >= 0
    assert 0 < result["packed"]["bytes"] < result["bundle_bytes"]
    assert result["packed"]["verify_over_folder_cpu"] > 0.5
    assert result["packed"]["peak_above_base_bytes"] > 0
    assert "1 rounds, 4 sites" in capsys.readouterr().out
    assert all(row[0] in render_audit(result) for row in audit_rows(result))
    assert conditions(result) in render_audit(result)
    write, share = result["write"], result["demo"]["log_share"]
    own = [write[f"{part}_seconds_per_event"] for part in ("site_sign", "coordinator", "site_mirror")]
    assert share == pytest.approx(100 * sum(own) / 20.0)
    assert result["demo"]["seconds_per_round"] == 10.0


@pytest.mark.parametrize("text", ["", "[]", '{"study": {"rounds": 2}}', "\xff"])
def test_a_file_that_is_no_demo_s_result_is_refused_before_anything_runs(
    text: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "result.json"
    file.write_text(text, encoding="latin-1")
    with pytest.raises(SystemExit) as left:
        main(["bench", "audit", "--demo", str(file)])
    assert left.value.code == 2
    assert "expected the result.json of a demo" in capsys.readouterr().err
