"""Clocks that disagree are oddities of the report: one row for each author and kind."""

from __future__ import annotations

from typing import Any

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit.report import clocks
from fedmedlora_audit.report.oddities import oddities
from fedmedlora_testkit.audit_log import StudyLog


def log_with_plan() -> StudyLog:
    """A study at the plan of its first round: one event a minute, the last about 08:00."""
    log = StudyLog().set_up()
    log.minute = 480
    log.plan()
    return log


def accept(log: StudyLog, site: str, **fields: Any) -> int:
    refs = [log.state.rounds[1].plan.leaf.hex()]
    base = of.Base(base=log.state.base)
    return log.say(site, "plan.accepted", base, round=1, refs=refs, **fields).index


def told(log: StudyLog) -> list[tuple[int, str, str]]:
    return [
        (row.index, row.who, row.sentence) for row in oddities(log.entries, log.state) if row.kind == "clock"
    ]


def test_clocks_that_agree_are_not_odd() -> None:
    assert told(StudyLog().play(2)) == []


def test_a_site_whose_clock_is_ahead_is_told_against_the_coordinators_receipt() -> None:
    log = log_with_plan()
    place = accept(log, "site-b", time="2026-03-01T09:02:30Z")
    ((index, who, sentence),) = told(log)
    assert (index, who) == (place, "site-b")
    assert sentence == (
        "By the clock of site-b: 1 event dated up to 61 minutes after the coordinator's receipt of it."
    )


def test_a_site_whose_clock_is_behind_is_told() -> None:
    log = log_with_plan()
    accept(log, "site-c", time="2026-03-01T07:00:00Z")
    assert [sentence for _, _, sentence in told(log)] == [
        "By the clock of site-c: 1 event dated up to 62 minutes before the coordinator's receipt of it."
    ]


def test_a_clock_that_went_back_is_told_against_the_authors_own_event() -> None:
    log = log_with_plan()
    log.minute = 420
    accept(log, "site-a")
    rows = [row for row in told(log) if row[1] == "coordinator"]
    assert [sentence for _, _, sentence in rows] == [
        "By the clock of coordinator: 1 event dated up to 59 minutes before its own event before."
    ]


@pytest.mark.parametrize(("second", "rows"), [("05:00", 0), ("05:01", 1)])
def test_five_minutes_are_allowed_and_a_second_more_is_not(second: str, rows: int) -> None:
    log = log_with_plan()
    receipt = 480 + 2
    accept(log, "site-a", time=f"2026-03-01T08:{receipt - 480 + int(second[:2]):02d}:{second[3:]}Z")
    assert len(told(log)) == rows


def test_many_events_under_one_wrong_clock_are_one_row(monkeypatch: pytest.MonkeyPatch) -> None:
    log = log_with_plan()
    first = accept(log, "site-b", time="2026-03-01T10:00:00Z")
    update = of.UpdateReady(base=log.state.base)
    plan = log.state.rounds[1].plan.leaf.hex()
    log.say("site-b", "update.ready", update, round=1, refs=[plan], time="2026-03-01T10:30:00Z")
    ((index, _, sentence),) = told(log)
    assert index == first
    assert "2 events, this the first, dated up to" in sentence
    monkeypatch.setattr(clocks, "SKEW_SECONDS", 24 * 3600)
    assert told(log) == []
