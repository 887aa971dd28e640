"""Importing notes from JSON lines, with the labels of the study or with a corpus' own.

The format is that of `records` (one note per line). With a mapping, span types and relation types are the
corpus' own names; a relation's first entry is its first argument, and the mapping says which is the head.
"""

from __future__ import annotations

from pathlib import Path

from fedmedlora_core.importing import (
    ImportResult,
    SourceDocument,
    SourceLink,
    SourceSpan,
    convert,
    identity_mapping,
)
from fedmedlora_core.labels import CLINICAL, LabelSet
from fedmedlora_core.mapping import LabelMapping
from fedmedlora_core.records import Note, check_structure, iter_checked, read_notes


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
    if mapping is None:
        notes = tuple(read_notes(file, labels))
        documents = [_document(note) for note in notes]
        identity = identity_mapping(documents, labels)
        return ImportResult(notes, convert(documents, identity, labels).report)
    documents = [_document(note) for note in iter_checked(file, check_structure)]
    return convert(documents, mapping, labels)


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
