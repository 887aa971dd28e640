"""`extract` takes every format, and its offsets count in a file that lies there."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from fedmedlora_cli.extraction_command import rendered
from fedmedlora_cli.extraction_notes import GivenNotes, output_path, read_given, targets_of
from fedmedlora_core.brat import read_brat
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.labels import CLINICAL
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.parts import cut_notes
from fedmedlora_core.records import Entity, Note, Relation, write_notes
from fedmedlora_testkit import note_formats
from fedmedlora_testkit.note_formats import SAMPLES, write

ORIGINALS = {"brat", "n2c2", "i2b2", "conll-with-text"}


def given(path: Path, format: str | None = None) -> GivenNotes:
    return read_given([path], CLINICAL, format=format, mapping=None)


def found_in(note: Note) -> Note:
    """What a model might find: the third and fourth word, and a relation between them."""
    words = note.text.split()
    start = note.text.index(words[2])
    other = note.text.index(words[3], start + len(words[2]))
    entities = (
        Entity("a", "problem", start, start + len(words[2])),
        Entity("b", "severity", other, other + len(words[3])),
    )
    return replace(note, entities=entities, relations=(Relation("a", "severity", "b"),))


@pytest.mark.parametrize("name", note_formats.FORMATS)
def test_what_is_written_for_a_format_lies_where_its_file_says(name: str, tmp_path: Path) -> None:
    format, files = note_formats.FORMATS[name]
    source = write(tmp_path / "in", files())
    notes = given(source, format)
    out = tmp_path / "out"
    assert {file is not None for file in notes.files.values()} == {name in ORIGINALS}
    for note in notes.whole(map(found_in, notes.notes)):
        answer = json.loads(rendered(note, notes, "json", out))
        original = notes.files[note.document_id]
        text = note.text if original is None else original.read_bytes().decode()
        assert answer["file"] == str(original or out / f"{note.document_id}.txt")
        assert [text[e["start"] : e["end"]] for e in answer["entities"]] == note.text.split()[2:4]
        folder = tmp_path / "brat" / note.document_id
        folder.mkdir(parents=True)
        (folder / "n.txt").write_bytes(text.encode())
        (folder / "n.ann").write_text(rendered(note, notes, "brat", out), encoding="utf-8")
        (again,) = read_brat(folder).notes
        assert again.triples() == note.triples()


def test_text_files_and_folders_of_them_need_no_format(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"fever", "sub/a.txt": b"cough\r\n", "b.md": b"pain"})
    notes = given(tmp_path)
    assert [(n.document_id, n.text) for n in notes.notes] == [("a", "fever"), ("sub/a", "cough\r\n")]
    assert given(tmp_path / "b.md").notes[0].text == "pain"
    assert given(tmp_path / "b.md").notes[0].annotated == CLINICAL.annotatable


def test_notes_in_parts_come_back_whole(tmp_path: Path) -> None:
    notes = [Note(sample.name, None, sample.text) for sample in SAMPLES]
    parts, _ = cut_notes(notes, 6)
    write_notes(tmp_path / "notes.jsonl", parts)
    read = given(tmp_path / "notes.jsonl")
    assert len(read.notes) == len(parts) > 2
    whole = read.whole(
        replace(n, entities=(Entity("x", "problem", 0, len(n.text.split()[0])),)) for n in read.notes
    )
    assert [n.text for n in whole] == [sample.text for sample in SAMPLES]
    assert list(read.files) == [n.document_id for n in whole]
    words = [part.text.split()[0] for part in parts]
    assert [n.text_of(e) for n in whole for e in n.entities] == words


def test_annotations_of_notes_are_read_with_a_mapping(tmp_path: Path) -> None:
    source = write(tmp_path, note_formats.n2c2())
    notes = read_given([source], CLINICAL, format="n2c2", mapping=None).notes
    assert [entity.type for entity in notes[0].entities] == ["drug", "strength", "frequency", "problem"]
    assert read_given([source], CLINICAL, format=None, mapping="n2c2-2018").notes == notes
    assert load_mapping("n2c2-2018").types["ADE"] == "problem"


def test_names_that_collide_or_lead_out_are_refused(tmp_path: Path) -> None:
    write(tmp_path, {"a/n.txt": b"x", "b/n.txt": b"y"})
    with pytest.raises(ConfigError, match="two notes are called 'n'"):
        read_given([tmp_path / "a/n.txt", tmp_path / "b/n.txt"], CLINICAL, format=None, mapping=None)
    with pytest.raises(ConfigError, match="no such file"):
        given(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigError, match=r"no \.txt files"):
        given(tmp_path / "empty")
    for name in ("../x", "/etc/x", "a/../../x", "", "a\0b", "a\\b"):
        with pytest.raises(ConfigError, match="no file name"):
            output_path(tmp_path, name, "ann")
    assert output_path(tmp_path, "sub/a.b", "ann") == tmp_path / "sub" / "a.b.ann"


def test_a_text_that_is_none_is_refused_by_line(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"one\ntwo\xff")
    with pytest.raises(DataError, match=r"a\.txt:2: is not valid UTF-8"):
        given(tmp_path / "a.txt")
    row = '{"document_id": "n", "patient_id": null, "text": "\\ud800", "annotated": [], '
    (tmp_path / "a.jsonl").write_text(row + '"entities": [], "relations": []}\n')
    with pytest.raises(DataError, match="halves of characters"):
        given(tmp_path / "a.jsonl")


def test_nothing_that_was_given_is_overwritten(tmp_path: Path) -> None:
    """A hospital's gold annotations stand beside its texts: `--out` of that folder would replace them."""
    gold = write(tmp_path / "gold", {"a.txt": b"fever", "a.ann": b"T1\tproblem 0 5\tfever\n"})
    notes = given(gold)
    with pytest.raises(ConfigError, match="is one of the given files"):
        targets_of(notes, gold, "ann", [gold])
    with pytest.raises(ConfigError, match="is one of the given files"):
        targets_of(notes, gold / ".." / "gold", "ann", [gold])
    assert targets_of(notes, gold, "json", [gold]) == {"a": (gold / "a.json",)}
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.ann").write_text("an earlier answer")
    assert targets_of(notes, tmp_path / "out", "ann", [gold]) == {"a": (tmp_path / "out" / "a.ann",)}


def test_a_name_that_leads_out_stops_before_anything_is_predicted(tmp_path: Path) -> None:
    notes = GivenNotes((), {"fine": None, "../elsewhere": None})
    with pytest.raises(ConfigError, match="no file name"):
        targets_of(notes, tmp_path, "json", [])
