"""The same small annotated notes in every format that `site import` reads, for tests.

The writers share no code with the readers; BioC is written by the `bioc` library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bioc import biocjson, biocxml
from bioc.datastructure import (
    BioCAnnotation,
    BioCCollection,
    BioCDocument,
    BioCLocation,
    BioCNode,
    BioCPassage,
    BioCRelation,
)

from fedmedlora_core.mapping import LabelMapping

Files = dict[str, bytes]


@dataclass(frozen=True)
class Sample:
    """A note: its text, its spans as (type, words), and relations as (type, head, tail) by number of span."""

    name: str
    text: str
    spans: tuple[tuple[str, str], ...]
    links: tuple[tuple[str, int, int], ...]

    def places(self) -> list[tuple[str, int, int]]:
        """Type, start and end of each span: the first place of its words."""
        return [
            (kind, self.text.index(words), self.text.index(words) + len(words)) for kind, words in self.spans
        ]


SAMPLES = (
    Sample(
        "17",
        "Zebrine rash noted.\nNo fever , severe cough today .\nGiven aspirin 40 mg daily for pain .\n",
        (
            ("Sign", "rash"),
            ("Not", "No"),
            ("Sign", "fever"),
            ("How", "severe"),
            ("Sign", "cough"),
            ("Med", "aspirin"),
            ("Dose", "40 mg"),
            ("Sign", "pain"),
        ),
        (("has", 2, 1), ("has", 4, 3), ("has", 5, 6)),
    ),
    Sample(
        "18",
        "Émile reports mild dyspnea and dizziness .\nStarted zinc 5 mg ; Ringer's lactate given .\n",
        (("How", "mild"), ("Sign", "dyspnea"), ("Sign", "dizziness"), ("Med", "zinc"), ("Dose", "5 mg")),
        (("has", 1, 0), ("has", 3, 4)),
    ),
)
MAPPING = LabelMapping(
    types={"Sign": "problem", "Not": "negation", "How": "severity", "Med": "drug", "Dose": "dosage"},
    relations={"has": "first"},
)


def brat(samples: tuple[Sample, ...] = SAMPLES) -> Files:
    """Text and `.ann` files with an event, an equivalence, an attribute and a discontinuous span."""
    files: Files = {}
    for sample in samples:
        lines = [
            f"T{number}\t{kind} {start} {end}\t{sample.text[start:end]}"
            for number, (kind, start, end) in enumerate(sample.places(), start=1)
        ]
        words = re.search(r"(\w+) (\w+) (\w+)", sample.text)
        assert words is not None
        pieces = f"{words.start(1)} {words.end(1)};{words.start(3)} {words.end(3)}"
        lines.append(f"T99\tSign {pieces}\t{words[1]} {words[3]}")
        lines += [
            f"R{number}\t{kind} Arg1:T{head + 1} Arg2:T{tail + 1}"
            for number, (kind, head, tail) in enumerate(sample.links, start=1)
        ]
        lines += ["E1\tSign:T1 Theme:T2", "*\tEQUIV T1 T2", "A1\tSure E1", "#1\tAnnotatorNotes T1\tsee chart"]
        files[f"{sample.name}.txt"] = sample.text.encode()
        files[f"{sample.name}.ann"] = ("\n".join(lines) + "\n").encode()
    return files


def n2c2() -> Files:
    """BRAT with the labels of the n2c2 2018 track, and a span cut at a line break as that corpus does."""
    text = "Given aspirin 81 mg twice\na day for chest pain .\n"
    first, second = text.index("twice"), text.index("a day")
    ann = (
        "T1\tDrug 6 13\taspirin\nT2\tStrength 14 19\t81 mg\n"
        f"T3\tFrequency {first} {first + 5};{second} {second + 5}\ttwice a day\n"
        f"T4\tReason {text.index('chest')} {text.index('chest') + 10}\tchest pain\n"
        "R1\tStrength-Drug Arg1:T2 Arg2:T1\nR2\tFrequency-Drug Arg1:T3 Arg2:T1\n"
        "R3\tReason-Drug Arg1:T4 Arg2:T1\n"
    )
    return {"100035.txt": text.encode(), "100035.ann": ann.encode()}


def _tokens(text: str) -> list[list[tuple[str, int, int]]]:
    """The words of each line with their places."""
    found, start = [], 0
    for line in text.split("\n"):
        found.append([(m[0], start + m.start(), start + m.end()) for m in re.finditer(r"\S+", line)])
        start += len(line) + 1
    return found


def _i2b2_place(sample: Sample, start: int, end: int) -> str:
    """c="words" line:token line:token."""
    rows = _tokens(sample.text)
    inside = [
        (line, number)
        for line, row in enumerate(rows, start=1)
        for number, (_, a, b) in enumerate(row)
        if a < end and b > start
    ]
    first, last = inside[0], inside[-1]
    words = sample.text[rows[first[0] - 1][first[1]][1] : rows[last[0] - 1][last[1]][2]]
    return f'c="{words.lower()}" {first[0]}:{first[1]} {last[0]}:{last[1]}'


def i2b2(samples: tuple[Sample, ...] = SAMPLES) -> Files:
    """The files of the i2b2 2010 challenge, in its folders."""
    files: Files = {}
    for sample in samples:
        places = [(kind, _i2b2_place(sample, start, end)) for kind, start, end in sample.places()]
        con = [f'{place}||t="{kind}"' for kind, place in places]
        ast = [f'{place}||t="{kind}"||a="present"' for kind, place in places if kind == "Sign"]
        rel = [f'{places[head][1]}||r="{kind}"||{places[tail][1]}' for kind, head, tail in sample.links]
        files[f"txt/{sample.name}.txt"] = sample.text.encode()
        for folder, suffix, lines in (("concept", "con", con), ("ast", "ast", ast), ("rel", "rel", rel)):
            files[f"{folder}/{sample.name}.{suffix}"] = ("\n".join(lines) + "\n").encode()
    return files


def pubtator(samples: tuple[Sample, ...] = SAMPLES) -> Files:
    """One PubTator file; a note's first line is its title."""
    blocks = []
    for sample in samples:
        title, body = sample.text.rstrip("\n").replace("\n", " ").split(" ", 2)[:2], ""
        head = " ".join(title)
        body = sample.text.rstrip("\n").replace("\n", " ")[len(head) + 1 :]
        lines = [f"{sample.name}|t|{head}", f"{sample.name}|a|{body}"]
        lines += [
            f"{sample.name}\t{start}\t{end}\t{sample.text[start:end]}\t{kind}\tD1"
            for kind, start, end in sample.places()
        ]
        blocks.append("\n".join([*lines, f"{sample.name}\tCID\tD1\tD2"]) + "\n")
    return {"set.PubTator": "\n".join(blocks).encode()}


def _collection(samples: tuple[Sample, ...]) -> Any:
    """A BioC collection: each line of a note is a passage."""
    collection = BioCCollection()
    collection.source, collection.date, collection.key = "tests", "2026", "none"
    for sample in samples:
        document = BioCDocument()
        document.id = sample.name
        offset = 0
        for line in sample.text.split("\n")[:-1]:
            passage = BioCPassage()
            passage.offset, passage.text = offset, line
            for number, (kind, start, end) in enumerate(sample.places(), start=1):
                if offset <= start < offset + len(line):
                    annotation = BioCAnnotation()
                    annotation.id, annotation.text = f"T{number}", sample.text[start:end]
                    annotation.infons["type"] = kind
                    annotation.add_location(BioCLocation(start, end - start))
                    passage.add_annotation(annotation)
            document.add_passage(passage)
            offset += len(line) + 1
        for number, (kind, head, tail) in enumerate(sample.links, start=1):
            relation = BioCRelation()
            relation.id = f"R{number}"
            relation.infons["type"] = kind
            relation.add_node(BioCNode(f"T{head + 1}", "Head"))
            relation.add_node(BioCNode(f"T{tail + 1}", "Tail"))
            document.add_relation(relation)
        collection.add_document(document)
    return collection


def bioc_xml(samples: tuple[Sample, ...] = SAMPLES) -> Files:
    """A BioC collection as XML."""
    return {"set.xml": biocxml.dumps(_collection(samples)).encode()}


def bioc_json(samples: tuple[Sample, ...] = SAMPLES) -> Files:
    """A BioC collection as JSON."""
    return {"set.json": (biocjson.dumps(_collection(samples), indent=2) + "\n").encode()}


def _conll_lines(sample: Sample) -> list[str]:
    """Token lines with a column in between, an empty line after each sentence."""
    lines = []
    for row in _tokens(sample.text):
        for word, start, end in row:
            tag = "O"
            for kind, first, last in sample.places():
                if first < end and start < last:
                    tag = f"{'B' if start <= first else 'I'}-{kind}"
            lines.append(f"{word}\tX\t{tag}")
        lines.append("")
    return lines


def conll(samples: tuple[Sample, ...] = SAMPLES) -> Files:
    """One token file with several documents, without their texts."""
    lines: list[str] = []
    for sample in samples:
        lines += ["-DOCSTART-\tX\tO", "", *_conll_lines(sample)]
    return {"set.conll": ("\n".join(lines) + "\n").encode()}


def conll_with_text(samples: tuple[Sample, ...] = SAMPLES) -> Files:
    """Token files, each with its text beside it."""
    files: Files = {}
    for sample in samples:
        files[f"{sample.name}.iob2"] = ("\n".join(_conll_lines(sample)) + "\n").encode()
        files[f"{sample.name}.txt"] = sample.text.encode()
    return files


def jsonl(samples: tuple[Sample, ...] = SAMPLES) -> Files:
    """Notes as JSON lines; each row shows its span's text."""
    lines = []
    for sample in samples:
        rows = [
            [f"T{number}", kind, start, end, sample.text[start:end]]
            for number, (kind, start, end) in enumerate(sample.places(), start=1)
        ]
        note = {
            "document_id": sample.name,
            "patient_id": None,
            "text": sample.text,
            "annotated": sorted({*(kind for kind, _ in sample.spans), "has"}),
            "entities": rows,
            "relations": [[f"T{head + 1}", kind, f"T{tail + 1}"] for kind, head, tail in sample.links],
        }
        lines.append(json.dumps(note))
    return {"notes.jsonl": ("\n".join(lines) + "\n").encode()}


FORMATS: Mapping[str, tuple[str, Callable[[], Files]]] = {
    "brat": ("brat", brat),
    "n2c2": ("n2c2", n2c2),
    "i2b2": ("i2b2", i2b2),
    "pubtator": ("pubtator", pubtator),
    "bioc-xml": ("bioc", bioc_xml),
    "bioc-json": ("bioc", bioc_json),
    "conll": ("conll", conll),
    "conll-with-text": ("conll", conll_with_text),
    "jsonl": ("jsonl", jsonl),
}
"""Name -> the format as `--format` has it, and the files."""


def write(folder: Path, files: Files) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder
