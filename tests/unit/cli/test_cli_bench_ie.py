"""`bench ie` from the command line: sizes, the work folder, and a result that says how to repeat it."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmedlora_cli.app import build_app
from fedmedlora_testkit.models import write_encoder


def test_options_decide_the_run_and_stand_in_the_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, work, target = write_encoder(tmp_path / "base"), tmp_path / "work", tmp_path / "ie.json"
    monkeypatch.setenv("FEDMEDLORA_DATA", str(tmp_path / "nowhere"))
    command = ["bench", "ie", "--clinic", "--base", str(base), "--rounds", "1", "--train", "4", "--test", "2"]
    command += ["--work", str(work), f"--json={target}"]
    monkeypatch.setattr(sys, "argv", ["fedmedlora", *command])
    done = CliRunner().invoke(build_app(command), command)
    assert done.exit_code == 0, done.output
    assert "federated" in done.output
    result = json.loads(target.read_text())
    assert result["repeat"]["command"] == (
        "fedmedlora bench ie --clinic --base base --rounds 1 --train 4 --test 2 --work work --json=ie.json"
    )
    assert str(tmp_path) not in target.read_text(), "folders of this machine are nobody's business"
    assert result["data"]["cohort"] == "clinic"
    assert result["settings"]["training"]["rounds"] == 1
    assert result["settings"]["options"]["limits"]["train"] == 4
    assert result["cost"]["jobs"] == len(list(work.glob("*/result.json")))


def test_wrong_scenario_is_refused_before_anything_runs(tmp_path: Path) -> None:
    base = write_encoder(tmp_path / "base")
    command = ["bench", "ie", "--clinic", "--base", str(base), "--scenario", "nothing"]
    done = CliRunner().invoke(build_app(command), command)
    assert done.exit_code != 0
    assert "there is no scenario 'nothing'" in str(done.exception)
