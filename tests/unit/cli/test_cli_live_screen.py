"""`status --watch`: what is drawn, when the folder is read whole, and how keys are read."""

from __future__ import annotations

import io
import os
import pty
import termios
from typing import Any

import pytest
from rich.console import Console, RenderableType

from fedmedlora_cli import coordinator_screen, site_screen
from fedmedlora_cli.live_screen import Reader, single_keys, size_text, time_text
from fedmedlora_coordinator import watching
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_site import watching as site_watching

LIVE: dict[str, Any] = {
    "fresh": True, "problems": [], "round": 3, "step": "upload", "step_seconds": 75.0, "entries": 173,
    "connected": ["site-a"], "waiting_for": ["site-b"], "away_seconds": {"site-a": 0.0, "site-b": 400.0},
    "silent_steps": {"site-b": 2}, "log_bytes": 2048, "head_agrees": True, "store_write_ms": 12.0,
    "traffic": {"in": {"log": 1024}, "out": {"log": 1 << 20}}, "disk_free_bytes": 5, "disk_total_bytes": 100,
}  # fmt: skip
FOLDER: dict[str, Any] = {
    "serving": True, "study": "rehearsal", "round": 3, "rounds": 8, "closed": 2, "aborted": 0,
    "rolled_back": 0, "step": "train", "threshold": 3, "members": ["site-a", "site-b"], "waiting_for": [],
    "entries": 100, "run_closed": False,
}  # fmt: skip
SITE: dict[str, Any] = {
    "site": "site-a", "coordinator": "fl.example:7443", "study": "rehearsal", "rounds": 8, "rounds_closed": 2,
    "round": 3, "step": "train", "log_size": 100, "run_closed": False, "refused_steps": {"not_finite": 1},
    "ledger": "whole", "budget_spent_milli": 7900, "budget_limit_milli": 8000,
    "study_budget_spent_milli": None, "study_budget_limit_milli": None,
}  # fmt: skip
SITE_LIVE: dict[str, Any] = {
    "fresh": True, "problems": [], "connected": True, "connections": 3, "away_seconds": 0.0, "step": "train",
    "waiting_for": ["site-a"], "training_round": 3, "training_tenths": 7, "entries": 120, "rounds_closed": 2,
    "traffic": {"up": {"log": 10}, "down": {"log": 20}},
}  # fmt: skip


def drawn(renderable: RenderableType) -> str:
    console = Console(width=100, record=True, file=io.StringIO())
    console.print(renderable)
    return console.export_text()


def test_the_coordinators_screen_says_who_is_waited_for_and_what_is_alarming() -> None:
    text = drawn(coordinator_screen.screen(watching.joined(FOLDER, LIVE)))
    assert "round 3 of 8, step upload, for 1 min; needs 3 answers" in text
    assert "site-b no, for 6 min waited for 2" in " ".join(text.split())
    assert "173 entries, 2.0 KiB; head agrees" in text and "1.0 KiB in, 1.0 MiB out" in text
    assert "! SiteAway: site site-b" in text and "! DiskNearlyFull" in text


def test_without_a_process_the_screen_shows_what_the_folder_says() -> None:
    text = drawn(coordinator_screen.screen(watching.joined(FOLDER, {**LIVE, "fresh": False})))
    assert "no process serves" in text and "step train;" in text and "! ProcessDown" in text
    assert "no alarms" in drawn(coordinator_screen.screen(watching.joined({"study": None}, None)))


def test_the_sites_screen_says_training_budget_and_what_is_alarming() -> None:
    text = drawn(site_screen.screen(site_watching.joined(SITE, SITE_LIVE)))
    assert "training of round 3: 70 %" in text and "2 times connected again" in text
    assert "epsilon 7.900 of 8.000" in text and "120 entries" in text
    assert "! TrainerFailed" in text and "! BudgetNearlySpent" in text
    assert "! ProcessDown" in drawn(site_screen.screen(site_watching.joined(SITE, None)))


def test_a_folder_is_read_whole_only_when_its_log_grew() -> None:
    live, reads = dict(LIVE), []

    def whole() -> dict[str, Any]:
        reads.append(1)
        if len(reads) == 2:
            raise StoreError("the database is away")
        return dict(FOLDER)

    reader = Reader(whole, lambda: live, watching.joined, (StoreError,))
    assert reader.read()["entries"] == 173
    reader._next = 0.0  # as if time had passed
    reader.read()
    assert len(reads) == 1
    live["entries"] = 174
    facts = reader.read()  # what was read before stays, and the error is shown
    assert len(reads) == 2 and facts["closed"] == 2
    assert ["NotReady", "the folder cannot be read now: the database is away"] in facts["alarms"]
    reader._next = 0.0
    assert not [name for name, _ in reader.read()["alarms"] if name == "NotReady"]


def test_an_error_with_nothing_to_show_ends_the_command() -> None:
    def whole() -> dict[str, Any]:
        raise StoreError("damaged")

    with pytest.raises(StoreError):
        Reader(whole, lambda: None, watching.joined, (StoreError,)).read()


def test_single_keys_are_read_and_the_terminal_is_put_back() -> None:
    master, slave = pty.openpty()
    try:
        before = termios.tcgetattr(slave)
        with single_keys(slave) as keys:
            assert keys(0.0) == ""
            os.write(master, b"q")
            assert keys(5.0) == "q"
        assert termios.tcgetattr(slave) == before
    finally:
        os.close(master)
        os.close(slave)


def test_sizes_and_times_for_people() -> None:
    assert [size_text(n) for n in (0, 1023, 1024, 3 << 40)] == ["0 B", "1023 B", "1.0 KiB", "3.0 TiB"]
    assert [time_text(n) for n in (0, 59.9, 60, 7199, 7260)] == [
        "0 s",
        "59 s",
        "1 min",
        "119 min",
        "2 h 1 min",
    ]
