"""PubTator import: text of title and abstract, strict offsets, errors with file and line."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.errors import DataError
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.pubtator import read_pubtator
from fedmedlora_core.records import validate_note

MAPPING = load_mapping("bc5cdr")
HEAD = "17|t|Zebrine rash.\n17|a|A rash after zebrine.\n"
MENTIONS = "17\t0\t7\tZebrine\tChemical\tD1\n17\t8\t12\trash\tDisease\tD2\n17\tCID\tD1\tD2\n"
SECOND = "18|t|None.\n18|a|\n"


def _write(tmp_path: Path, content: str) -> Path:
    path = tmp_path / "set.txt"
    path.write_bytes(content.encode())
    return path


def test_documents_and_mentions_are_read_and_concept_relations_counted(tmp_path: Path) -> None:
    result = read_pubtator(_write(tmp_path, HEAD + MENTIONS + "\n" + SECOND + "\n\n"), mapping=MAPPING)
    first, second = result.notes
    assert first.text == "Zebrine rash. A rash after zebrine." and second.text == "None. "
    assert [(first.text_of(e), e.type) for e in first.entities] == [("Zebrine", "drug"), ("rash", "problem")]
    assert first.annotated == second.annotated == {"drug", "problem"}
    assert result.report.lines == {"mention": 2, "relation of concepts": 1}


@pytest.mark.parametrize(
    "line",
    [
        "17\t0\t6\tZebrine\tChemical\tD1",
        "17\t0\t99\tZebrine\tChemical\tD1",
        "17\t7\t0\tZebrine\tChemical\tD1",
        "17\tx\t7\tZebrine\tChemical\tD1",
        "16\t0\t7\tZebrine\tChemical\tD1",
        "17\tCID\tD1",
        "zebra",
        "17|t|Zebrine again.",
    ],
)
def test_broken_line_is_named_by_file_and_line_without_its_text(tmp_path: Path, line: str) -> None:
    with pytest.raises(DataError) as caught:
        read_pubtator(_write(tmp_path, "\n" + HEAD + MENTIONS + line + "\n"), mapping=MAPPING)
    assert (caught.value.file, caught.value.line) == ("set.txt", 7)
    assert "ebr" not in str(caught.value)


@pytest.mark.parametrize("content", ["17|t|Only a title.\n", "17|t|A.\n18|a|B.\n", HEAD + "\n" + HEAD])
def test_document_without_abstract_or_twice_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(DataError, match=r"^set\.txt"):
        read_pubtator(_write(tmp_path, content), mapping=MAPPING)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 999), st.integers(0, 3), st.binary(max_size=3)), min_size=1, max_size=4)
)
def test_mutated_file_is_read_or_refused_with_a_data_error(edits: list[tuple[int, int, bytes]]) -> None:
    raw = bytearray((HEAD + MENTIONS + "\n" + SECOND).encode())
    for number, length, piece in edits:
        place = number % (len(raw) + 1)
        raw[place : place + length] = piece
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "set.txt"
        path.write_bytes(bytes(raw))
        try:
            for note in read_pubtator(path, mapping=MAPPING).notes:
                validate_note(note)
        except DataError as error:
            assert "ebr" not in str(error)


@pytest.mark.parametrize(
    ("part", "chemicals", "diseases"),
    [("Training", 5203, 4182), ("Development", 5347, 4244), ("Test", 5385, 4424)],
)
def test_open_corpus_is_read_whole(part: str, chemicals: int, diseases: int) -> None:
    root = os.environ.get("FEDMEDLORA_DATA")
    if not root:
        pytest.skip("FEDMEDLORA_DATA does not name a folder with the open corpora")
    path = Path(root) / "bc5cdr" / f"CDR_{part}Set.PubTator.txt"
    if not path.is_file():
        pytest.skip("FEDMEDLORA_DATA has no bc5cdr")
    result = read_pubtator(path, mapping=MAPPING)
    assert len(result.notes) == 500
    assert result.report.spans_read == {"Chemical": chemicals, "Disease": diseases}
