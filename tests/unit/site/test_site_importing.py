"""`site import`: whole or not at all."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from typer.testing import CliRunner

from fedmedlora_cli.app import build_app
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.records import Note, read_notes, write_notes
from fedmedlora_core.splits import split_by_patient
from fedmedlora_site.config import SCHEMA, SiteConfig, SiteSection
from fedmedlora_site.importing import import_notes, read_import
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Card
from fedmedlora_testkit import note_formats
from fedmedlora_testkit.rehearsal import plain_notes

SECRET = "Zebulon Quux"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "site-a"
    folder.mkdir()
    site = SiteSection(id="site-a", coordinator_address="127.0.0.1:1")
    SiteConfig(schema=SCHEMA, site=site).write(folder / "site.toml")
    keys = Keystore.generate("site-a")
    card = Card(id="site-a", event_vkey=keys.event_signer.vkey, witness_vkey=keys.witness_signer.vkey)
    card.write(folder / "card.toml")
    return folder


def brat(folder: Path, *, broken: bool = False) -> Path:
    folder.mkdir()
    for number in range(3):
        text = f"{SECRET} has fever ."
        start = text.index("fever")
        end = start + (4 if broken and number == 2 else 5)
        (folder / f"n{number}.txt").write_text(text)
        (folder / f"n{number}.ann").write_text(f"T1\tproblem {start} {end}\tfever\n")
    return folder


def test_jsonl_is_imported_and_the_card_says_what_was_annotated(root: Path, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes.jsonl", plain_notes("site-a", 4))
    report = import_notes(root, tmp_path / "notes.jsonl", format="jsonl")
    found = read_notes(root / "data" / "notes.jsonl")
    assert [replace(note, near=None) for note in found] == plain_notes("site-a", 4)
    assert Card.load(root / "card.toml").annotated == ("problem",)
    assert "imported 4 notes" in report.lines()[0]


def test_brat_is_imported_without_text_in_the_report(root: Path, tmp_path: Path) -> None:
    report = import_notes(root, brat(tmp_path / "brat"), format="brat")
    assert len(read_notes(root / "data" / "notes.jsonl")) == 3
    assert not any(SECRET in line for line in report.lines())
    assert report.annotated == ("problem",)


def test_a_broken_file_imports_nothing_and_shows_no_text(root: Path, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes.jsonl", plain_notes("site-a", 4))
    import_notes(root, tmp_path / "notes.jsonl", format="jsonl")
    before = (root / "data" / "notes.jsonl").read_bytes(), (root / "card.toml").read_bytes()
    with pytest.raises(DataError, match=r"n2\.ann:1") as found:
        import_notes(root, brat(tmp_path / "brat", broken=True), format="brat")
    assert SECRET not in str(found.value)
    assert "fever" not in str(found.value)
    assert ((root / "data" / "notes.jsonl").read_bytes(), (root / "card.toml").read_bytes()) == before


def test_notes_are_private(root: Path, tmp_path: Path) -> None:
    import_notes(root, brat(tmp_path / "brat"))
    assert (root / "data" / "notes.jsonl").stat().st_mode & 0o077 == 0


def test_an_unknown_format_or_mapping_is_refused(root: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="brat, n2c2, i2b2"):
        import_notes(root, tmp_path, format="pubmed")
    with pytest.raises(ConfigError, match="no such mapping"):
        import_notes(root, tmp_path, format="brat", mapping="nowhere")


def test_an_empty_file_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no note"):
        import_notes(root, tmp_path / "empty.jsonl", format="jsonl")


MAPPING_FILE = """
[types]
Sign = "problem"
Not = "negation"
How = "severity"
Med = "drug"
Dose = "dosage"
[relations]
has = "first"
"""


def site(*arguments: str) -> str:
    """The output of `fedmedlora site …`, which must succeed."""
    done = CliRunner().invoke(build_app(["site"]), ["site", *arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


@pytest.mark.parametrize("name", note_formats.FORMATS)
def test_every_format_is_imported_by_its_command(name: str, root: Path, tmp_path: Path) -> None:
    format, files = note_formats.FORMATS[name]
    source = note_formats.write(tmp_path / "in", files())
    (tmp_path / "labels.toml").write_text(MAPPING_FILE)
    mapping = "n2c2-2018" if name == "n2c2" else str(tmp_path / "labels.toml")
    said = site("import", str(source), "--dir", str(root), "--mapping", mapping)
    notes = read_notes(root / "data" / "notes.jsonl")
    assert f"imported {len(notes)} notes" in said
    assert f"format: {'brat' if name == 'n2c2' else format}" in said
    assert sum(len(note.entities) for note in notes) == (4 if name == "n2c2" else 13)


def test_a_dry_run_writes_nothing_needs_no_site_and_shows_no_text(tmp_path: Path) -> None:
    source = note_formats.write(tmp_path / "in", note_formats.brat())
    (tmp_path / "labels.toml").write_text(MAPPING_FILE.replace('Dose = "dosage"', ""))
    before = sorted(tmp_path.rglob("*"))
    said = site(
        "import", str(source), "--dir", str(tmp_path), "--mapping", str(tmp_path / "labels.toml"), "--dry-run"
    )
    assert sorted(tmp_path.rglob("*")) == before
    for expected in (
        "would import 2 notes with 11 spans and 3 relations",
        "span type not mapped",
        "left out: span of several pieces: 2",
        "left out: relation whose end was dropped: 2",
        "left aside: equivalence: 2",
    ):
        assert expected in said
    assert not [word for sample in note_formats.SAMPLES for _, word in sample.spans if f" {word} " in said]


def test_a_dry_run_as_json_says_what_is_dropped_by_type_and_why(tmp_path: Path) -> None:
    source = note_formats.write(tmp_path / "in", note_formats.i2b2())
    said = json.loads(
        site("import", str(source), "--dir", str(tmp_path), "--dry-run", "--max-words", "5", "--json", "-")
    )
    assert said["dry_run"] is True and said["format"] == "i2b2"
    assert {"type": "Sign", "why": "span type not mapped", "count": 6} in said["report"]["spans_dropped"]
    assert said["cutting"]["documents"] == 2 and said["notes"] == said["cutting"]["parts"]
    assert said["report"]["aside"] == {"assertion": 6}
    assert said["near_duplicates"]["threshold"] == 0.5


def test_long_notes_are_cut_and_near_duplicates_marked_in_the_file(root: Path, tmp_path: Path) -> None:
    text = " ".join(f"word{k}" for k in range(40))
    notes = [Note(f"d{k}", None, f"{text} end{k} .") for k in range(4)]
    notes.append(Note("other", None, "unlike the rest ."))
    write_notes(tmp_path / "notes.jsonl", notes)
    report = import_notes(root, tmp_path / "notes.jsonl", max_words=25)
    found = read_notes(root / "data" / "notes.jsonl")
    assert [note.document_id for note in found][:3] == ["d0#1", "d0#2", "d1#1"]
    assert {note.near for note in found} == {"d0#1", "d0#2", None}
    assert any("cut at 25 words: 4 notes into 8 parts" in line for line in report.lines())
    assert any("near duplicates: 8 notes in 2 groups (2 across patients)" in line for line in report.lines())
    parts = split_by_patient(found, seed=1, validation_fraction=0.0, test_fraction=0.2)
    assert {len(parts.train), len(parts.test)} == {1, 8}


def test_notes_that_are_mostly_alike_are_a_warning(root: Path, tmp_path: Path) -> None:
    write_notes(tmp_path / "notes.jsonl", plain_notes("site-a", 4))
    lines = read_import(root, tmp_path / "notes.jsonl").lines()
    assert lines[0].startswith("would import 4 notes")
    assert lines[-1].startswith("warning: 4 of 4 notes are one group of near duplicates")
    with pytest.raises(ConfigError, match="must be able to hold a word"):
        read_import(root, tmp_path / "notes.jsonl", max_words=0)
