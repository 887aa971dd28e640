"""Fault schedules against the real coordinator and real sites: some seeds, and whatever ever failed.

`fedmedlora bench faults` plays hundreds; docs/results/faults.json holds a run of it.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_bench.faults.run import Stage, load_schedules
from fedmedlora_bench.faults.schedule import Schedule, draw

pytestmark = pytest.mark.slow

KEPT = Path(__file__).parents[1] / "vectors" / "faults" / "schedules.json"
SEEDS = (1, 3, 5, 8, 13)


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory) -> Stage:
    return Stage(tmp_path_factory.mktemp("faults"))


@pytest.mark.parametrize("seed", SEEDS)
def test_whatever_fails_nothing_is_lost_forked_or_given_away(stage: Stage, seed: int) -> None:
    played = stage.play(draw(seed))
    assert played.judgement.acknowledged > 20, "nothing was tried"
    assert not played.judgement.breaches


@pytest.mark.parametrize("schedule", load_schedules(KEPT), ids=lambda schedule: f"seed-{schedule.seed}")
def test_a_schedule_that_once_failed_holds(stage: Stage, schedule: Schedule) -> None:
    assert not stage.play(schedule).judgement.breaches


def test_the_same_schedule_gives_the_same_run(stage: Stage) -> None:
    first, second = (stage.play(draw(SEEDS[-1])) for _ in range(2))
    assert first.to_json() == second.to_json()
