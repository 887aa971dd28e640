"""The journal of refusals."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from fedmedlora_site.journal import Journal, Refusal

ONE = Refusal("2026-03-01T10:00:00Z", "plan", "wrong_base", 3, None, "another base", 17, "ab" * 32)


def test_refusals_survive_a_restart_and_a_torn_line(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).record(ONE)
    with path.open("ab") as file:
        file.write(b'{"torn')
    again = Journal(path)
    assert again.refusals == (ONE,)
    assert again.has("plan", 3, None)
    assert not again.has("plan", 4, None)
    assert not again.has("plan", 3, "ab")


def test_a_missing_journal_is_empty(tmp_path: Path) -> None:
    assert Journal(tmp_path / "journal.jsonl").refusals == ()


def test_a_refusal_after_a_torn_line_is_not_lost_with_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    Journal(path).record(ONE)
    with path.open("ab") as file:
        file.write(b'{"torn')
    torn = path.read_bytes()
    assert Journal(path).refusals == (ONE,)
    assert path.read_bytes() == torn, "who only reads must not write beside a running agent"
    Journal(path, repair=True).record(replace(ONE, round=4))
    assert [refusal.round for refusal in Journal(path).refusals] == [3, 4]
