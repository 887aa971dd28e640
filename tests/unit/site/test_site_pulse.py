"""What a site shows to its own operator: round, training in tenths, budget; no size, weight or loss."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from fedmedlora_site import metrics, watching
from fedmedlora_site.errors import TrainingError
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.metrics import Standing
from fedmedlora_site.pulse import Pulse
from fedmedlora_site.training import (
    RehearsalTrainer,
    Report,
    TrainingJob,
    TrainingOutcome,
    TrainingProgress,
)
from fedmedlora_testkit.spending import overrides
from fedmedlora_testkit.stage import Stage, play
from fedmedlora_testkit.stage_site import make_site, staged_study


def shown() -> dict[tuple[str, ...], float]:
    """What a scrape gets: name and label values to value."""
    families = text_string_to_metric_families(generate_latest(metrics.REGISTRY).decode())
    return {
        (sample.name.removeprefix("fedmedlora_site_"), *sample.labels.values()): sample.value
        for family in families
        for sample in family.samples
    }


async def _looked(pulse: Pulse) -> dict[str, Any]:
    await pulse._look_slowly()
    return pulse.take()


def test_a_look_after_two_rounds(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        await stage.round(gone=["site-c"])
        stage.finish()
        assert await stage.ended() is None

    root = play(tmp_path, scene).root
    held = Holdings.open(root)
    facts = asyncio.run(_looked(Pulse(held, Standing())))
    found = shown()
    assert (found["round",], found["rounds_closed",], found["rounds_planned",]) == (2, 2, 4)
    assert (found["step", "closed"], found["log_entries",]) == (1, held.mirror.size)
    assert (found["ledger_state", "none"], found["budget_spent_epsilon",]) == (1, 0)
    assert not facts["connected"]
    status = watching.look(root)
    assert (status["running"], status["alarms"], status["budget_limit_milli"]) == (True, [], None)
    left = json.loads((root / "run" / "live.json").read_text())
    assert left["problems"] == [] and watching.health(root) == []


def test_training_is_shown_in_tenths_whatever_its_steps() -> None:
    standing = Standing()
    seen = []
    for done in range(1000):
        standing.trained(3, done, 1000)
        seen.append(standing.tenths)
    assert (standing.round, sorted(set(seen))) == (3, list(range(10)))
    standing.trained(3, 100, 100)
    assert standing.tenths == 10


class SlowlyTold(RehearsalTrainer):
    """Reports every hundredth, as a trainer with many steps does."""

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        for percent in range(88):
            report(TrainingProgress(1, 1, percent))
        raise TrainingError("training_failed", "Mrs. Canary had chest pain")


def test_a_failed_training_is_an_alarm_without_its_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    standing: list[Standing] = []

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        stage.start(SlowlyTold())
        assert stage.agent is not None
        standing.append(stage.agent.standing)
        stage.log.plan()
        stage.say()
        await stage.own("step.refused")

    root = play(tmp_path, scene).root
    assert standing[0].tenths == 8
    pulse = Pulse(Holdings.open(root), standing[0])
    pulse.take()
    found = shown()
    assert (found["trainer_failures",], found["refused_steps", "training_failed"]) == (1, 1)
    assert found["training_progress",] == 0.8
    status = watching.look(root)
    assert "TrainerFailed" in {alarm[0] for alarm in status["alarms"]}
    assert "Canary" not in caplog.text + json.dumps(status) + str(found)


def test_a_budget_is_shown_and_a_changed_ledger_is_an_alarm(tmp_path: Path) -> None:
    study = staged_study(**overrides(rounds=4))
    root = make_site(tmp_path, study)
    held = Holdings.open(root)
    assert held.spending is not None
    held.spending.charge(1, study.adapter.initial_digest)
    pulse = Pulse(held, Standing())
    facts = asyncio.run(_looked(pulse))
    found = shown()
    spent = facts["study_budget_spent_milli"]
    assert spent > 0 and facts["budget_limit_milli"] is None
    assert found["study_budget_spent_epsilon",] == spent / 1000
    assert found["study_budget_limit_epsilon",] == study.privacy.epsilon_milli / 1000  # type: ignore[union-attr]
    assert found["ledger_state", "whole"] == 1
    ledger = root / "ledger.jsonl"
    ledger.write_text(ledger.read_text().replace('"round":1', '"round":2'))
    asyncio.run(_looked(pulse))
    assert (shown()["ledger_state", "damaged"], shown()["ledger_state", "whole"]) == (1, 0)
    assert "LedgerDamaged" in {alarm[0] for alarm in watching.look(root)["alarms"]}


BASE: dict[str, Any] = {
    "study": "s", "run_closed": False, "running": True, "refused_steps": {}, "ledger": "whole",
    "budget_spent_milli": None, "budget_limit_milli": None, "study_budget_spent_milli": None,
    "study_budget_limit_milli": None,
}  # fmt: skip


@pytest.mark.parametrize(
    ("facts", "alarms"),
    [
        ({}, []),
        ({"running": False}, ["ProcessDown"]),
        ({"running": False, "run_closed": True}, []),
        ({"away_seconds": 301.0}, ["CoordinatorAway"]),
        ({"refused_steps": {"not_finite": 2}}, ["TrainerFailed"]),
        ({"refused_steps": {"over_budget": 1}}, ["StepRefused"]),
        ({"refused_steps": {"log_forked": 1}}, ["LogAndHeadDisagree"]),
        ({"budget_spent_milli": 7200, "budget_limit_milli": 8000}, ["BudgetNearlySpent"]),
        ({"budget_spent_milli": 7199, "budget_limit_milli": 8000}, []),
        ({"study_budget_spent_milli": 2000, "study_budget_limit_milli": 2000}, ["BudgetNearlySpent"]),
        ({"budget_spent_milli": 7200}, []),
        ({"ledger": "damaged"}, ["LedgerDamaged"]),
    ],
)
def test_what_is_alarming(facts: dict[str, Any], alarms: list[str]) -> None:
    assert [alarm.name for alarm in watching.alarms({**BASE, **facts})] == alarms


def test_no_metric_of_a_site_is_named_for_what_it_must_not_say() -> None:
    text = generate_latest(metrics.REGISTRY).decode()
    help_lines = [
        line.removeprefix("# HELP ") for line in text.splitlines()
    ]  # also of those without a series
    names = {line.split("{")[0].split(" ")[0] for line in help_lines if line.startswith("fedmedlora_")}
    assert len(names) > 20
    for name in names:
        words = set(name.split("_"))
        assert not words & {
            "loss",
            "score",
            "f1",
            "weight",
            "notes",
            "sentences",
            "size",
            "rows",
            "epoch",
            "batch",
        }
    assert "site-a" not in text
