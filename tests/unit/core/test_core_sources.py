"""Every format: the same notes come out of it, and it is told from its files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.importing import ImportResult
from fedmedlora_core.labels import CLINICAL
from fedmedlora_core.mapping import LabelMapping, load_mapping
from fedmedlora_core.records import Note, validate_note
from fedmedlora_core.sources import (
    FORMATS,
    chosen_format,
    chosen_mapping,
    detect_format,
    read_documents,
    read_source,
)
from fedmedlora_testkit import note_formats
from fedmedlora_testkit.note_formats import MAPPING, SAMPLES, write

NO_RELATIONS = {"pubtator", "conll", "conll-with-text"}
SAME = [name for name in note_formats.FORMATS if name != "n2c2"]


def read(folder: Path, name: str, mapping: LabelMapping = MAPPING) -> ImportResult:
    format, files = note_formats.FORMATS[name]
    return read_source(write(folder, files()), format, mapping=mapping)


def words(note: Note) -> list[tuple[str, str]]:
    """Labels and texts of a note's spans, but for the full stop that i2b2's tokens carry."""
    return [(entity.type, note.text_of(entity).rstrip(".")) for entity in note.entities]


@pytest.mark.parametrize("name", SAME)
def test_every_format_gives_the_same_spans_and_relations(name: str, tmp_path: Path) -> None:
    notes = read(tmp_path, name).notes
    assert len(notes) == len(SAMPLES)
    for note, sample in zip(notes, SAMPLES, strict=True):
        validate_note(note, CLINICAL)
        expected = [(MAPPING.types[kind], text) for kind, text in sample.spans]
        assert words(note) == expected
        triples = [(note.text_of(h), note.text_of(t)) for h, _, t in note.triples()]
        links = [] if name in NO_RELATIONS else [(expected[h][1], expected[t][1]) for _, h, t in sample.links]
        assert triples == links


@pytest.mark.parametrize("name", ["brat", "i2b2", "bioc-xml", "bioc-json", "conll-with-text", "jsonl"])
def test_offsets_count_in_the_original_text(name: str, tmp_path: Path) -> None:
    for note, sample in zip(read(tmp_path, name).notes, SAMPLES, strict=True):
        assert note.text.rstrip("\n").replace("\n", " ") == sample.text.rstrip("\n").replace("\n", " ")
        assert [(e.start, e.end) for e in note.entities] == [(s, e) for _, s, e in sample.places()]


def test_n2c2_is_brat_with_its_own_labels_and_joins_spans_cut_at_a_line_break(tmp_path: Path) -> None:
    mapping = chosen_mapping("n2c2", None)
    assert mapping is not None
    result = read(tmp_path, "n2c2", mapping)
    (note,) = result.notes
    assert [
        (head.type, note.text_of(head), kind, note.text_of(tail)) for head, kind, tail in note.triples()
    ] == [
        ("drug", "aspirin", "strength", "81 mg"),
        ("drug", "aspirin", "frequency", "twice\na day"),
    ]
    assert result.report.notices == {"span of several pieces with blanks between, joined": 1}
    assert result.report.relations_dropped == {("Reason-Drug", "relation type not mapped"): 1}


@pytest.mark.parametrize("name", note_formats.FORMATS)
def test_the_format_is_told_from_the_files(name: str, tmp_path: Path) -> None:
    format, files = note_formats.FORMATS[name]
    write(tmp_path, files())
    assert detect_format(tmp_path) == ("brat" if format == "n2c2" else format)
    assert chosen_format(tmp_path, format) == format


@pytest.mark.parametrize("name", ["pubtator", "bioc-xml", "bioc-json", "jsonl"])
def test_a_single_file_with_any_name_is_told_by_its_beginning(name: str, tmp_path: Path) -> None:
    format, files = note_formats.FORMATS[name]
    (tmp_path / "export.dat").write_bytes(next(iter(files().values())))
    assert detect_format(tmp_path / "export.dat") == format


def test_what_cannot_be_told_asks_for_the_name(tmp_path: Path) -> None:
    write(tmp_path, note_formats.brat() | note_formats.bioc_xml())
    with pytest.raises(ConfigError, match=r"looks like brat and bioc; name one with --format"):
        detect_format(tmp_path)
    (tmp_path / "note.md").write_text("fever")
    with pytest.raises(ConfigError, match="no format that is known"):
        detect_format(tmp_path / "note.md")
    with pytest.raises(ConfigError, match="no such file"):
        detect_format(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="name their folder"):
        chosen_format(tmp_path / "17.ann", "brat")
    with pytest.raises(ConfigError, match="expected one of brat, n2c2"):
        chosen_format(tmp_path, "word")
    assert set(FORMATS) == {format for format, _ in note_formats.FORMATS.values()}


def test_a_folder_without_files_of_the_format_is_an_error(tmp_path: Path) -> None:
    for format in FORMATS:
        with pytest.raises(DataError, match=r"holds no"):
            read_source(tmp_path, format)


def test_a_relation_can_name_its_head_by_role(tmp_path: Path) -> None:
    by_role = MAPPING.model_copy(update={"relations": {"has": "role:Head"}})
    turned = MAPPING.model_copy(update={"relations": {"has": "role:Nobody"}})
    assert read(tmp_path, "bioc-xml", by_role).report.relations_kept
    dropped = read(tmp_path, "bioc-xml", turned).report.dropped
    assert dropped == {"relation without the role that the mapping takes for its head": 5}


def test_arguments_of_events_are_relations_from_the_trigger(tmp_path: Path) -> None:
    text = "aspirin 40 mg"
    ann = "T1\tMed 0 7\taspirin\nT2\tDose 8 13\t40 mg\nE1\tMed:T1 Amount2:T2\n"
    write(tmp_path, {"a.txt": text.encode(), "a.ann": ann.encode()})
    mapping = MAPPING.model_copy(update={"relations": {"Med:Amount": "first"}})
    (note,) = read_source(tmp_path, "brat", mapping=mapping).notes
    assert [kind for _, kind, _ in note.triples()] == ["dosage"]
    report = read_source(tmp_path, "brat", mapping=MAPPING).report
    assert report.relations_dropped == {("Med:Amount", "event argument not mapped"): 1}


def test_discontinuous_spans_are_dropped_or_covered_as_the_mapping_says(tmp_path: Path) -> None:
    assert read(tmp_path, "brat").report.spans_dropped == {("Sign", "span of several pieces"): 2}
    result = read(tmp_path, "brat", MAPPING.model_copy(update={"discontinuous": "cover"}))
    assert result.report.notices["span of several pieces, covered from the first to the last"] == 2
    assert "Zebrine rash noted" in [result.notes[0].text_of(e) for e in result.notes[0].entities]


def test_what_a_note_cannot_hold_is_counted_by_name(tmp_path: Path) -> None:
    assert read(tmp_path / "b", "brat").report.aside == {
        "attribute": 2,
        "annotator's note": 2,
        "equivalence": 2,
    }
    assert read(tmp_path / "i", "i2b2").report.aside == {"assertion": 6}
    assert read(tmp_path / "p", "pubtator").report.aside == {"relation of concepts": 2}


def test_a_link_of_the_source_takes_the_name_that_the_study_has(tmp_path: Path) -> None:
    mapping = load_mapping("n2c2-2018")
    assert mapping.links == {"ADE-Drug": "adverse_effect"}
    assert "adverse_effect" in mapping.labels_annotated


def test_a_span_inside_a_word_is_kept_and_shown(tmp_path: Path) -> None:
    write(tmp_path, {"a.txt": b"fevers", "a.ann": b"T1\tSign 0 5\tfever\n"})
    report = read_source(tmp_path, "brat", mapping=MAPPING).report
    assert report.notices == {"span that begins or ends inside a word": 1}


def test_documents_of_one_name_are_refused_with_file_and_line(tmp_path: Path) -> None:
    write(tmp_path, {"a.PubTator": b"17|t|A.\n17|a|B.\n", "b.PubTator": b"\n17|t|A.\n17|a|B.\n"})
    with pytest.raises(DataError, match="twice") as caught:
        read_source(tmp_path, "pubtator", mapping=MAPPING)
    assert (caught.value.file, caught.value.line) == ("b.PubTator", 2)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read every folder")
def test_a_folder_that_cannot_be_read_stops_the_import(tmp_path: Path) -> None:
    source = write(tmp_path, note_formats.FORMATS["brat"][1]())
    locked = source / "ward"
    locked.mkdir(mode=0)
    try:
        with pytest.raises(DataError, match="ward: Permission denied"):
            read_source(source, "brat", mapping=MAPPING)
    finally:
        locked.chmod(0o700)


@pytest.mark.parametrize("suffix", [".ann", ".con", ".conll", ".PubTator"])
def test_a_byte_order_mark_before_annotations_is_no_part_of_them(suffix: str, tmp_path: Path) -> None:
    names = {".ann": "brat", ".con": "i2b2", ".conll": "conll", ".PubTator": "pubtator"}
    wanted = read(tmp_path / "plain", names[suffix])
    read(tmp_path / "marked", names[suffix])
    files = [path for path in (tmp_path / "marked").rglob("*") if path.name.endswith(suffix)]
    assert files
    for path in files:
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    again = read_source(tmp_path / "marked", names[suffix], mapping=MAPPING)
    assert again.notes == wanted.notes


def test_a_linked_folder_or_a_name_in_capitals_is_no_half_an_import(tmp_path: Path) -> None:
    source = write(tmp_path / "notes", note_formats.FORMATS["brat"][1]())
    other = write(tmp_path / "other", note_formats.FORMATS["brat"][1]())
    (source / "ward").symlink_to(other)
    with pytest.raises(DataError, match=r"ward: is a link"):
        read_source(source, "brat", mapping=MAPPING)
    (source / "ward").unlink()
    next(other.glob("*.ann")).rename(source / "late.ANN")
    with pytest.raises(DataError, match=r"late\.ANN: its ending has capitals"):
        read_source(source, "brat", mapping=MAPPING)


def test_a_place_with_two_concepts_gives_a_relation_its_kind_of_concept(tmp_path: Path) -> None:
    concept = 'c="ct" 1:0 1:0||t="{}"\n'
    fever = 'c="fever" 1:2 1:2'
    con = concept.format("test") + concept.format("treatment") + f'{fever}||t="problem"\n'
    rel = f'c="ct" 1:0 1:0||r="TrAP"||{fever}\nc="ct" 1:0 1:0||r="TeRP"||{fever}\n'
    source = write(tmp_path, {"a.txt": b"ct for fever", "a.con": con.encode(), "a.rel": rel.encode()})
    (document,) = read_documents(source, "i2b2")
    types = {span.id: span.type for span in document.spans}
    assert [types[link.first] for link in document.links] == ["treatment", "test"]
    assert [types[link.second] for link in document.links] == ["problem", "problem"]


def test_a_patient_id_set_out_in_lines_is_the_same_patient(tmp_path: Path) -> None:
    content = note_formats.bioc_xml()["set.xml"]
    spread = b'<id>17</id>\n    <infon key="patient_id">\n      p1\n    </infon>'
    content = content.replace(b"<id>17</id>", spread)
    notes = read_source(write(tmp_path, {"set.xml": content}), "bioc", mapping=MAPPING).notes
    assert [note.patient_id for note in notes if note.document_id == "17"] == ["p1"]


def test_a_patient_id_that_is_a_number_is_refused_with_its_line(tmp_path: Path) -> None:
    content = note_formats.bioc_json()["set.json"]
    told = content.replace(
        b'"id": "17",\n      "infons": {}', b'"id": "17",\n      "infons": {"patient_id": 1}'
    )
    assert told != content
    with pytest.raises(DataError, match=r"a patient_id is no text") as caught:
        read_source(write(tmp_path, {"set.json": told}), "bioc", mapping=MAPPING)
    begins = content[: content.index(b'"BioCDocument"')].count(b"\n")
    assert (caught.value.file, caught.value.line) == ("set.json", begins)
