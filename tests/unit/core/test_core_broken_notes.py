"""What each format refuses: the line that is named, and no text of the note in the message."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.sources import read_source
from fedmedlora_testkit import note_formats
from fedmedlora_testkit.note_formats import MAPPING, write

ENTITY = "<!DOCTYPE collection [<!ENTITY x 'fever'>]><collection>"
Change = tuple[str, str, str, str, int]
BROKEN: dict[str, Change] = {
    # format, file, what is replaced, by what, line
    "conll: inside without begin": ("conll", "set.conll", "Zebrine\tX\tO", "Zebrine\tX\tI-Sign", 3),
    "conll: another scheme": ("conll", "set.conll", "Zebrine\tX\tO", "Zebrine\tX\tS-Sign", 3),
    "conll: a column less": ("conll", "set.conll", "rash\tX\tB-Sign", "rash\tB-Sign", 4),
    "conll: no token": ("conll", "set.conll", "Zebrine\tX\tO", " \tX\tO", 3),
    "conll: text goes another way": ("conll-with-text", "17.txt", "fever", "favor", 6),
    "conll: text goes on": ("conll-with-text", "17.txt", "pain .", "pain . Zebrine", 20),
    "i2b2: words elsewhere": ("i2b2", "concept/17.con", '"fever" 2:1 2:1', '"fever" 2:2 2:2', 3),
    "i2b2: outside the text": ("i2b2", "concept/17.con", '"fever" 2:1 2:1', '"fever" 9:1 9:1', 3),
    "i2b2: turned round": ("i2b2", "concept/17.con", '"fever" 2:1 2:1', '"fever" 2:4 2:1', 3),
    "i2b2: no concept line": ("i2b2", "concept/17.con", '||t="Dose"', "", 7),
    "i2b2: assertion of nothing": ("i2b2", "ast/17.ast", '"fever" 2:1 2:1', '"No" 2:0 2:1', 2),
    "i2b2: relation to nothing": ("i2b2", "rel/17.rel", '"40 mg" 3:2 3:3', '"40" 3:2 3:2', 3),
    "bioc: words elsewhere": ("bioc-xml", "set.xml", '"23" length="5"', '"24" length="5"', 25),
    "bioc: no number": ("bioc-xml", "set.xml", '"23" length="5"', '"x" length="5"', 27),
    "bioc: unknown element": ("bioc-xml", "set.xml", "<passage>", "<passage><b/>", 8),
    "bioc: text with a comment": ("bioc-xml", "set.xml", "Zebrine", "Zeb<!-- x -->rine", 10),
    "bioc: own entities": ("bioc-xml", "set.xml", "<collection>", ENTITY, 1),
    "bioc: passages overlap": ("bioc-xml", "set.xml", "<offset>20</offset>", "<offset>18</offset>", 17),
    "bioc: passages far apart": ("bioc-xml", "set.xml", "<offset>20</offset>", "<offset>90000</offset>", 17),
    "bioc: id twice": ("bioc-xml", "set.xml", '<annotation id="T3">', '<annotation id="T2">', 25),
    "bioc: relation to nothing": ("bioc-xml", "set.xml", 'refid="T2"', 'refid="T9"', 60),
    "bioc: not closed": ("bioc-xml", "set.xml", "</collection>", "", 123),
    "bioc json: no string": ("bioc-json", "set.json", '"text": "rash"', '"text": 3', 21),
    "bioc json: key twice": ("bioc-json", "set.json", '"offset": 0,', '"offset": 0, "offset": 1,', 14),
    "bioc json: words elsewhere": ("bioc-json", "set.json", '"text": "fever"', '"text": "favor"', 57),
    "jsonl: words elsewhere": ("jsonl", "notes.jsonl", '"mild"]', '"wild"]', 2),
    "jsonl: part of nothing": ("jsonl", "notes.jsonl", '"patient_id"', '"part_of": [1, 2], "patient_id"', 1),
}


@pytest.mark.parametrize("change", BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_file_is_refused_by_file_and_line(change: Change, tmp_path: Path) -> None:
    name, file, old, new, line = change
    format, make = note_formats.FORMATS[name]
    files = make()
    content = files[file].decode()
    assert old in content
    files[file] = content.replace(old, new, 1).encode()
    with pytest.raises(DataError) as caught:
        read_source(write(tmp_path, files), format, mapping=MAPPING)
    assert caught.value.file == {"17.txt": "17.iob2"}.get(file, file)
    assert caught.value.line == line, str(caught.value)
    assert not [word for word in ("ebrine", "fever", "favor", "40 mg", "rash") if word in str(caught.value)]


@pytest.mark.parametrize("line", ["A1\tSure T9", "*\tEQUIV T1 T9", "M1\tMaybe E9", "*\tEQUIV"])
def test_what_says_something_of_nothing_is_refused_in_brat(line: str, tmp_path: Path) -> None:
    files = note_formats.brat()
    count = files["17.ann"].count(b"\n")
    files["17.ann"] += line.encode() + b"\n"
    with pytest.raises(DataError) as caught:
        read_source(write(tmp_path, files), "brat", mapping=MAPPING)
    assert (caught.value.file, caught.value.line) == ("17.ann", count + 1)


def test_bioc_sentences_make_the_text_where_the_passage_has_none(tmp_path: Path) -> None:
    passage = (
        "<passage><offset>0</offset>{text}<sentence><offset>0</offset><text>No fever.</text>"
        '<annotation id="1"><infon key="type">Sign</infon><location offset="3" length="5"/>'
        "<text>fever</text></annotation></sentence>"
        "<sentence><offset>11</offset><text>Rash.</text></sentence></passage>"
    )
    whole = "<collection><source/><date/><key/><document><id>1</id>{}</document></collection>"
    for text, fits in (
        ("", True),
        ("<text>No fever.  Rash.</text>", True),
        ("<text>No fever. Rash.</text>", False),
    ):
        (tmp_path / "a.xml").write_text(whole.format(passage.format(text=text)))
        if fits:
            (note,) = read_source(tmp_path / "a.xml", "bioc", mapping=MAPPING).notes
            assert note.text == "No fever.  Rash." and note.text_of(note.entities[0]) == "fever"
        else:
            with pytest.raises(DataError, match=r"a\.xml:1: a sentence is not in the text"):
                read_source(tmp_path / "a.xml", "bioc", mapping=MAPPING)


def test_without_the_library_bioc_says_which_extra_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bioc", None)
    with pytest.raises(ConfigError, match=r"fedmedlora\[bioc\]"):
        read_source(write(tmp_path, note_formats.bioc_xml()), "bioc")


def test_the_mapping_can_accept_lines_of_i2b2_that_are_known_to_be_wrong(tmp_path: Path) -> None:
    files = note_formats.i2b2()
    files["concept/17.con"] = files["concept/17.con"].replace(b'"fever"', b'"favor"')
    accepted = frozenset({"concept/17.con:3", "ast/17.ast:2", "rel/17.rel:1"})
    files["ast/17.ast"] = files["ast/17.ast"].replace(b'"fever"', b'"favor"')
    files["rel/17.rel"] = files["rel/17.rel"].replace(b'"fever"', b'"favor"')
    mapping = MAPPING.model_copy(update={"accepted_mismatches": accepted})
    report = read_source(write(tmp_path, files), "i2b2", mapping=mapping).report
    assert report.spans_dropped == {("Sign", "span whose text differs, as the mapping accepts"): 1}
    assert report.aside["line that is wrong, as the mapping accepts"] == 2
    assert sum(report.relations_kept.values()) == 4
