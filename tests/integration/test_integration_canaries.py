"""No text of a note leaves a hospital: a run of real processes is searched for the marks of its canaries.

The search is the one that `audit scan` runs. That it would find a mark is shown where it must: one canary is
planted in each kind of file that the run leaves, and one in each form in which text can hide.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import pytest

from fedmedlora_audit.canary import Canaries, Report, scan_folder
from fedmedlora_cli.demo.clinic import CANARIES_FILE
from fedmedlora_cli.demo.federation import Federation, clear_earlier_run
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_core.clinic import canaries_of
from fedmedlora_core.records import Note, note_to_json, read_notes
from fedmedlora_testkit.canaries import hospitals_of, open_blobs, search
from fedmedlora_testkit.commands import commands
from fedmedlora_testkit.hiding import HIDING

pytestmark = pytest.mark.slow

MARK = canaries_of("site-b", seed=7)[1].marks["name"]


def views() -> dict[str, list[str]]:
    """What `audit` makes of a bundle, by file name: the commands that take a bundle and write one file."""
    wanted = {
        "events.jsonl": ["export", "--format", "jsonl"],
        "events.fhir.ndjson": ["export", "--format", "fhir"],
        "events.ocsf.json": ["export", "--format", "ocsf"],
        "audit.html": ["report"],
    }
    real = commands()
    for words in wanted.values():  # an option that was renamed must not shrink the search
        assert {"--trust", "--out", "--json"} <= real[f"audit {words[0]}"], words
    return wanted


VIEWS = views()


def federation_in(out: Path, said: list[object]) -> Federation:
    """A rehearsed federation of two rounds with votes; what its processes say on standard output is kept."""
    options = DemoOptions(out=out, rounds=2, rehearsal=True, keep_evidence=True, vote_every=1)
    return Federation(options, lambda party, progress: said.append([party, dict(progress)]))


def finished(federation: Federation, said: list[object]) -> Path:
    """Run to the end, and write down what else comes out of a study."""
    federation.train()
    assert federation.review()["verdict"] == "pass"
    federation.clipped()
    write_further_outputs(federation.out)
    (federation.out / "outputs" / "progress.json").write_text(json.dumps(said))
    return federation.out


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four hospitals that have imported their notes and accepted a study."""
    folder = tmp_path_factory.mktemp("prepared") / "run"
    clear_earlier_run(folder)
    federation = federation_in(folder, [])
    federation.provision()
    federation.import_notes()
    federation.agree()
    return folder


@pytest.fixture(scope="module")
def out(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run whose coordinator keeps what it was sent."""
    folder = tmp_path_factory.mktemp("canaries") / "run"
    shutil.copytree(prepared, folder)
    said: list[object] = []
    return finished(federation_in(folder, said), said)


def write_further_outputs(out: Path) -> None:
    """What else comes out of a study: a site's export, statuses, evidence, payloads as they were sent."""
    made = out / "outputs"
    made.mkdir()
    site, centre = ["--dir", str(out / "site-a")], ["--dir", str(out / "coordinator")]
    typed = {
        "bundle": ["site", "export", *site, "--out", str(made / "bundle")],
        "coordinator-status": ["coordinator", "status", *centre],
        "status": ["site", "status", *site, "--json", str(made / "site-a.json")],
        "study": ["study", "show", str(out / "study")],
        "evidence": ["coordinator", "evidence", "--round", "1", *centre, "--out", str(made / "evidence")],
    }
    judged = [str(out / "bundle"), "--trust", str(out / "trust.json")]
    for name, (command, *more) in VIEWS.items():
        written = ["--out", str(made / name), "--json", str(made / f"{name}.json")]
        typed[name] = ["audit", command, *judged, *more, *written]
    typed["show"] = ["audit", "show", *judged, "--index", "40"]
    for name, arguments in typed.items():
        done = run(*arguments)
        assert done.returncode == 0, (name, done.stderr)
        (made / f"{name}.out").write_text(done.stdout + done.stderr)
    open_blobs(out / "coordinator", made / "payloads")


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "fedmedlora_cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# -- nothing got out


def test_no_canary_stands_outside_the_hospitals_own_folders(out: Path) -> None:
    report = search(out)
    assert report.verdict == "clean", report.to_json()
    assert report.files > 60
    assert report.bytes > 5_000_000


def test_every_canary_stands_in_its_own_hospitals_notes_and_nowhere_else(out: Path) -> None:
    """The search of the hospitals' folders finds every mark there, so it can find one."""
    for site in hospitals_of(out):
        report = scan_folder(site, Canaries.load([site / "source" / CANARIES_FILE]))
        marks = {(item.canary, item.mark) for item in report.found if item.file == "data/notes.jsonl"}
        assert len(marks) == 3 * 4
        assert {item.file.split("/")[0] for item in report.found} == {"source", "data"}
        others = [other / "source" / CANARIES_FILE for other in hospitals_of(out) if other != site]
        assert scan_folder(site, Canaries.load(others)).verdict == "clean"


def test_a_hospital_whose_notes_are_damaged_tells_nobody_what_was_in_them(
    prepared: Path, tmp_path: Path
) -> None:
    """Its training fails on a canary's line; log, process logs and the journal it hands out stay clean."""
    folder = tmp_path / "run"
    shutil.copytree(prepared, folder)
    notes = folder / "site-b" / "data" / "notes.jsonl"
    lines = notes.read_text().splitlines()
    notes.write_text("\n".join(line[:-9] if MARK in line else line for line in lines) + "\n")
    said: list[object] = []
    finished(federation_in(folder, said), said)
    journal = folder / "heads" / "site-b" / "journal.jsonl"
    assert "training_failed" in journal.read_text()
    assert "notes.jsonl:" in journal.read_text(), "the operator learns the line"
    report = search(folder)
    assert report.verdict == "clean", report.to_json()
    journal.write_text(journal.read_text() + next(line for line in lines if MARK in line))
    assert {item.file for item in search(folder).found} == {"heads/site-b/journal.jsonl"}


# -- one canary planted in each searched place


def append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"\n" + MARK.encode())


def plant_in_the_store(path: Path) -> None:
    """Add a table: the log's own refuses what is no event."""
    database = sqlite3.connect(path)
    database.execute("CREATE TABLE seen (note TEXT)")
    database.execute("INSERT INTO seen VALUES (?)", (MARK,))
    database.commit()
    database.close()


def plant_in_json(path: Path) -> None:
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"note": f"seen: {MARK}"}))


PLACES: Mapping[str, tuple[str, Callable[[Path], None]]] = {
    "log store": ("coordinator/store.sqlite", plant_in_the_store),
    "head beside the store": ("coordinator/head", append),
    "sealed payload": ("coordinator/blobs/*/*.sealed", append),
    "payload": ("outputs/payloads/*", append),
    "settings of the coordinator": ("coordinator/coordinator.toml", append),
    "released adapter": ("coordinator/released/*.safetensors", append),
    "bundle: entries": ("bundle/tile/entries/*", append),
    "bundle: manifest": ("bundle/manifest", append),
    "bundle: charter": ("bundle/charter.json", append),
    "a site's export": ("outputs/bundle/manifest", append),
    "evidence": ("outputs/evidence/*/evidence.json", plant_in_json),
    "trust file": ("trust.json", plant_in_json),
    "heads collected from sites": ("heads/site-b/checkpoint", append),
    "verdict": ("verdict.json", plant_in_json),
    "status and metrics of the coordinator": ("coordinator-status.json", plant_in_json),
    "what the coordinator's status prints": ("outputs/coordinator-status.out", append),
    "what a look at one event prints": ("outputs/show.out", append),
    "progress lines of all processes": ("outputs/progress.json", append),
    "status of a site": ("outputs/site-a.json", plant_in_json),
    "process log of the coordinator": ("logs/coordinator.log", append),
    "process log of a site": ("logs/site-b.log", append),
    "study package": ("study/study.toml", append),
    "transcript of commands": ("commands.txt", append),
    "carried by hand": ("carried/site-b.invitation.json", plant_in_json),
    **{f"view {name}": (f"outputs/{name}", append) for name in VIEWS},
    **{f"facts of view {name}": (f"outputs/{name}.json", plant_in_json) for name in VIEWS},
}


@pytest.fixture
def one_place(out: Path, tmp_path: Path) -> Iterator[Callable[[str], tuple[Path, Path]]]:
    """Copies one file of the run to where it can be planted in, with its path below the run."""

    def copy(pattern: str) -> tuple[Path, Path]:
        original = next(iter(sorted(out.glob(pattern))), None)
        assert original is not None, f"the run leaves no {pattern}"
        target = tmp_path / "copy" / original.relative_to(out)
        target.parent.mkdir(parents=True)
        shutil.copy(original, target)
        return tmp_path / "copy", target

    yield copy


def marks_in(folder: Path, out: Path) -> Report:
    return scan_folder(folder, Canaries.load([s / "source" / CANARIES_FILE for s in hospitals_of(out)]))


@pytest.mark.parametrize("place", PLACES)
def test_one_canary_planted_in_a_searched_place_is_found_there(
    place: str, out: Path, one_place: Callable[[str], tuple[Path, Path]]
) -> None:
    pattern, plant = PLACES[place]
    folder, path = one_place(pattern)
    assert marks_in(folder, out).verdict == "clean"
    plant(path)
    report = marks_in(folder, out)
    assert {item.file for item in report.found} == {str(path.relative_to(folder))}
    assert {(item.canary, item.mark) for item in report.found} == {("site-b-2", "name")}


@pytest.mark.parametrize("way", HIDING)
def test_one_canary_planted_in_a_process_log_is_found_however_it_hides(
    way: str, out: Path, tmp_path: Path
) -> None:
    path = tmp_path / "coordinator.log"
    path.write_bytes((out / "logs" / "coordinator.log").read_bytes() + HIDING[way](MARK))
    if way.startswith("database"):
        path.write_bytes(HIDING[way](MARK))
    report = marks_in(tmp_path, out)
    assert {(item.canary, item.mark) for item in report.found} == {("site-b-2", "name")}


# -- errors about a canary's note


def broken(line: str, note: Note) -> Mapping[str, str]:
    """Ways in which a canary's note can be malformed, each with the canary's text in the broken part."""
    row = json.loads(line)
    name = note.text.split()[1]
    start = note.text.index(name)
    return {
        "not JSON": line[:-9],
        "a type that is a name": json.dumps(row | {"entities": [["T1", name, start, start + 5]]}),
        "an id that is a name": json.dumps(row | {"entities": [[name, "problem", start, 10**6]]}),
        "offsets that are a record number": json.dumps(
            row | {"entities": [["T1", "problem", int(row["patient_id"]), int(row["patient_id"]) + 1]]}
        ),
        "a relation to a name": json.dumps(row | {"relations": [[name, "severity", name]]}),
        "a key that is a name": json.dumps(row | {name: 1}),
        "the same note twice": line + "\n" + line,
    }


WAYS = tuple(broken('{"patient_id": "1"}', Note("1-1", "1", "Patient name , record 1 .")))


@pytest.mark.parametrize("way", WAYS)
def test_an_error_about_a_canarys_note_shows_none_of_it(way: str, out: Path, tmp_path: Path) -> None:
    site = tmp_path / "site-b"
    site.mkdir()
    for name in ("site.toml", "card.toml"):
        shutil.copy(out / "site-b" / name, site / name)
    note = next(n for n in read_notes(out / "site-b" / "source" / "notes.jsonl") if MARK in n.text)
    source = tmp_path / "notes.jsonl"
    source.write_text(broken(note_to_json(note), note)[way] + "\n")
    logs = tmp_path / "logs"
    logs.mkdir()
    done = run("site", "import", str(source), "--dir", str(site), "--format", "jsonl")
    assert done.returncode == 2, done.stdout
    (logs / "import.log").write_text(done.stdout + done.stderr)
    assert marks_in(logs, out).verdict == "clean", done.stderr
    assert "notes.jsonl:" in done.stderr
    (logs / "import.log").write_text(done.stderr + source.read_text())
    assert marks_in(logs, out).verdict == "found", (
        "had the error quoted its line, the search would have seen it"
    )
