"""`site import`: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.records import read_notes, write_notes
from fedmedlora_site.config import SCHEMA, SiteConfig, SiteSection
from fedmedlora_site.importing import import_notes
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Card
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
    assert read_notes(root / "data" / "notes.jsonl") == plain_notes("site-a", 4)
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
    with pytest.raises(ConfigError, match="brat, jsonl"):
        import_notes(root, tmp_path, format="pubmed")
    with pytest.raises(ConfigError, match="no such mapping"):
        import_notes(root, tmp_path, mapping="nowhere")


def test_an_empty_file_is_refused(root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(DataError, match="no note"):
        import_notes(root, tmp_path / "empty.jsonl", format="jsonl")
