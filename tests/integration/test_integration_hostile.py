"""Honest rounds under attack, in real processes: they end, and the limits are what refuses the attacker."""

from __future__ import annotations

import pytest

from fedmedlora_bench.hostile.run import HostilePlan, run_hostile
from fedmedlora_bench.progress import Progress


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("limits", [True, False])
def test_honest_rounds_end_under_two_attacks_and_only_limits_refuse(limits: bool) -> None:
    # R3.1.5
    plan = HostilePlan(
        ("slow_tls", "flood"),
        sites=3,
        rounds=1,
        repeats=1,
        dimension=1000,
        limits=limits,
        scheduling="SCHED_OTHER",  # beside other tests it would not come to its turn otherwise
    )
    with Progress(enabled=False) as progress:
        result = run_hostile(plan, progress=progress)
    assert result["not_reached"] == []
    slow, flood = result["attacks"]["slow_tls"], result["attacks"]["flood"]
    assert len(slow["under"]["seconds"]) == len(flood["under"]["seconds"]) == 1
    assert slow["attacker"]["tried"] > 16
    assert flood["attacker"]["calls"] > 0
    assert 0 < flood["attacker"]["pace"] <= 1
    assert flood["under"]["coordinator_cpu_seconds"] > 0
    assert ("limit=connections" in slow["under"]["refused"]) == limits
