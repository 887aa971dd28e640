"""BRAT import: what is read, what is dropped and counted, what is refused with file and line."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.brat import read_brat
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.importing import ImportResult
from fedmedlora_core.labels import CLINICAL, LabelSet, Link
from fedmedlora_core.mapping import LabelMapping, load_mapping, mapping_names
from fedmedlora_core.records import Span, validate_note

TEXT = "no zebra fever ,\nseverely raised urea ; aspirin 40 mg daily\n"
MAPPING = LabelMapping(
    types={
        "Sign": "problem",
        "Lab": "test",
        "Med": "drug",
        "Dose": "dosage",
        "How": "severity",
        "Not": "negation",
    },
    relations={"MODIFY": "second", "has": "first"},
)


def _folder(tmp_path: Path, ann: str, text: str = TEXT, name: str = "doc") -> Path:
    path = tmp_path / f"{name}.ann"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(ann.encode())
    path.with_suffix(".txt").write_bytes(text.encode())
    return tmp_path


def _read(tmp_path: Path, ann: str, text: str = TEXT, mapping: LabelMapping = MAPPING) -> ImportResult:
    return read_brat(_folder(tmp_path, ann, text), mapping=mapping)


def _line(name: str, kind: str, words: str) -> str:
    start = TEXT.index(words)
    return f"{name}\t{kind} {start} {start + len(words)}\t{words}\n"


SPANS = _line("T1", "Sign", "zebra fever") + _line("T2", "Not", "no") + _line("T3", "Med", "aspirin")
SPANS += _line("T4", "Dose", "40 mg")


def test_spans_and_relations_come_over_with_the_head_where_the_mapping_says(tmp_path: Path) -> None:
    result = _read(tmp_path, SPANS + "R1\tMODIFY Arg1:T2 Arg2:T1\nR2\thas Arg1:T3 Arg2:T4\t\n")
    (note,) = result.notes
    assert note.text == TEXT and note.document_id == "doc" and note.patient_id is None
    assert [note.text_of(entity) for entity in note.entities] == ["zebra fever", "no", "aspirin", "40 mg"]
    assert [(note.text_of(head), kind, note.text_of(tail)) for head, kind, tail in note.triples()] == [
        ("zebra fever", "negation", "no"),
        ("aspirin", "dosage", "40 mg"),
    ]
    assert note.annotated == {"problem", "test", "drug", "dosage", "severity", "negation"}
    assert result.report.spans_kept == {"problem": 1, "negation": 1, "drug": 1, "dosage": 1}
    assert result.report.lines == {"T": 4, "R": 2}
    assert result.report.dropped == {}


def test_every_drop_is_counted_under_its_reason(tmp_path: Path) -> None:
    ann = SPANS + (
        "T5\tHow 17 25;33 37\tseverely urea\n"  # discontinuous
        "T6\tAge 3 8\tzebra\n"  # not mapped
        "T7\tSign 3 14\tzebra fever\n"  # equal to T1
        "T8\tSign 15 16\t,\n"
        "T9\tSign 16 17\t \n"  # a line break only
        "R1\tMODIFY Arg1:T4 Arg2:T1\n"  # dosage of a problem
        "R2\tMODIFY Arg1:T5 Arg2:T1\n"  # its end was dropped
        "R3\tBEFORE Arg1:T1 Arg2:T3\n"  # relation not mapped
        "R4\thas Arg1:T3 Arg2:T4\n"
        "R5\thas Arg1:T3 Arg2:T4\n"
        "R6\thas Arg1:T7 Arg2:T2\n"  # T7 stands for T1
    )
    result = _read(tmp_path, ann)
    assert result.report.dropped == {
        "span of several pieces": 1,
        "span type not mapped": 1,
        "equal to another span": 1,
        "span of blanks only": 1,
        "relation between types that is not legal": 1,
        "relation whose end was dropped": 1,
        "relation type not mapped": 1,
        "relation that occurs twice": 1,
    }
    assert sum(result.report.spans_read.values()) == sum(result.report.spans_kept.values()) + 4
    assert [link.head for link in result.notes[0].relations] == ["T3", "T1"]
    assert result.report.as_dict()["documents"] == 1


def test_events_stand_for_their_triggers_and_asides_are_counted(tmp_path: Path) -> None:
    ann = SPANS + "E1\tSign:T1 \nE2\tNot:T2 Theme:E1\nR1\tMODIFY Arg1:E2 Arg2:E1\n"
    ann += "*\tEQUIV T1 T2\nA1\tNegated E1\n#1\tAnnotatorNotes T1\tsee zebra\n"
    ann += "N1\tReference T1 X:1\tx\nM1\tNegation E1\n"
    result = _read(tmp_path, ann)
    assert [kind for _, kind, _ in result.notes[0].triples()] == ["negation"]
    assert result.report.lines == {"T": 4, "E": 2, "R": 1, "*": 1, "A": 1, "#": 1, "N": 1, "M": 1}


def test_nested_spans_stay_and_blanks_at_the_edges_go(tmp_path: Path) -> None:
    result = _read(tmp_path, _line("T1", "Sign", "zebra fever ") + _line("T2", "Sign", "fever"))
    assert [entity.span for entity in result.notes[0].entities] == [
        Span(3, 14, "problem"),
        Span(9, 14, "problem"),
    ]


@pytest.mark.parametrize(
    "shown",
    [
        "zebra fever , severely",  # a blank for the line break
        "zebra fever ,\nseverely",  # goes on in the next line
        "zebra fever ,",  # ends at the line break
    ],
)
def test_span_over_a_line_break_may_be_shown_in_three_ways(tmp_path: Path, shown: str) -> None:
    result = _read(tmp_path, f"T1\tSign 3 25\t{shown}\n{_line('T2', 'Not', 'no')}")
    assert len(result.notes[0].entities) == 2


def test_offsets_count_characters_of_the_text_as_it_is(tmp_path: Path) -> None:
    text = "é\r\nfever \U0001d7d9 cough\u2028rash"
    ann = "T1\tSign 3 8\tfever\r\nT2\tSign 11 16\tcough\r\nT3\tSign 17 21\trash\r\n"
    (note,) = _read(tmp_path, ann, text).notes
    assert [note.text_of(entity) for entity in note.entities] == ["fever", "cough", "rash"]


BROKEN = {
    "wrong text": "T9\tSign 3 8\tfever",
    "off by one": "T9\tSign 2 7\tzebra",
    "past the end": "T9\tSign 3 999\tzebra",
    "huge offset": "T9\tSign 3 9999999999999\tzebra",
    "not a number": "T9\tSign 3 x\tzebra",
    "other digits": "T9\tSign 3 \u0668\tzebra",
    "turned round": "T9\tSign 8 3\tzebra",
    "empty span": "T9\tSign 3 3\t",
    "no text": "T9\tSign 3 8",
    "no tab": "T9 Sign 3 8 zebra",
    "span id twice": "T1\tNot 0 2\tno",
    "piece wrong": "T9\tSign 0 2;3 8\tno fever",
    "relation to nothing": "R1\thas Arg1:T1 Arg2:T9",
    "relation with one end": "R1\thas Arg1:T1",
    "relation to event of nothing": "R1\thas Arg1:T1 Arg2:E9",
    "event of nothing": "E1\tSign:T9",
    "event argument of nothing": "E1\tSign:T1 Theme:T9",
    "unknown line": "X1\tzebra",
    "free text": "zebra",
}


@pytest.mark.parametrize("line", BROKEN.values(), ids=BROKEN.keys())
def test_broken_line_is_named_by_file_and_line_without_its_text(tmp_path: Path, line: str) -> None:
    _folder(tmp_path, SPANS, name="a")
    _folder(tmp_path, "A1\tNegated T1\n" + SPANS + "R7\thas Arg1:T3 Arg2:T4\n" + line + "\n", name="sub/b")
    with pytest.raises(DataError) as caught:
        read_brat(tmp_path, mapping=MAPPING)
    assert (caught.value.file, caught.value.line) == ("sub/b.ann", 7)
    assert "zebra" not in str(caught.value)


def test_ids_of_relations_and_events_are_unique(tmp_path: Path) -> None:
    for line in ("R1\thas Arg1:T3 Arg2:T4\n", "E1\tSign:T1\n"):
        with pytest.raises(DataError, match="twice"):
            _read(tmp_path, SPANS + line * 2)


def test_missing_text_bad_bytes_and_empty_folder_are_data_errors(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no \.ann files"):
        read_brat(tmp_path)
    (tmp_path / "a.ann").write_text("")
    with pytest.raises(DataError, match=r"^a\.txt: "):
        read_brat(tmp_path)
    (tmp_path / "a.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"^a\.txt:1: is not valid UTF-8"):
        read_brat(tmp_path)


def test_mismatch_is_dropped_and_counted_only_where_the_mapping_names_it(tmp_path: Path) -> None:
    ann = "T1\tSign 3 8\tdonkey\n"
    with pytest.raises(DataError, match=r"doc\.ann:1"):
        _read(tmp_path, ann)
    result = _read(
        tmp_path, ann, mapping=MAPPING.model_copy(update={"accepted_mismatches": frozenset({"doc.ann:1"})})
    )
    assert result.notes[0].entities == ()
    assert sum(result.report.dropped.values()) == 1


def test_without_a_mapping_names_are_labels_and_only_those_that_occur_were_annotated(tmp_path: Path) -> None:
    ann = (
        _line("T1", "problem", "zebra fever")
        + _line("T2", "negation", "no")
        + "R1\thasAttr Arg1:T1 Arg2:T2\n"
    )
    (note,) = read_brat(_folder(tmp_path, ann)).notes
    assert note.annotated == {"problem", "negation"}
    assert [kind for _, kind, _ in note.triples()] == ["negation"]


def test_patient_is_read_from_the_file_name(tmp_path: Path) -> None:
    _folder(tmp_path, "", name="x/77_1")
    _folder(tmp_path, "", name="x/77_2")
    _folder(tmp_path, "", name="x/other")
    mapping = MAPPING.model_copy(update={"patient_pattern": "([0-9]+)_[0-9]+$"})
    notes = read_brat(tmp_path, mapping=mapping).notes
    assert [(note.document_id, note.patient_id) for note in notes] == [
        ("x/77_1", "77"),
        ("x/77_2", "77"),
        ("x/other", None),
    ]


PHEE_TEXT = "aspirin 40 mg and zinc daily caused rash ; gold caused cough"
PHEE_LABELS = LabelSet(
    CLINICAL.entities, CLINICAL.modifiers, CLINICAL.pairs, (Link("drug", "adverse_effect", "problem"),)
)


def _phee(tmp_path: Path, rows: list[tuple[str, str]], more: str) -> set[tuple[str, str, str]]:
    ann = ""
    for index, (kind, words) in enumerate(rows):
        start = PHEE_TEXT.index(words)
        ann += f"T{index}\t{kind} {start} {start + len(words)}\t{words}\n"
    folder = _folder(tmp_path, ann + more, PHEE_TEXT)
    (note,) = read_brat(folder, mapping=load_mapping("phee"), labels=PHEE_LABELS).notes
    return {(note.text_of(head), kind, note.text_of(tail)) for head, kind, tail in note.triples()}


PHEE_ROWS = [
    ("Treatment", "aspirin 40 mg and zinc daily"),
    ("Drug", "aspirin"),
    ("Dosage", "40 mg"),
    ("Drug", "zinc"),
    ("Freq", "daily"),
    ("Adverse_event", "caused"),
    ("Effect", "rash"),
]


def test_single_event_without_arguments_has_all_spans_of_its_document(tmp_path: Path) -> None:
    assert _phee(tmp_path, PHEE_ROWS, "E1\tAdverse_event:T5 \n") == {
        ("aspirin", "dosage", "40 mg"),
        ("zinc", "frequency", "daily"),
        ("aspirin", "adverse_effect", "rash"),
        ("zinc", "adverse_effect", "rash"),
    }


def test_several_events_join_only_their_arguments(tmp_path: Path) -> None:
    rows = [*PHEE_ROWS, ("Treatment", "gold"), ("Drug", "gold"), ("Effect", "cough")]
    more = "E1\tAdverse_event:T5 arg:T0 arg2:T6\nE2\tAdverse_event:T5 arg:T7 arg2:T9\n"
    found = {row for row in _phee(tmp_path, rows, more) if row[1] == "adverse_effect"}
    assert found == {
        ("aspirin", "adverse_effect", "rash"),
        ("zinc", "adverse_effect", "rash"),
        ("gold", "adverse_effect", "cough"),
    }


def test_joining_relation_puts_a_distant_span_into_its_container(tmp_path: Path) -> None:
    rows = [("Treatment", "gold"), ("Drug", "gold"), ("Freq", "daily")]
    assert _phee(tmp_path, rows, "R1\thas Arg1:T0 Arg2:T2\n") == {("gold", "frequency", "daily")}
    assert _phee(tmp_path, rows, "") == set()


def test_mappings_of_the_package_load_and_map_to_labels() -> None:
    corpora = {"mtsamples", "maccrobat2020", "phee", "chia", "bc5cdr", "i2b2-2010", "n2c2-2018"}
    assert set(mapping_names()) == corpora
    for name in mapping_names():
        mapping = load_mapping(name)
        assert set(mapping.types.values()) <= mapping.labels_annotated <= PHEE_LABELS.annotatable


def test_mapping_errors_are_the_operators(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="maccrobat2020"):
        load_mapping("nowhere")
    path = tmp_path / "m.toml"
    for content, expected in (
        ('[typs]\na = "b"\n', "types"),
        ("types = {}\npatient_pattern = '('\n", "regular expression"),
        ("types = {}\npatient_pattern = 'x'\n", "no group"),
        ("types = {}\nrelations = {a = 'third'}\n", "relations"),
    ):
        path.write_text(content)
        with pytest.raises(ConfigError, match=expected):
            load_mapping(path)


WHOLE = (
    SPANS + "E1\tSign:T1 \nR1\tMODIFY Arg1:T2 Arg2:E1\nT5\tHow 17 25;33 37\tseverely urea\n*\tEQUIV T1 T2\n"
)


@settings(max_examples=1000, deadline=None)
@given(
    st.booleans(),
    st.lists(
        st.tuples(
            st.integers(0, 10_000),
            st.integers(0, 3),
            st.one_of(st.binary(max_size=3), st.sampled_from(b"\t\n\r TR;:9")),
        ),
        min_size=1,
        max_size=4,
    ),
)
def test_mutated_files_are_read_or_refused_with_a_data_error(
    in_text: bool, edits: list[tuple[int, int, bytes | int]]
) -> None:
    files = {"doc.ann": bytearray(WHOLE.encode()), "doc.txt": bytearray(TEXT.encode())}
    raw = files["doc.txt" if in_text else "doc.ann"]
    for number, length, piece in edits:
        place = number % (len(raw) + 1)
        raw[place : place + length] = bytes([piece]) if isinstance(piece, int) else piece
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            (Path(folder) / name).write_bytes(bytes(content))
        try:
            for note in read_brat(folder, mapping=MAPPING).notes:
                validate_note(note)
        except DataError as error:
            assert "zebra" not in str(error)


def test_an_error_about_offsets_shows_no_number_of_the_line(tmp_path: Path) -> None:
    """A column too far: what stands there may be a record number."""
    with pytest.raises(DataError, match=r"doc\.ann:1") as refused:
        read_brat(_folder(tmp_path, "T1\tSign 4711471147 4711471150\tfever\n"), mapping=MAPPING)
    assert "4711471" not in str(refused.value)
