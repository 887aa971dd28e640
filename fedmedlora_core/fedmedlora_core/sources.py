"""The formats that notes come in: which there are, which one a file or folder has, and reading it.

A format is told by the names of the files, and for a single file by its first characters; where that leaves
two, the operator has to name one. n2c2 2018 (track 2) is BRAT with labels of its own.

What this module leaves out: the rules of each format (the readers), and of mapping (`importing`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_core.bioc_documents import bioc_documents
from fedmedlora_core.brat import brat_documents
from fedmedlora_core.conll import conll_documents
from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.i2b2 import i2b2_documents
from fedmedlora_core.importing import ImportResult, convert
from fedmedlora_core.jsonl import jsonl_documents, read_jsonl
from fedmedlora_core.labels import CLINICAL, LabelSet
from fedmedlora_core.mapping import LabelMapping, load_mapping
from fedmedlora_core.pubtator import pubtator_documents
from fedmedlora_core.source_documents import SourceDocument
from fedmedlora_core.source_text import files_below, files_matching

_Read = Callable[[Path, frozenset[str]], list[SourceDocument]]


@dataclass(frozen=True, slots=True)
class Format:
    """A format that notes come in.

    Args:
        pattern: The names of its files.
        read: Reads a file or folder; the set are the mismatches that a mapping accepts.
        needs_folder: Whether a document of it is several files, so that a single file cannot be read.
        mapping: The mapping of the package that is used where none is named.
    """

    pattern: re.Pattern[str]
    read: _Read
    needs_folder: bool = False
    mapping: str | None = None


def _per_file(pattern: str, read: Callable[[Path, str], Iterator[SourceDocument]]) -> Format:
    """A format whose documents are single files, or many in one file."""
    names = re.compile(pattern, re.IGNORECASE)

    def documents(source: Path, accepted: frozenset[str]) -> list[SourceDocument]:
        if source.is_dir():
            files = [(path, path.relative_to(source).as_posix()) for path in files_matching(source, names)]
        else:
            files = [(source, source.name)]
        if not files:
            raise DataError("holds no file of this format", file=str(source))
        return [document for path, name in files for document in read(path, name)]

    return Format(names, documents)


FORMATS: dict[str, Format] = {
    "brat": Format(re.compile(r"\.ann$"), brat_documents, needs_folder=True),
    "n2c2": Format(re.compile(r"\.ann$"), brat_documents, needs_folder=True, mapping="n2c2-2018"),
    "i2b2": Format(re.compile(r"\.con$"), i2b2_documents, needs_folder=True, mapping="i2b2-2010"),
    "pubtator": _per_file(r"\.pubtator(\.txt)?$", lambda path, name: pubtator_documents(path)),
    "bioc": _per_file(r"\.(xml|json)$", bioc_documents),
    "conll": _per_file(r"\.(conll|iob2?|bio)$", conll_documents),
    "jsonl": _per_file(r"\.jsonl$", lambda path, name: iter(jsonl_documents(path))),
}


def detect_format(source: Path) -> str:
    """Tell which format a file or folder has.

    Args:
        source: A file, or a folder of files of one format.

    Raises:
        ConfigError: It has none or several; the message says to name one.
    """
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder")
    files = files_below(source) if source.is_dir() else [source]
    names = [path.name for path in files if path.is_file()]
    told = [name for name, format in FORMATS.items() if any(format.pattern.search(each) for each in names)]
    found = [name for name in told if name != "n2c2"]
    if not found and source.is_file():
        found = _told_by_content(source)
    if len(found) == 1:
        return found[0]
    seen = f"looks like {' and '.join(found)}" if found else "has no format that is known"
    raise ConfigError(f"{source}: {seen}; name one with --format: {', '.join(FORMATS)}")


def _told_by_content(source: Path) -> list[str]:
    """The format that the first characters of a file tell."""
    try:
        with source.open("rb") as file:
            head = file.read(4096).decode("utf-8", "replace").lstrip("\ufeff \t\r\n")
    except OSError as error:
        raise ConfigError(f"{source}: {error.strerror or 'cannot be read'}") from None
    if head.startswith("<"):
        return ["bioc"]
    if re.match(r"[^|\t\n]+\|t\|", head):
        return ["pubtator"]
    if head.startswith('{"document_id"'):
        return ["jsonl"]
    return ["bioc"] if head.startswith(("{", "[")) else []


def chosen_format(source: Path, name: str | None) -> str:
    """The format that was named, or the one that the source has.

    Raises:
        ConfigError: There is no such format, it cannot be told, or it is one of folders and this is a file.
    """
    if name is not None and name not in FORMATS:
        raise ConfigError(f"format '{name}': expected one of {', '.join(FORMATS)}")
    found = name or detect_format(source)
    if not source.exists():
        raise ConfigError(f"{source}: no such file or folder")
    if FORMATS[found].needs_folder and not source.is_dir():
        raise ConfigError(f"{source}: {found} notes are several files each; name their folder")
    return found


def chosen_mapping(format: str, mapping: str | Path | None) -> LabelMapping | None:
    """The mapping that was named, that of the format, or None for notes that have the study's labels.

    Raises:
        ConfigError: There is no such mapping, or it is malformed.
    """
    name = mapping if mapping is not None else FORMATS[format].mapping
    return None if name is None else load_mapping(str(name))


def read_documents(source: Path, format: str) -> list[SourceDocument]:
    """The documents of a file or folder with their own labels.

    Raises:
        DataError: A file is malformed; it names file and line.
    """
    return FORMATS[format].read(source, frozenset())


def read_source(
    source: Path, format: str, *, mapping: LabelMapping | None = None, labels: LabelSet = CLINICAL
) -> ImportResult:
    """Read a file or folder of notes, all or nothing.

    Args:
        source: The file or folder.
        format: One of `FORMATS`.
        mapping: How its names become labels; None where they are labels of the study.
        labels: The labels of the study.

    Raises:
        DataError: A file is malformed; it names file and line. Nothing was imported.
    """
    if format == "jsonl" and source.is_file():
        return read_jsonl(source, mapping=mapping, labels=labels)
    accepted = frozenset() if mapping is None else mapping.accepted_mismatches
    return convert(FORMATS[format].read(source, accepted), mapping, labels)
