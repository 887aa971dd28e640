"""`bench step`: both loops on the same tokens, refusals in one line, and processes that share the layers."""

from __future__ import annotations

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from fedmedlora_bench.cost.models import SMALL, write_random
from fedmedlora_bench.ie.setting import profile_text
from fedmedlora_bench.step import StepPlan, run_step
from fedmedlora_bench.step.side import Place, measure_side
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.profile import Profile

NAME = "llama-3.1-8b"
PLAN = StepPlan(NAME, small=True, rows=2, tokens=48, steps=2)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_random(Profile.load(NAME), tmp_path_factory.mktemp("small"), small=True)


def test_small_model_is_of_the_published_architecture(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    assert config["model_type"] == "llama"
    assert {key: config[key] for key in SMALL} == SMALL
    assert config["dtype"] == "bfloat16"


def test_both_sides_take_the_same_steps(folder: Path) -> None:
    profile = PLAN.settings()
    assert (profile.training.quantisation, profile.training.compute_dtype) == (None, "bf16")
    assert profile.training.gradient_checkpointing
    ours = Place("ours", profile_text(profile), str(folder), "cpu", 0, 1, "", shard=False, steps=2)
    found = [measure_side(place) for place in (ours, replace(ours, side="bare"))]
    assert found[0].first_loss == pytest.approx(found[1].first_loss, rel=2e-2), "in bfloat16"
    for side in found:
        assert side.device == "cpu"
        assert side.step_seconds > 0
        assert side.peak_bytes > 0


def test_what_this_machine_cannot_do_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(plan: StepPlan) -> str:
        with pytest.raises(ConfigError) as found:
            run_step(plan, say=lambda _: None)
        assert "\n" not in str(found.value)
        return str(found.value)

    large = StepPlan(NAME)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert refused(large) == (
        "'llama-3.1-8b' is measured on a CUDA GPU, and this machine has none;"
        " --small rehearses the command on a processor"
    )
    assert "is not made for a published causal model" in refused(StepPlan("bio-clinicalbert"))
    assert "give --processes 2 or more" in refused(replace(PLAN, shard=True))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    assert "needs 2 CUDA GPUs; this machine has 1" in refused(replace(large, processes=2))
    assert "does not spread layers of four bits" in refused(replace(large, processes=2, shard=True))
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    assert "bitsandbytes: pip install" in refused(large)


def test_weights_that_do_not_fit_on_the_disk_are_not_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(StepPlan, "devices", lambda *_: ["cuda:0"])
    room: Any = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: room._replace(free=10**9))
    with pytest.raises(ConfigError, match=r"need 16 GB, 1 GB are free; name another folder with --work"):
        run_step(StepPlan(NAME), say=lambda _: None, work=tmp_path / "weights")


@pytest.mark.slow
def test_processes_that_share_the_layers_hold_less_and_lose_the_same(folder: Path, tmp_path: Path) -> None:
    said: list[str] = []
    shared = replace(PLAN, base=folder, processes=2, shard=True)
    found = run_step(shared, say=said.append)
    assert said == ["llama-3.1-8b: 2 steps, ours"]
    assert (found["bare"], found["throughput_ratio"], found["met"]) == (None, None, None)
    profile = replace(PLAN, rows=4).settings()
    one = Place("ours", profile_text(profile), str(folder), "cpu", 0, 1, "", shard=False, steps=1)
    assert found["ours"]["first_loss"] == pytest.approx(measure_side(one).first_loss, rel=1e-4)


@pytest.mark.slow
def test_a_process_that_fails_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^ours: .*is not a folder with a base model") as found:
        run_step(replace(PLAN, base=tmp_path), say=lambda _: None)
    assert "\n" not in str(found.value)
