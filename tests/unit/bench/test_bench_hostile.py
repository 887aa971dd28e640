"""`bench hostile`: its table, its bytes of HTTP/2, and what it refuses to run."""

from __future__ import annotations

import pytest

from fedmedlora_bench.hostile import http2
from fedmedlora_bench.hostile.attacks import ATTACKS
from fedmedlora_bench.hostile.rows import HEAD, conditions, hostile_rows, render_hostile
from fedmedlora_bench.hostile.run import HostilePlan, Side, figures
from fedmedlora_core.errors import ConfigError


def result(under: list[float]) -> dict[str, object]:
    attacked = Side(under, [0.3])
    attacked.refused.update({"limit=connections": 1200, "reason=too_fast": 0})
    attacked.attacker.update({"tried": 5000, "calls": 7})
    return {
        "sites": 4,
        "rounds": 3,
        "repeats": 1,
        "dimension": 1000,
        "limits": True,
        "attacks": {name: figures(Side([1.0, 2.0, 3.0], [0.2]), attacked) for name in ATTACKS},
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
        assert row[5] == "5,000 connections, 7 calls"
        assert row[6] == "connections 1,200", "what was not refused is not named"


@pytest.mark.parametrize(
    ("under", "said"), [([2.3] * 3, "Over 1.2: none."), ([2.5] * 3, "Over 1.2: slow_tls,")]
)
def test_conditions_name_each_attack_over_the_bound(under: list[float], said: str) -> None:
    found = conditions(result(under))
    assert said in found
    assert "load 1.0 before and 9.0 after" in found
    assert found in render_hostile(result(under))


def test_interval_holds_the_ratio_and_is_a_point_without_spread() -> None:
    spread = figures(Side([1.0, 1.1, 1.3], [0.1]), Side([1.0, 1.2, 1.6], [0.1]))
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
