"""`audit scan`: a hospital searches a folder for its own canaries, and a script reads the exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedlora_cli.__main__ import main
from fedmedlora_core.clinic import canaries_of, canaries_to_json

CANARIES = canaries_of("site-a", seed=5)
MARK = CANARIES[1].marks["name"]


def scan(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as ended:
        main(["audit", "scan", *map(str, arguments)])
    return int(ended.value.code or 0)


@pytest.fixture
def marks(tmp_path: Path) -> Path:
    path = tmp_path / "canaries.json"
    path.write_text(canaries_to_json(CANARIES))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "bundle"
    made.mkdir()
    (made / "manifest").write_text("nothing here")
    return made


def test_a_clean_folder_is_0_and_a_planted_canary_1(
    marks: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scan(folder, "--canaries", marks) == 0
    assert "canaries: clean (3 canaries, 1 files" in capsys.readouterr().out
    (folder / "tile").write_bytes(MARK.encode("utf-16-be"))
    assert scan(folder, "--canaries", marks) == 1
    shown = capsys.readouterr().out
    assert "tile: name of site-a-2, utf-16-be" in shown
    assert MARK not in shown


def test_what_could_not_be_searched_is_2(
    marks: Path, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "store.sqlite").write_bytes(b"SQLite format 3\x00" + bytes(4096))
    assert scan(folder, "--canaries", marks) == 2
    assert "store.sqlite: not searched" in capsys.readouterr().out


def test_a_missing_folder_or_file_of_marks_is_2(
    marks: Path, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert scan(tmp_path / "none", "--canaries", marks) == 2
    assert scan(folder, "--canaries", tmp_path / "none.json") == 2
    marks.write_text(marks.read_text().replace('"id"', '"name"'))
    assert scan(folder, "--canaries", marks) == 2
    errors = capsys.readouterr().err
    assert errors.count("error: P1:") == 3
    assert MARK not in errors


def test_the_json_report_says_where_and_not_what(
    marks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The folder holds the file of marks itself: left out with --skip, found without."""
    assert scan(tmp_path, "--canaries", marks, "--json", "-") == 1
    found = json.loads(capsys.readouterr().out)
    assert found["verdict"] == "found"
    assert {item["canary"] for item in found["found"]} == {"site-a-1", "site-a-2", "site-a-3"}
    assert {item["mark"] for item in found["found"]} == {"name", "record", "telephone", "born"}
    assert {item["file"] for item in found["found"]} == {"canaries.json"}
    (tmp_path / "other").write_text("nothing")
    assert scan(tmp_path, "--canaries", marks, "--skip", marks, "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["files"] == 1
