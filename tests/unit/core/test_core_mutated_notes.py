"""Ten thousand damaged files: each is refused by file and line, or every span is where it belongs.

"Where it belongs" is asked of a second reading of the damaged file that shares no code with the importers and
looks only at what the file says each span's words are.
"""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest

from fedmedlora_core.errors import DataError
from fedmedlora_core.importing import ImportResult
from fedmedlora_core.labels import CLINICAL
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.records import Note, validate_note
from fedmedlora_core.sources import read_source
from fedmedlora_testkit import note_formats
from fedmedlora_testkit.note_formats import MAPPING, Files, write

CASES = 1_112  # for each of nine samples
ROUND = 139
Claims = dict[tuple[str, str], str]
"""(document, span) -> the words that the file says the span has."""

MAPPINGS = {"n2c2": load_mapping("n2c2-2018")}


def mutated(raw: bytes, stream: random.Random) -> bytes:
    """Damage a file: flip bits, shift a number, cut, double, move or swap lines, cut the file."""
    data = bytearray(raw)
    for _ in range(stream.choice((1, 1, 1, 2, 4))):
        kind = stream.randrange(8)
        at = stream.randrange(len(data) + 1)
        lines = bytes(data).split(b"\n")
        row = stream.randrange(len(lines))
        if kind == 0 and at < len(data):
            data[at] ^= 1 << stream.randrange(8)
        elif kind == 1:
            numbers = list(re.finditer(rb"\d+", bytes(data)))
            if numbers:
                found = stream.choice(numbers)
                new = max(0, int(found[0]) + stream.choice((-10, -2, -1, 1, 2, 10, 10**12)))
                data[found.start() : found.end()] = str(new).encode()
        elif kind == 2:
            data = bytearray(b"\n".join(lines[:row] + lines[row + 1 :]))
        elif kind == 3:
            data = bytearray(b"\n".join([*lines[: row + 1], *lines[row:]]))
        elif kind == 4:
            other = stream.randrange(len(lines))
            lines[row], lines[other] = lines[other], lines[row]
            data = bytearray(b"\n".join(lines))
        elif kind == 5:
            del data[at : at + stream.randrange(1, 12)]
        elif kind == 6:
            data[at:at] = stream.choice(
                (b"\n", b"\r\n", b" ", b"\t", b"\xc3\xa9", b"\xff", b"\xf0\x9f\x92\x8a", b"<", b'"')
            )
        else:
            del data[at:]
    return bytes(data)


def brat_claims(files: Files) -> Claims:
    found = {}
    for name, raw in files.items():
        if name.endswith(".ann"):
            rows = re.findall(r"^(T\d+)\t\S+ [\d ;]+\t(.*)$", raw.decode(), re.MULTILINE)
            found.update({(name.removesuffix(".ann"), span): shown for span, shown in rows})
    return found


def i2b2_claims(files: Files) -> Claims:
    found = {}
    for name, raw in files.items():
        for number, line in enumerate(raw.decode().split("\n"), start=1):
            if name.endswith(".con") and line.strip():
                document = name.removeprefix("concept/").removesuffix(".con")
                found[document, f"C{number}"] = line.split('"')[1]
    return found


def pubtator_claims(files: Files) -> Claims:
    found: Claims = {}
    counts: dict[str, int] = {}
    for line in files["set.PubTator"].decode().split("\n"):
        cells = line.rstrip("\r").split("\t")
        if len(cells) >= 5:
            counts[cells[0]] = counts.get(cells[0], 0) + 1
            found[cells[0], f"T{counts[cells[0]]}"] = cells[3]
    return found


def bioc_xml_claims(files: Files) -> Claims:
    found = {}
    for document in ElementTree.fromstring(files["set.xml"]).iter("document"):  # noqa: S314 - own samples
        for item in document.iter("annotation"):
            if item.find("location") is not None:  # one without a place is counted apart
                found[document.findtext("id") or "", item.attrib["id"]] = item.findtext("text") or ""
    return found


def bioc_json_claims(files: Files) -> Claims:
    collections = json.loads(files["set.json"])
    return {
        (document["id"], item["id"]): item["text"]
        for document in collections["documents"]
        for holder in [document, *document["passages"]]
        for item in holder.get("annotations", [])
        if item["locations"]
    }


def conll_claims(files: Files) -> Claims:
    found: Claims = {}
    for name, raw in files.items():
        if name.endswith(".txt"):
            continue
        document, documents, spans, opened = "", 0, 0, False
        stem = name.rsplit(".", 1)[0]
        total = raw.count(b"-DOCSTART-") or 1
        for line in raw.decode().split("\n"):
            if line.startswith("-DOCSTART-") or (line.strip() and not documents):
                documents, spans, opened = documents + 1, 0, False
                document = f"{stem}-{documents}"
                if line.startswith("-DOCSTART-"):
                    continue
            cells = line.rstrip("\r\t ").split("\t")
            if cells[-1].startswith("B-"):
                spans, opened = spans + 1, True
                found[document, f"T{spans}"] = cells[0]
            elif opened and cells[-1].startswith("I-"):
                found[document, f"T{spans}"] += f" {cells[0]}"
            else:
                opened = False
        if documents == 1 and total == 1:
            found = {((stem if d == f"{stem}-1" else d), t): words for (d, t), words in found.items()}
    return found


def jsonl_claims(files: Files) -> Claims:
    rows = [json.loads(line) for line in files["notes.jsonl"].decode().split("\n") if line]
    return {(row["document_id"], span[0]): span[4] for row in rows for span in row["entities"]}


CLAIMS: dict[str, Callable[[Files], Claims]] = {
    "brat": brat_claims,
    "n2c2": brat_claims,
    "i2b2": i2b2_claims,
    "pubtator": pubtator_claims,
    "bioc-xml": bioc_xml_claims,
    "bioc-json": bioc_json_claims,
    "conll": conll_claims,
    "conll-with-text": conll_claims,
    "jsonl": jsonl_claims,
}


def misplaced(note: Note, claims: Claims) -> list[str]:
    """Spans of a note whose words are not those that the file claims."""
    return [
        entity.id
        for entity in note.entities
        if note.text_of(entity).lower().split() != claims[note.document_id, entity.id].lower().split()
    ]


def check_import(result: ImportResult, claims: Claims) -> None:
    """Every span that was read is kept or counted, and stands where it belongs."""
    report = result.report
    assert sum(report.spans_read.values()) == len(claims)
    assert sum(report.spans_kept.values()) == len(claims) - sum(report.spans_dropped.values())
    for note in result.notes:
        validate_note(note, CLINICAL)
        assert misplaced(note, claims) == []


@pytest.mark.parametrize("part", range(CASES // ROUND))
@pytest.mark.parametrize("name", note_formats.FORMATS)
def test_damaged_files_are_refused_by_file_and_line_or_read_right(
    name: str, part: int, tmp_path: Path
) -> None:
    format, make = note_formats.FORMATS[name]
    whole = make()
    stream = random.Random(f"{name} {part}")  # noqa: S311 - test data
    write(tmp_path, whole)
    refused = 0
    for _ in range(ROUND):
        target = stream.choice(sorted(whole))
        files = whole | {target: mutated(whole[target], stream)}
        (tmp_path / target).write_bytes(files[target])
        try:
            result = read_source(tmp_path, format, mapping=MAPPINGS.get(name, MAPPING))
        except DataError as error:
            refused += 1
            assert error.file is not None and error.line is not None, error
            content = files.get(error.file)
            assert content is not None, error.file
            assert 1 <= error.line <= content.count(b"\n") + 1
        else:
            check_import(result, CLAIMS[name](files))
        (tmp_path / target).write_bytes(whole[target])
    assert 0 < refused < ROUND


def test_ten_thousand_files_are_damaged() -> None:
    assert CASES * len(note_formats.FORMATS) >= 10_000
    assert CASES % ROUND == 0


@pytest.mark.parametrize("name", note_formats.FORMATS)
def test_a_shifted_span_would_be_found(name: str, tmp_path: Path) -> None:
    """The second reading convicts: a note whose spans are moved by one character fails it."""
    format, make = note_formats.FORMATS[name]
    files = make()
    result = read_source(write(tmp_path, files), format, mapping=MAPPINGS.get(name, MAPPING))
    claims = CLAIMS[name](files)
    check_import(result, claims)
    note = result.notes[0]
    shifted = Note(note.document_id, None, f"x{note.text}", note.entities, (), note.annotated)
    assert misplaced(shifted, claims)
