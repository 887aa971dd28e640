"""What convicts in the fault simulation: with one protection taken out, a schedule breaks an invariant.

Without these the schedules of `test_integration_fault_schedules` might test nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.law import session_rules
from fedmedlora_bench.faults.centre import Centre, SimulatedStore
from fedmedlora_bench.faults.hosts import LIFE
from fedmedlora_bench.faults.run import Played, Stage, shrink
from fedmedlora_bench.faults.schedule import COORDINATOR, Operation, Schedule, Setup, When
from fedmedlora_bench.faults.world import World
from fedmedlora_crypto.secagg.dealing import Dealer
from fedmedlora_site.session_steps import SessionSteps

pytestmark = pytest.mark.slow

LATE_SECONDS = 5.0
KILLED = Schedule(1, Setup(), (Operation(When("entry", 40), "kill", COORDINATOR, 1.0),))
POWER_CUT = Schedule(1, Setup(), (Operation(When("step", 1, "share"), "power-cut", "site-b", 1.0),))
ONE_FEWER = Schedule(  # two shares of each were opened; then another sum from the same base, without site-d
    1,
    Setup(),
    (
        Operation(When("step", 1, "unmask"), "kill", "site-c", 60.0),
        Operation(When("step", 1, "unmask"), "kill", "site-d", 300.0),
    ),
)
TOO_LATE = Schedule(1, Setup(), (Operation(When("step", 1, "upload"), "cut", "site-d", 120.0),))


class LazyStore(SimulatedStore):
    """A store that is told of an entry and writes it some seconds later: receipts come before the disk."""

    def append(self, start: int, entries: Sequence[tuple[bytes, bytes]], *, head: bytes, size: int) -> None:
        life, write = LIFE.get(), super().append

        def later() -> None:
            if life is not None and life.alive:
                write(start, entries, head=head, size=size)

        asyncio.get_running_loop().call_later(LATE_SECONDS, later)


class LazyCentre(Centre):
    store_type = LazyStore


class LazyWorld(World):
    centre_type = LazyCentre
    most_seconds = 200.0


class ShortWorld(World):
    """Ends before the study may: a site without its markers is refused for ever by those who have theirs."""

    most_seconds = 400.0


class UnsyncedWorld(World):
    most_seconds = 400.0

    def __init__(self, *rest: Any) -> None:
        super().__init__(*rest)
        self.disk.syncs = False


def play(folder: Path, schedule: Schedule, world_type: type[World] = World) -> Played:
    return Stage(folder, world_type).play(schedule)


def broken(played: Played) -> set[str]:
    return {breach.invariant for breach in played.judgement.breaches}


def test_receipts_before_the_log_is_durable_lose_acknowledged_events(tmp_path: Path) -> None:
    assert "acknowledged" in broken(play(tmp_path / "lazy", KILLED, LazyWorld))
    assert play(tmp_path / "real", KILLED).holds


def test_a_failing_schedule_is_shrunk_to_what_it_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    real = Dealer.streams
    monkeypatch.setattr(Dealer, "streams", lambda *rest: real(*rest)[1:])
    delay = Operation(When("call", 3), "delay", "site-c", 0.1)
    assert shrink(replace(TOO_LATE, operations=(delay, *TOO_LATE.operations))) == TOO_LATE


def test_a_site_that_does_not_sync_forgets_what_it_signed_in_a_power_cut(tmp_path: Path) -> None:
    assert "acknowledged" in broken(play(tmp_path / "unsynced", POWER_CUT, UnsyncedWorld))
    assert play(tmp_path / "real", POWER_CUT).holds


def without_the_rules_of_subtraction(monkeypatch: pytest.MonkeyPatch) -> None:
    """G14 and G37, at the coordinator and at every site."""
    for rule in (session_rules.no_subtraction, session_rules.one_survivor_set_per_base):
        monkeypatch.setattr(rule, "__code__", (lambda state, event, data: None).__code__)


def without_the_sites_markers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SessionSteps, "_need_consent", lambda *_: None)
    monkeypatch.setattr(SessionSteps, "_need_unspent", lambda *_: None)


def test_without_law_and_markers_a_second_sum_gives_one_sites_update_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_the_rules_of_subtraction(monkeypatch)
    without_the_sites_markers(monkeypatch)
    played = play(tmp_path, ONE_FEWER, ShortWorld)
    found = [breach.found for breach in played.judgement.breaches if breach.invariant == "no site's vector"]
    assert any("site=4" in each and "equal=True" in each for each in found), found


@pytest.mark.parametrize("left", ["law", "markers"])
def test_the_law_or_the_markers_alone_prevent_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    (without_the_sites_markers if left == "law" else without_the_rules_of_subtraction)(monkeypatch)
    assert "no site's vector" not in broken(play(tmp_path, ONE_FEWER, ShortWorld))


def test_without_a_self_mask_a_late_upload_is_an_open_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert play(tmp_path / "real", TOO_LATE).holds
    real = Dealer.streams
    monkeypatch.setattr(Dealer, "streams", lambda *rest: real(*rest)[1:])
    found = play(tmp_path / "bare", TOO_LATE).judgement.breaches
    assert any(b.invariant == "no site's vector" and "equal=True" in b.found for b in found), found
