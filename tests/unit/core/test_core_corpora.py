"""The open corpora, where a folder of them is given: counts equal those of a counter that shares no code."""

from __future__ import annotations

import os
import re
from collections import Counter
from pathlib import Path

import pytest

from fedmedlora_core.brat import read_brat
from fedmedlora_core.labels import CLINICAL, LabelSet, Link
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.sentences import split_sentences
from fedmedlora_core.sources import detect_format, read_source
from fedmedlora_core.splits import split_by_patient

LABELS = LabelSet(
    CLINICAL.entities, CLINICAL.modifiers, CLINICAL.pairs, (Link("drug", "adverse_effect", "problem"),)
)
FIGURES = {  # documents, entities, discontinuous entities, relations (with BRAT's `*` lines), as published
    "mtsamples": (96, 10_838, 0, 4_742),
    "maccrobat2020": (200, 25_189, 44, 18_330),
    "chia": (2_000, 44_616, 1_796, 25_168),
    "phee": (4_827, 30_310, 620, 349),
}


def _corpus(name: str) -> Path:
    root = os.environ.get("FEDMEDLORA_DATA")
    if not root:
        pytest.skip("FEDMEDLORA_DATA does not name a folder with the open corpora")
    folder = Path(root) / name
    if not folder.is_dir():
        pytest.skip(f"FEDMEDLORA_DATA has no folder {name}")
    return folder


def _count(folder: Path) -> tuple[int, int, int, int, Counter[str]]:
    """Count lines with regular expressions alone."""
    files = list(folder.rglob("*.ann"))
    spans, pieces, relations, types = 0, 0, 0, Counter[str]()
    for path in files:
        for line in path.read_bytes().decode().split("\n"):
            found = re.match(r"T\d+\t(\S+) ([\d; ]+)\t", line)
            if found:
                spans += 1
                pieces += ";" in found[2]
                types[found[1]] += 1
            relations += bool(re.match(r"(R\d+|\*)\t", line))
    return len(files), spans, pieces, relations, types


def _count_pubtator(folder: Path) -> tuple[int, Counter[str], int]:
    """Documents, mentions by type and relations of a PubTator corpus, by the number of columns alone."""
    documents, relations, types = 0, 0, Counter[str]()
    for path in folder.iterdir():
        for line in path.read_bytes().decode().splitlines():
            columns = line.split("\t")
            documents += bool(re.match(r"\d+\|t\|", line))
            relations += len(columns) == 4
            if len(columns) > 4:
                types[columns[4]] += 1
    return documents, types, relations


def test_pubtator_import_reads_as_many_as_a_separate_counter() -> None:
    folder = _corpus("bc5cdr")
    report = read_source(folder, "pubtator", mapping=load_mapping("bc5cdr")).report
    documents, types, relations = _count_pubtator(folder)
    assert (documents, sum(types.values()), relations) == (1_500, 28_785, 3_116)
    assert report.documents == documents and report.spans_read == types
    assert sum(report.spans_kept.values()) == sum(types.values()) and report.dropped == {}
    assert report.aside == {"relation of concepts": relations}


@pytest.mark.parametrize("name", FIGURES)
def test_import_reads_as_many_as_a_separate_counter_and_as_published(name: str) -> None:
    folder = _corpus(name)
    mapping = load_mapping(name)
    result = read_brat(folder, mapping=mapping, labels=LABELS)
    documents, spans, pieces, relations, types = _count(folder)
    assert (documents, spans, pieces, relations) == FIGURES[name]
    report = result.report
    assert len(result.notes) == report.documents == documents
    assert detect_format(folder) == "brat"
    assert report.spans_read == types and sum(types.values()) == spans
    assert report.lines["R"] + report.lines.get("*", 0) == relations
    assert sum(report.relations_read.values()) == report.lines["R"]
    mapped = sum(count for kind, count in types.items() if kind in mapping.types)
    lost = sum(
        report.dropped.get(reason, 0) for reason in ("span of several pieces", "equal to another span")
    )
    assert (
        sum(report.spans_kept.values()) == mapped - lost == sum(len(note.entities) for note in result.notes)
    )
    assert sum(report.relations_kept.values()) == sum(len(note.relations) for note in result.notes)


def test_mtsamples_loses_nothing_and_its_relations_lie_in_sentences() -> None:
    result = read_brat(_corpus("mtsamples"))
    assert result.report.dropped == {}
    assert sum(result.report.relations_kept.values()) == 4_742
    inside = 0
    for note in result.notes:
        pieces = split_sentences(note.text)
        inside += sum(
            any(piece.start <= min(h.start, t.start) and max(h.end, t.end) <= piece.end for piece in pieces)
            for h, _, t in note.triples()
        )
    assert inside / 4_742 > 0.97


def test_modifier_first_corpus_gives_heads_that_are_entities() -> None:
    notes = read_brat(_corpus("maccrobat2020"), mapping=load_mapping("maccrobat2020")).notes
    heads = Counter(head.type for note in notes for head, _, _ in note.triples())
    assert set(heads) <= set(CLINICAL.entities)
    assert heads["test"] > 2_500


def test_sentences_of_one_abstract_stay_in_one_part() -> None:
    notes = read_brat(_corpus("phee"), mapping=load_mapping("phee"), labels=LABELS).notes
    parts = split_by_patient(notes, seed=1, validation_fraction=0.1, test_fraction=0.2)
    names = [
        {note.document_id.split("/")[1].split("_")[0] for note in part} for part in (parts.train, parts.test)
    ]
    assert not names[0] & names[1]
