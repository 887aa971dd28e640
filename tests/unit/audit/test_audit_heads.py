"""What sites hand in beside a bundle may be anything: it is judged, and never ends the verifier."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_audit.heads import judge_heads
from fedmedlora_audit.trust import Trust
from fedmedlora_testkit.fuzzed import log


@pytest.mark.parametrize("number", ["Infinity", "-1e999", "NaN", '"one"', "[1]"])
def test_a_journal_with_a_round_that_is_none_is_a_finding(tmp_path: Path, number: str) -> None:
    (tmp_path / "site-a").mkdir()
    line = f'{{"step":"plan","reason":"policy","round":{number}}}\n'
    (tmp_path / "site-a" / "journal.jsonl").write_text(line, encoding="utf-8")
    trust = Trust.from_terms(log().terms, genesis=log().entries[0].leaf)
    judged = judge_heads(tmp_path, trust, log().tree, [entry.event for entry in log().entries])
    assert [check for check, _, _ in judged.findings] == ["J1"]
    assert "has a line that is none" in judged.findings[0][1]
