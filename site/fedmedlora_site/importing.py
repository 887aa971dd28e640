"""`site import`: the hospital's annotated notes into one validated file, all of them or none.

The source is read and checked whole before anything is written; the file that the trainer reads is then
replaced in one step. Long notes are cut and near duplicates marked here, once, so that every later split
sees the same. The site's card learns which label types were annotated here, so that whoever composes a
study knows without asking; nothing else about the notes leaves this folder.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.importing import ImportReport
from fedmedlora_core.labels import CLINICAL, LabelSet, label_set
from fedmedlora_core.near_duplicates import THRESHOLD, NearDuplicates, mark_near_duplicates
from fedmedlora_core.parts import Cutting, cut_notes
from fedmedlora_core.records import Note, write_notes
from fedmedlora_core.sources import chosen_format, chosen_mapping, read_source
from fedmedlora_site.acceptance import load_accepted
from fedmedlora_site.durable import make_folder, sync_folder
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.pins import Card


@dataclass(frozen=True)
class Imported:
    """What an import read, kept and dropped; nothing of it is text of a note.

    Args:
        report: The counts.
        annotated: Label types that were looked for in these notes.
        format: The format that was read.
        near: Near duplicates among the notes.
        cutting: What became of long notes; None where no bound was given.
        is_dry: Nothing was written.
        notes: The notes, parts of long ones included.
    """

    report: ImportReport
    annotated: tuple[str, ...]
    format: str
    near: NearDuplicates
    cutting: Cutting | None
    is_dry: bool
    notes: tuple[Note, ...] = field(repr=False)

    @property
    def spans(self) -> int:
        """Spans in the notes."""
        return sum(len(note.entities) for note in self.notes)

    @property
    def relations(self) -> int:
        """Relations in the notes."""
        return sum(len(note.relations) for note in self.notes)

    def lines(self) -> list[str]:
        """The report for the operator, without any text of a note."""
        verb = "would import" if self.is_dry else "imported"
        found = [f"{verb} {len(self.notes)} notes with {self.spans} spans and {self.relations} relations"]
        found.append(f"format: {self.format}")
        found.append(f"annotated here: {', '.join(self.annotated) or 'nothing'}")
        if self.notes and not self.spans:
            found.append(
                "warning: no span was kept; a mapping is missing, or names other types than the files"
            )
        found += [f"left out: {reason}: {count}" for reason, count in sorted(self.report.dropped.items())]
        found += [f"left aside: {kind}: {count}" for kind, count in sorted(self.report.aside.items())]
        found += [f"look at: {kind}: {count}" for kind, count in sorted(self.report.notices.items())]
        found += [f"look at: {sentence}" for sentence in self.report.unmet]
        if self.cutting is not None:
            cut = self.cutting
            found.append(f"cut at {cut.max_words} words: {cut.documents} notes into {cut.parts} parts")
            found += [f"left out: {reason}: {count}" for reason, count in sorted(cut.dropped.items())]
        return found + self._near_lines()

    def _near_lines(self) -> list[str]:
        """What the operator should know of near duplicates."""
        near, found = self.near, []
        if near.groups:
            found.append(
                f"near duplicates: {near.notes} notes in {near.groups} groups ({near.across_patients} across "
                "patients); each group stays on one side of the split"
            )
        if 2 * near.largest > len(self.notes):
            found.append(
                f"warning: {near.largest} of {len(self.notes)} notes are one group of near duplicates; "
                "the split cannot come near its shares"
            )
        return found

    def as_dict(self) -> dict[str, object]:
        """The report, ready for JSON."""
        cut = self.cutting
        return {
            "dry_run": self.is_dry,
            "format": self.format,
            "notes": len(self.notes),
            "spans": self.spans,
            "relations": self.relations,
            "annotated": list(self.annotated),
            "report": self.report.as_dict(),
            "cutting": None
            if cut is None
            else {
                "max_words": cut.max_words,
                "documents": cut.documents,
                "parts": cut.parts,
                "dropped": dict(sorted(cut.dropped.items())),
            },
            "near_duplicates": {
                "threshold": THRESHOLD,
                "notes": self.near.notes,
                "groups": self.near.groups,
                "across_patients": self.near.across_patients,
                "largest": self.near.largest,
            },
        }


def read_import(
    root: Path,
    source: Path,
    *,
    format: str | None = None,
    mapping: Path | str | None = None,
    max_words: int | None = None,
) -> Imported:
    """Read a corpus as an import would, and write nothing.

    Args:
        root: The site's folder; before it is enrolled the labels are those of the clinical schema.
        source: A file or folder of notes.
        format: One of `sources.FORMATS`; told from the source when None.
        mapping: Shipped mapping by name, or a TOML file; None for a corpus that has the study's labels.
        max_words: Longest note, in words; longer ones are cut. None for no bound.

    Raises:
        DataError: The source is malformed; the message names file and line.
        ConfigError: The format, the mapping or the bound is wrong.
    """
    if max_words is not None and max_words < 1:
        raise ConfigError(f"--max-words {max_words}: a part must be able to hold a word")
    labels = _labels(SiteFolder(root))
    kind = chosen_format(source, format)
    result = read_source(source, kind, mapping=chosen_mapping(kind, mapping), labels=labels)
    if not result.notes:
        raise DataError("holds no note", file=source.name)
    notes, cutting = (result.notes, None) if max_words is None else cut_notes(result.notes, max_words)
    notes, near = mark_near_duplicates(notes)
    annotated = tuple(sorted(frozenset().union(*(note.annotated for note in notes))))
    return Imported(result.report, annotated, kind, near, cutting, is_dry=True, notes=notes)


def import_notes(
    root: Path,
    source: Path,
    *,
    format: str | None = None,
    mapping: Path | str | None = None,
    max_words: int | None = None,
) -> Imported:
    """Import a corpus into a site's folder; what was imported before is replaced.

    Args:
        root: The site's folder.
        source: A file or folder of notes.
        format: One of `sources.FORMATS`; told from the source when None.
        mapping: Shipped mapping by name, or a TOML file; None for a corpus that has the study's labels.
        max_words: Longest note, in words; longer ones are cut. None for no bound.

    Returns:
        Counts of what was read, kept and dropped.

    Raises:
        DataError: The source is malformed; the message names file and line, and nothing was imported.
        ConfigError: The format, the mapping or the bound is wrong.
    """
    folder = SiteFolder.open(root)
    found = read_import(root, source, format=format, mapping=mapping, max_words=max_words)
    make_folder(folder.notes.parent)
    write_notes(folder.notes, found.notes, _labels(folder))
    sync_folder(folder.notes.parent)
    card = Card.load(folder.card)
    card.model_copy(update={"annotated": found.annotated}).write(folder.card)
    return replace(found, is_dry=False)


def _labels(folder: SiteFolder) -> LabelSet:
    """The labels of the accepted study; before there is one, those of the clinical schema."""
    if not folder.charter.is_file():
        return CLINICAL
    study, _ = load_accepted(folder)
    return label_set(study.labels.entities, study.labels.modifiers)
