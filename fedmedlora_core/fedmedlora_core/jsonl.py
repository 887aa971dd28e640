"""Importing notes from JSON lines, with the labels of the study or with a corpus' own.

The format is that of `records` (one note per line). With a mapping, span types and relation types are the
corpus' own names; a relation's first entry is its first argument, and the mapping says which is the head.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path

from fedmedlora_core.importing import (
    ImportResult,
    SourceDocument,
    SourceLink,
    SourceSpan,
    convert,
)
from fedmedlora_core.labels import CLINICAL, LabelSet
from fedmedlora_core.mapping import LabelMapping
from fedmedlora_core.records import Note, check_structure, iter_checked, validate_note


def read_jsonl(
    path: Path | str, *, mapping: LabelMapping | None = None, labels: LabelSet = CLINICAL
) -> ImportResult:
    """Read a JSONL file of notes, all or nothing.

    Args:
        path: The file.
        mapping: How the file's names become labels; without one they must be labels of the study.
        labels: The labels of the study.

    Returns:
        Notes in the order of the file, and the report.

    Raises:
        DataError: A line is malformed or breaks a rule; it names file and line. Nothing was imported.
    """
    file = Path(path)
    check = check_structure if mapping is not None else partial(validate_note, labels=labels)
    notes = tuple(iter_checked(file, check))
    result = convert(_documents(file, notes), mapping, labels)
    pairs = zip(result.notes, notes, strict=True)
    if mapping is None:  # what was annotated is the study's own: a type without a span here stays a negative
        own = tuple(replace(old, entities=new.entities, relations=new.relations) for new, old in pairs)
        return ImportResult(own, result.report)
    return ImportResult(tuple(replace(new, part_of=old.part_of) for new, old in pairs), result.report)


def jsonl_documents(path: Path | str) -> list[SourceDocument]:
    """The documents of a file, whatever their labels.

    Raises:
        DataError: A line is malformed; it names file and line.
    """
    return _documents(Path(path), tuple(iter_checked(Path(path), check_structure)))


def _documents(file: Path, notes: tuple[Note, ...]) -> list[SourceDocument]:
    """Parsed notes as documents; one stands in each line."""
    return [
        replace(_document(note), file=file.name, line=number) for number, note in enumerate(notes, start=1)
    ]


def _document(note: Note) -> SourceDocument:
    """A parsed note as a document with a corpus' labels."""
    return SourceDocument(
        name=note.document_id,
        text=note.text,
        spans=tuple(SourceSpan(e.id, e.type, ((e.start, e.end),)) for e in note.entities),
        links=tuple(SourceLink(link.type, link.head, link.tail) for link in note.relations),
        lines={"notes": 1},
        patient_id=note.patient_id,
        annotated=note.annotated,
    )
