"""`site import`: the hospital's annotated notes into one validated file, all of them or none.

The source is read and checked whole before anything is written; the file that the trainer reads is then
replaced in one step. The site's card learns which label types were annotated here, so that whoever composes
a study knows without asking; nothing else about the notes leaves this folder.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from fedmedlora_core.brat import read_brat
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.importing import ImportReport, ImportResult
from fedmedlora_core.jsonl import read_jsonl
from fedmedlora_core.labels import CLINICAL, LabelSet, label_set
from fedmedlora_core.mapping import load_mapping
from fedmedlora_core.records import write_notes
from fedmedlora_site.acceptance import load_accepted
from fedmedlora_site.durable import make_folder, sync_folder
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.pins import Card

FORMATS = ("brat", "jsonl")


@dataclass(frozen=True)
class Imported:
    """What an import read, kept and dropped.

    Args:
        report: The counts.
        annotated: Label types that were looked for in these notes.
        notes: Notes written.
    """

    report: ImportReport
    annotated: tuple[str, ...]
    notes: int

    def lines(self) -> list[str]:
        """The report for the operator, without any text of a note."""
        spans = sum(self.report.spans_kept.values())
        relations = sum(self.report.relations_kept.values())
        found = [f"imported {self.notes} notes with {spans} spans and {relations} relations"]
        found.append(f"annotated here: {', '.join(self.annotated) or 'nothing'}")
        found += [f"left out: {reason}: {count}" for reason, count in sorted(self.report.dropped.items())]
        return found


def import_notes(
    root: Path, source: Path, *, format: str = "brat", mapping: Path | str | None = None
) -> Imported:
    """Import a corpus into a site's folder; what was imported before is replaced.

    Args:
        root: The site's folder.
        source: A folder of BRAT files, or a JSONL file.
        format: "brat" or "jsonl".
        mapping: Shipped mapping by name, or a TOML file; None for a corpus that has the study's labels.

    Returns:
        Counts of what was read, kept and dropped.

    Raises:
        DataError: The source is malformed; the message names file and line, and nothing was imported.
        ConfigError: The format or the mapping is wrong.
    """
    folder = SiteFolder.open(root)
    if format not in FORMATS:
        raise ConfigError(f"format '{format}': expected one of {', '.join(FORMATS)}")
    names = None if mapping is None else load_mapping(str(mapping))
    labels = _labels(folder)
    read = read_brat if format == "brat" else read_jsonl
    result: ImportResult = read(source, mapping=names, labels=labels)
    if not result.notes:
        raise DataError("holds no note", file=source.name)
    annotated = tuple(sorted(frozenset().union(*(note.annotated for note in result.notes))))
    make_folder(folder.notes.parent)
    count = write_notes(folder.notes, result.notes, labels)
    sync_folder(folder.notes.parent)
    card = Card.load(folder.card)
    card.model_copy(update={"annotated": annotated}).write(folder.card)
    return Imported(result.report, annotated, count)


def _labels(folder: SiteFolder) -> LabelSet:
    """The labels of the accepted study; before there is one, those of the clinical schema."""
    if not folder.charter.is_file():
        return CLINICAL
    study, _ = load_accepted(folder)
    return label_set(study.labels.entities, study.labels.modifiers)
