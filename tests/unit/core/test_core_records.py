"""Notes: their rules, the JSONL format, errors that name file and line and no text."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.errors import DataError
from fedmedlora_core.records import (
    Entity,
    Note,
    Relation,
    note_from_json,
    note_to_json,
    read_notes,
    validate_note,
    write_notes,
)

NOTE = Note(
    "n1",
    "p1",
    "no zebrafever .",
    (Entity("T1", "problem", 3, 13), Entity("T2", "negation", 0, 2)),
    (Relation("T1", "negation", "T2"),),
    frozenset({"problem", "negation"}),
)


def _row(**changes: Any) -> str:
    fields = json.loads(note_to_json(NOTE))
    return json.dumps({key: value for key, value in (fields | changes).items() if value != "REMOVED"})


def test_note_written_and_read_back_is_equal(tmp_path: Path) -> None:
    notes = [NOTE, replace(NOTE, document_id="n2", patient_id=None, text="no zebrafever \u2028\r\n\x85 ü")]
    assert write_notes(tmp_path / "notes.jsonl", notes) == 2
    assert read_notes(tmp_path / "notes.jsonl") == notes
    assert len((tmp_path / "notes.jsonl").read_bytes().split(b"\n")) == 3
    assert (tmp_path / "notes.jsonl").stat().st_mode & 0o077 == 0


BROKEN_ROWS = {
    "not json": "{",
    "deep nesting": "[" * 100_000,
    "not an object": "[]",
    "key twice": '{"text": "a", "text": "b"}',
    "missing key": _row(relations="REMOVED"),
    "unknown key": _row(extra=1),
    "text no string": _row(text=3),
    "empty document id": _row(document_id=""),
    "empty patient id": _row(patient_id=""),
    "patient id with a blank": _row(patient_id="p1 "),
    "patient no string": _row(patient_id=7),
    "annotated no list": _row(annotated="problem"),
    "annotated unknown": _row(annotated=["problem", "negation", "colour"]),
    "type not annotated": _row(annotated=["problem"]),
    "offset past end": _row(entities=[["T1", "problem", 3, 99], ["T2", "negation", 0, 2]]),
    "offset negative": _row(entities=[["T1", "problem", -3, 2], ["T2", "negation", 0, 2]]),
    "offset empty": _row(entities=[["T1", "problem", 3, 3], ["T2", "negation", 0, 2]]),
    "offset bool": _row(entities=[["T1", "problem", False, True], ["T2", "negation", 0, 2]]),
    "offset float": _row(entities=[["T1", "problem", 3.0, 13], ["T2", "negation", 0, 2]]),
    "row too short": _row(entities=[["T1", "problem", 3]]),
    "id twice": _row(entities=[["T1", "problem", 3, 13], ["T1", "negation", 0, 2]]),
    "id empty": _row(entities=[["", "problem", 3, 13]], relations=[]),
    "relation end missing": _row(relations=[["T1", "negation", "T9"]]),
    "relation type wrong": _row(relations=[["T1", "severity", "T2"]]),
    "relation turned round": _row(relations=[["T2", "negation", "T1"]]),
    "relation twice": _row(relations=[["T1", "negation", "T2"]] * 2),
    "relation row": _row(relations=[["T1", "T2"]]),
    "same document": _row(),
}


@pytest.mark.parametrize("row", BROKEN_ROWS.values(), ids=BROKEN_ROWS.keys())
def test_broken_row_is_named_by_file_and_line_without_its_text(tmp_path: Path, row: str) -> None:
    path = tmp_path / "notes.jsonl"
    path.write_text(_row() + "\n" + row + "\n")
    with pytest.raises(DataError) as caught:
        read_notes(path)
    assert (caught.value.file, caught.value.line) == ("notes.jsonl", 2)
    assert "zebra" not in str(caught.value) and "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named_by_line(tmp_path: Path) -> None:
    (tmp_path / "notes.jsonl").write_bytes(b"\xff\n")
    with pytest.raises(DataError, match=r"^notes\.jsonl:1: not valid UTF-8$"):
        read_notes(tmp_path / "notes.jsonl")


def test_missing_file_is_a_data_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"^none\.jsonl: "):
        read_notes(tmp_path / "none.jsonl")


def test_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "notes.jsonl"
    write_notes(path, [NOTE])
    for bad in ([NOTE, NOTE], [NOTE, replace(NOTE, document_id="n2", text="")]):
        with pytest.raises(DataError):
            write_notes(path, bad)
        assert read_notes(path) == [NOTE]
        assert list(tmp_path.iterdir()) == [path]


def test_restriction_drops_spans_relations_and_the_claim_to_have_looked() -> None:
    small = NOTE.restricted_to(["problem"])
    assert [entity.id for entity in small.entities] == ["T1"]
    assert small.relations == ()
    assert small.annotated == {"problem"}
    validate_note(small)


def test_repr_of_a_note_shows_no_text() -> None:
    assert "zebra" not in repr(NOTE)


def test_views_of_a_note() -> None:
    assert [(head.type, kind, tail.start) for head, kind, tail in NOTE.triples()] == [
        ("problem", "negation", 0)
    ]
    assert NOTE.text_of(NOTE.entity("T1")) == "zebrafever"
    assert NOTE.without_gold().entities == () and NOTE.without_gold().annotated == NOTE.annotated
    assert NOTE.patient_key != replace(NOTE, patient_id=None).patient_key
    with pytest.raises(KeyError):
        NOTE.entity("T9")


texts = st.text(min_size=1, max_size=40)


patients = texts.filter(lambda text: text == text.strip())


@given(texts, texts, st.one_of(st.none(), patients), st.data())
def test_any_valid_note_survives_the_format(
    text: str, name: str, patient: str | None, data: st.DataObject
) -> None:
    start = data.draw(st.integers(0, len(text) - 1))
    end = data.draw(st.integers(start + 1, len(text)))
    note = Note(name, patient, text, (Entity("a", "drug", start, end),), (), frozenset({"drug"}))
    validate_note(note)
    assert note_from_json(note_to_json(note)) == note
    assert "\n" not in note_to_json(note)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 10_000), st.binary(max_size=3)), min_size=1, max_size=4))
def test_mutated_file_is_read_or_refused_with_a_data_error(edits: list[tuple[int, bytes]]) -> None:
    raw = bytearray((_row() + "\n" + _row(document_id="n2") + "\n").encode())
    for number, piece in edits:
        place = number % len(raw)
        raw[place : place + len(piece) + 1] = piece
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "notes.jsonl"
        path.write_bytes(bytes(raw))
        try:
            for note in read_notes(path):
                validate_note(note)
        except DataError as error:
            assert "zebra" not in str(error)
