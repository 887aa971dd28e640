"""Import of JSON lines: as they are, or with a corpus' own names through a mapping."""

from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from fedmedlora_core.errors import DataError
from fedmedlora_core.jsonl import read_jsonl
from fedmedlora_core.mapping import LabelMapping

MAPPING = LabelMapping(types={"Sign": "problem", "Not": "negation"}, relations={"MODIFY": "second"})


def _write(tmp_path: Path, **changes: object) -> Path:
    row = {
        "document_id": "n1",
        "patient_id": "p1",
        "text": "no fever , cough",
        "annotated": ["Sign", "Not", "Age"],
        "entities": [["T1", "Sign", 3, 9], ["T2", "Not", 0, 2], ["T3", "Age", 3, 8]],
        "relations": [["T2", "MODIFY", "T1"], ["T1", "NEAR", "T2"]],
    }
    path = tmp_path / "notes.jsonl"
    path.write_text(json.dumps(row | changes) + "\n")
    return path


def test_names_and_directions_are_mapped_and_drops_counted(tmp_path: Path) -> None:
    result = read_jsonl(_write(tmp_path), mapping=MAPPING)
    (note,) = result.notes
    assert note.patient_id == "p1" and note.annotated == {"problem", "negation"}
    assert [(note.text_of(head), kind, note.text_of(tail)) for head, kind, tail in note.triples()] == [
        ("fever", "negation", "no")
    ]
    assert result.report.dropped == {"span type not mapped": 1, "relation type not mapped": 1}


def test_type_the_note_was_not_annotated_for_stays_unclaimed(tmp_path: Path) -> None:
    path = _write(tmp_path, annotated=["Sign"], entities=[["T1", "Sign", 3, 8]], relations=[])
    assert read_jsonl(path, mapping=MAPPING).notes[0].annotated == {"problem"}


def test_without_a_mapping_labels_must_be_those_of_the_study(tmp_path: Path) -> None:
    own = {
        "annotated": ["problem", "negation"],
        "entities": [["T1", "problem", 3, 8], ["T2", "negation", 0, 2]],
        "relations": [["T1", "negation", "T2"]],
    }
    result = read_jsonl(_write(tmp_path, **own))
    assert result.report.spans_kept == {"problem": 1, "negation": 1}
    assert result.report.relations_kept == {"negation": 1}
    assert result.report.dropped == {}
    with pytest.raises(DataError, match=r"notes\.jsonl:1"):
        read_jsonl(_write(tmp_path))


@pytest.mark.parametrize(
    "changes",
    [
        {"entities": [["T1", "Sign", 3, 99]]},
        {"entities": [["T1", "Sex", 3, 8]]},
        {"relations": [["T1", "MODIFY", "T9"]]},
        {"text": None},
    ],
)
def test_broken_note_is_refused_with_file_and_line(tmp_path: Path, changes: dict[str, object]) -> None:
    with pytest.raises(DataError, match=r"^notes\.jsonl:1: "):
        read_jsonl(_write(tmp_path, **changes), mapping=MAPPING)


def test_names_of_a_mapping_that_meet_nothing_are_told(tmp_path: Path) -> None:
    mapping = LabelMapping(types={"Sign": "problem", "Sing": "problem", "Not": "negatoin"})
    assert read_jsonl(_write(tmp_path), mapping=mapping).report.unmet == (
        "the mapping makes 'Not' a 'negatoin', which the study does not have",
        "the mapping's 'Sing' is in no file",
    )
    assert read_jsonl(_write(tmp_path), mapping=MAPPING).report.unmet == ()


def test_byte_order_mark_is_not_part_of_the_first_note(tmp_path: Path) -> None:
    path = _write(tmp_path)
    plain = read_jsonl(path, mapping=MAPPING).notes
    path.write_bytes(codecs.BOM_UTF8 + path.read_bytes())
    assert read_jsonl(path, mapping=MAPPING).notes == plain


def test_blanks_and_doubles_go_without_a_mapping_too(tmp_path: Path) -> None:
    spans = [["T1", "problem", 2, 8], ["T2", "problem", 3, 8], ["T3", "negation", 0, 2]]
    own = {
        "annotated": ["problem", "negation", "drug"],
        "entities": spans,
        "relations": [["T1", "negation", "T3"]],
    }
    result = read_jsonl(_write(tmp_path, **own))
    (note,) = result.notes
    assert [(e.type, note.text_of(e)) for e in note.entities] == [("problem", "fever"), ("negation", "no")]
    assert [kind for _, kind, _ in note.triples()] == ["negation"]
    assert note.annotated == {"problem", "negation", "drug"}  # no drug here is a finding, not a gap
    assert result.report.dropped == {"equal to another span": 1}


@pytest.mark.parametrize("patient", [" p1", "p1\n", "\t"])
def test_one_patient_is_not_written_in_two_ways(tmp_path: Path, patient: str) -> None:
    with pytest.raises(DataError, match=r"notes\.jsonl:1.*another patient"):
        read_jsonl(_write(tmp_path, patient_id=patient), mapping=MAPPING)
