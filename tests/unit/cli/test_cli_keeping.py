"""`fedmedlora coordinator hold|release|prune|stamp`: what they print and how they end."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from fedmedlora_cli.__main__ import main
from fedmedlora_coordinator.reports import status
from fedmedlora_testkit.ward import Ward


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    ward = Ward(tmp_path, rounds=1)
    ward.run()
    ward.store.close()
    return ward.folder.root


def run(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["coordinator", *arguments])
    code = ended.value.code
    assert isinstance(code, int)
    return code


def test_a_hold_is_placed_and_released(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("hold", "--dir", str(root), "--reason", "litigation") == 0
    assert "hold 1 is in force" in capsys.readouterr().out
    assert status(root)["holds"] == [1]
    assert run("release", "--dir", str(root), "--hold", "1") == 0
    assert status(root)["holds"] == []
    assert run("release", "--dir", str(root), "--hold", "1") == 2
    assert run("hold", "--dir", str(root), "--reason", "a patient complained") == 2
    assert "one of: litigation" in capsys.readouterr().err


def test_pruning_says_why_nothing_goes(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("prune", "--dir", str(root), "--json", "-") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["deleted"] == []
    assert "no whole tile" in found["refused"]


def test_stamping_without_an_authority_cannot_run(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("stamp", "--dir", str(root)) == 2
    assert "stamps.tsa_url" in capsys.readouterr().err
