"""A packed bundle at the command line: every command says the same of a bundle, packed or not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from fedmedlora_audit.bundle import read_files
from fedmedlora_audit.canary import Canaries, scan_folder
from fedmedlora_cli.__main__ import main
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog
from fedmedlora_testkit.packed_attacks import archive, framed, honest

LOG = StudyLog().play(1)


class Desk:
    """A reviewer's folder: the same log as a folder and packed, falsified or not, and the commands."""

    def __init__(self, root: Path, *, falsified: bool) -> None:
        self.root = root
        made = Forger(LOG)
        made.trust.write(root / "trust.json")
        if falsified:
            place = made.index("unmask.request")
            made.notes[place] = made.notes[place].replace(b'"time":"2026', b'"time":"2025')
        self.folder = made.seal(root / "folder")
        self.packed = made.seal(root / "packed.tar.gz")

    def run(self, command: str, bundle: Path, *more: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["audit", command, str(bundle), "--trust", str(self.root / "trust.json"), *more])
        assert isinstance(ended.value.code, int)
        return ended.value.code

    def both(self, ask: Callable[[Path, Path], int]) -> tuple[tuple[int, bytes], tuple[int, bytes]]:
        """Run a command over both; returns exit code and what it wrote, for each."""
        out = self.root / "out"
        found = []
        for bundle in (self.folder, self.packed):
            found.append((ask(bundle, out), out.read_bytes()))
            out.unlink()
        return found[0], found[1]


@pytest.fixture(scope="module", params=["honest", "falsified"])
def desk(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Desk:
    return Desk(tmp_path_factory.mktemp("desk"), falsified=request.param == "falsified")


def test_verify_report_show_and_export_say_the_same_of_a_packed_bundle(desk: Desk) -> None:
    asked: list[Callable[[Path, Path], int]] = [
        lambda bundle, out: desk.run("verify", bundle, "--json", str(out)),
        lambda bundle, out: desk.run("show", bundle, "--round", "1", "--json", str(out)),
        lambda bundle, out: desk.run("show", bundle, "--index", "20", "--json", str(out)),
        lambda bundle, out: desk.run(
            "export", bundle, "--unverified", "--format", "jsonl", "--out", str(out)
        ),
    ]
    for ask in asked:
        folder, packed = desk.both(ask)
        assert folder == packed
        assert len(packed[1]) > 500
    page = str(desk.root / "page.html")
    folder, packed = desk.both(
        lambda bundle, out: desk.run("report", bundle, "--out", page, "--json", str(out))
    )
    assert folder[0] == packed[0]
    told, again = (json.loads(found) for _, found in (folder, packed))
    assert told.pop("repeat") != again["repeat"]
    assert "packed.tar.gz" in again.pop("repeat")
    del told["scope"]["judged_at"], again["scope"]["judged_at"]
    assert told == again


@pytest.mark.parametrize("command", ["verify", "report", "show", "export"])
def test_a_damaged_file_is_refused_by_every_command_in_one_line_that_names_it(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(tmp_path, falsified=False)
    whole = desk.packed.read_bytes()
    desk.packed.write_bytes(whole[:2000] + bytes([whole[2000] ^ 1]) + whole[2001:])
    more = {
        "report": ["--out", str(tmp_path / "page.html")],
        "export": ["--format", "jsonl", "--out", str(tmp_path / "rows")],
    }
    assert desk.run(command, desk.packed, *more.get(command, [])) == (2 if command == "show" else 1)
    said = capsys.readouterr()
    text = (tmp_path / "page.html").read_text() if command == "report" else said.out + said.err
    assert [line for line in text.splitlines() if "packed.tar.gz: " in line]
    assert "Traceback" not in text
    assert not (tmp_path / "rows").exists()


@pytest.mark.parametrize("command", ["verify", "show"])
def test_no_bundle_is_said_so(command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    desk = Desk(tmp_path, falsified=False)
    assert desk.run(command, tmp_path / "none.tar.gz") == 2
    assert "none.tar.gz: there is no such bundle" in capsys.readouterr().err


def test_an_export_never_takes_the_place_of_its_bundle(tmp_path: Path) -> None:
    desk = Desk(tmp_path, falsified=False)
    before = desk.packed.read_bytes()
    assert desk.run("export", desk.packed, "--format", "jsonl", "--out", str(desk.packed)) == 2
    assert desk.packed.read_bytes() == before


def test_the_search_for_canaries_looks_into_a_packed_bundle(tmp_path: Path) -> None:
    mark = "Qzxwvutsrqponmlkjihg"
    marks = tmp_path / "canaries.json"
    marks.write_text(
        json.dumps({"schema": "fedmedlora-canaries/1", "canaries": [{"id": "one", "marks": {"name": mark}}]})
    )
    files = read_files(Desk(tmp_path, falsified=False).packed)[0]
    (tmp_path / "searched").mkdir()
    planted = framed(archive(honest({**files, "heads/7": mark.encode()})))
    (tmp_path / "searched" / "b.tar.gz").write_bytes(planted)
    found = scan_folder(tmp_path / "searched", Canaries.load([marks])).found
    assert {(item.file, item.canary) for item in found} == {("b.tar.gz", "one")}


def test_a_packed_bundle_is_continued_by_a_new_study(tmp_path: Path) -> None:
    from fedmedlora_cli.study_continued import last_head

    desk = Desk(tmp_path, falsified=False)
    assert last_head(desk.packed) == last_head(desk.folder)
    desk.packed.write_bytes(desk.packed.read_bytes()[:-1])
    with pytest.raises(ConfigError, match=r"packed\.tar\.gz: is no bundle of a log: .* is cut off"):
        last_head(desk.packed)
