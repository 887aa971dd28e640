"""The notes that `extract` is given: text files, or files and folders that `site import` reads.

Offsets of what is extracted count characters of the original text file where there is one (text, BRAT, i2b2,
token files with their text), else of the text that the format's rule puts together; that text is then
written beside the result.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path, PurePosixPath

from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.importing import convert
from fedmedlora_core.jsonl import read_jsonl
from fedmedlora_core.labels import LabelSet
from fedmedlora_core.parts import join_parts
from fedmedlora_core.records import Note
from fedmedlora_core.source_text import files_below, files_matching, is_storable, read_text
from fedmedlora_core.sources import FORMATS, chosen_format, chosen_mapping, read_documents

_TEXT = re.compile(r"\.txt$")


@dataclass(frozen=True)
class GivenNotes:
    """Notes to extract from.

    Args:
        notes: The notes; long ones may have come in parts.
        files: Name of a whole document -> its original text file; None where its text was put together.
    """

    notes: tuple[Note, ...] = field(repr=False)
    files: dict[str, Path | None]

    def whole(self, predicted: Iterable[Note]) -> tuple[Note, ...]:
        """Predicted notes with offsets into whole documents."""
        return join_parts(predicted)


def read_given(
    paths: Sequence[Path], labels: LabelSet, *, format: str | None, mapping: str | None
) -> GivenNotes:
    """Read the notes that `extract` was given.

    Args:
        paths: Files and folders.
        labels: The labels of the study; all of them are asked for.
        format: One of `FORMATS`, for all of them; told from each name when None (a name that tells none is a
            text file).
        mapping: How the names of annotated notes become labels; their entities matter only to a study of
            relations alone.

    Raises:
        DataError: A file is malformed; it names file and line.
        ConfigError: A format or mapping is wrong, or two notes have the same name.
    """
    notes: list[Note] = []
    files: dict[str, Path | None] = {}
    for path in paths:
        if not path.exists():
            raise ConfigError(f"{path}: no such file or folder")
        for note, file in _read(path, labels, format, mapping):
            name = note.document_id if note.part_of is None else note.part_of.document_id
            if name in files and note.part_of is None:
                raise ConfigError(f"two notes are called '{name}': their outputs would overwrite each other")
            if not is_storable(note.text):
                raise DataError("a text has halves of characters", file=str(path))
            files[name] = file
            notes.append(replace(note, annotated=labels.annotatable, relations=()))
    return GivenNotes(tuple(notes), files)


def output_path(folder: Path, name: str, suffix: str) -> Path:
    """Where the output of a document goes: below the folder, whatever its name says.

    Raises:
        ConfigError: The name leads out of the folder or is no file name.
    """
    parts = PurePosixPath(name).parts
    if not parts or ".." in parts or parts[0] == "/" or any(mark in name for mark in "\0\\\n\r"):
        raise ConfigError("a document's name is no file name; rename it before its output is written")
    return folder.joinpath(*parts[:-1]) / f"{parts[-1]}.{suffix}"


def targets_of(
    given: GivenNotes, folder: Path, suffix: str, sources: Sequence[Path]
) -> dict[str, tuple[Path, ...]]:
    """The files that each document's output goes to, settled before anything is predicted.

    Args:
        given: What was read.
        folder: Folder of the output.
        suffix: "ann" or "json".
        sources: The files and folders that were given; nothing in them is overwritten.

    Raises:
        ConfigError: A name is no file name, or an output would take the place of one of the given files.
    """
    found: dict[str, tuple[Path, ...]] = {}
    roots = [path.resolve() for path in sources]
    for name, file in given.files.items():
        suffixes = (suffix,) if file is not None else (suffix, "txt")
        found[name] = tuple(output_path(folder, name, ending) for ending in suffixes)
        for target in found[name]:
            place = target.resolve()
            if target.exists() and any(root == place or root in place.parents for root in roots):
                raise ConfigError(f"{target}: is one of the given files; name another folder with --out")
    return found


def _read(
    path: Path, labels: LabelSet, format: str | None, mapping: str | None
) -> Iterable[tuple[Note, Path | None]]:
    """The notes of one file or folder, each with its original text file."""
    is_text = format is None and not _has_format(path)
    if is_text:
        files = files_matching(path, _TEXT) if path.is_dir() else [path]
        if not files:
            raise ConfigError(f"{path}: holds no notes of a known format and no .txt files")
        return [(_text_note(file, path), file) for file in files]
    kind = chosen_format(path, format)
    names = chosen_mapping(kind, mapping)
    if kind == "jsonl" and path.is_file():
        return [(note, None) for note in read_jsonl(path, mapping=names, labels=labels).notes]
    documents = read_documents(path, kind)
    root = path if path.is_dir() else path.parent
    originals = [None if d.text_file is None else root / d.text_file for d in documents]
    return list(zip(convert(documents, names, labels).notes, originals, strict=True))


def _has_format(path: Path) -> bool:
    """Whether a name, or one in the folder, tells a format of annotated notes."""
    found = files_below(path) if path.is_dir() else [path]
    return any(format.pattern.search(file.name) for file in found for format in FORMATS.values())


def _text_note(file: Path, given: Path) -> Note:
    """A text file as a note."""
    name = file.relative_to(given).with_suffix("").as_posix() if given.is_dir() else file.stem
    return Note(document_id=name, patient_id=None, text=read_text(file, str(file)))
