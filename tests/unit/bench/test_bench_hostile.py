"""`bench hostile`: its table, its bytes of HTTP/2, and what it refuses to run."""

from __future__ import annotations

import asyncio
import time
from copy import deepcopy
from pathlib import Path

import pytest

from fedmedlora_bench.hostile import http2
from fedmedlora_bench.hostile.attacks import ATTACKS, Target
from fedmedlora_bench.hostile.rows import HEAD, conditions, hostile_rows, render_hostile
from fedmedlora_bench.hostile.run import HostilePlan, Side, figures
from fedmedlora_core.errors import ConfigError


def result(under: list[float], paused: float = 10) -> dict[str, object]:
    attacked = Side(under, [0.2, 0.3, 0.4])
    attacked.refused.update({"limit=connections": 1200, "reason=too_fast": 0, "method=Submit": 3})
    attacked.attacker.update({"tried": 500, "calls": 30_000, "seconds": 10, "planned": 9, "paused": paused})
    return {
        "sites": 4,
        "rounds": 3,
        "repeats": 1,
        "dimension": 1000,
        "limits": True,
        "attacks": {name: figures(Side([1.0, 2.0, 3.0], [0.2] * 3), deepcopy(attacked)) for name in ATTACKS},
        "not_reached": [],
        "load": {"before": 1.0, "after": 9.0},
        "machine": {"cores": 2, "cpu": "a machine"},
    }


def test_every_attack_has_a_row_with_its_ratio_and_what_was_refused() -> None:
    rows = hostile_rows(result([2.2, 2.0, 2.4]))
    assert len(rows) == len(ATTACKS)
    for row in rows:
        assert len(row) == len(HEAD)
        assert row[1:3] == ("2.00 s", "2.20 s")
        assert row[3].startswith("1.10 (")
        assert row[4] == "0.20 / 0.30 s"
        assert row[5].startswith("1.50 (1.00 to ")
        assert row[6] == "50.0 connections and 3,000 calls a second, pace 90%"
        assert row[7] == "connections 1,200, unread Submit 3", "what was not refused is not named"


@pytest.mark.parametrize(
    ("under", "said"), [([2.3] * 3, "Over 1.2: none."), ([2.5] * 3, "Over 1.2: slow_tls,")]
)
def test_conditions_name_each_attack_over_the_bound(under: list[float], said: str) -> None:
    found = conditions(result(under))
    assert said in found
    assert "load 1.0 before and 9.0 after" in found
    assert found in render_hostile(result(under))


def test_conditions_name_an_attacker_that_had_no_processor() -> None:
    assert "starved" not in conditions(result([2.0] * 3))
    said = conditions(result([2.0] * 3, paused=20))
    assert "Attackers that were starved of processor time: slow_tls," in said


def test_an_attackers_processor_time_is_said_by_the_second_of_attack() -> None:
    found = figures(Side([1.0], [0.2]), Side([2.0], [0.5]))
    assert found["cpu_per_attacked_second"] == pytest.approx(0.15)
    assert found["cpu_ratio"] == pytest.approx(2.5)
    assert found["attacker"]["pace"] == 1.0


def test_pace_is_the_share_of_the_planned_speed() -> None:
    target = Target(1, Path("papers"))

    async def hindered() -> None:
        pausing = asyncio.ensure_future(target.pause(0.05))
        await asyncio.sleep(0)
        end = time.monotonic() + 0.2
        while time.monotonic() < end:  # nobody else gets the processor
            pass
        await pausing

    asyncio.run(hindered())
    assert target.pace < 0.3


def test_interval_holds_the_ratio_and_is_a_point_without_spread() -> None:
    spread = figures(Side([1.0, 1.1, 1.3], [0.1] * 3), Side([1.0, 1.2, 1.6], [0.1] * 3))
    low, high = spread["interval"]
    assert low < spread["ratio"] < high
    assert figures(Side([2.0, 2.0], [0.1]), Side([3.0, 3.0], [0.1]))["interval"] == [1.5, 1.5]


@pytest.mark.parametrize(
    "changes",
    [
        {"attacks": ("slow",)},
        {"attacks": ()},
        {"sites": 2},
        {"rounds": 0},
        {"repeats": 0},
        {"dimension": 3},
        {"rounds": 100},
    ],
)
def test_what_cannot_be_run_is_refused(changes: dict[str, object]) -> None:
    with pytest.raises(ConfigError):
        HostilePlan(**changes)  # type: ignore[arg-type]


def test_frames_are_laid_out_as_the_standard_says() -> None:
    assert http2.frame(http2.DATA, 1, 5, b"ab") == b"\0\0\2\0\1\0\0\0\5ab"
    call = http2.call("Submit", b"note", 3)
    block = http2.headers("Submit")
    assert call == http2.frame(http2.HEADERS, 4, 3, block) + http2.frame(http2.DATA, 1, 3, b"\0\0\0\0\4note")
    assert b"\0\7:method\4POST" in block
    giant = http2.giant_call("Submit", 1 << 30, 10, 1)
    assert giant.endswith(b"\0" + (1 << 30).to_bytes(4, "big") + bytes(10))
