"""Reading the files of the i2b2 2010 challenge: a text, its concepts, their assertions and relations.

    c="chest pain" 12:3 12:4||t="problem"                                        NAME.con
    c="chest pain" 12:3 12:4||t="problem"||a="present"                           NAME.ast
    c="aspirin" 12:0 12:0||r="TrAP"||c="chest pain" 12:3 12:4                    NAME.rel

Rules:

* a place is LINE:TOKEN; lines count from 1, tokens from 0 and are parted by blanks; both ends belong to the
  span;
* the words on a line must be the words at its places, but for case and blanks: the challenge writes them
  small;
* `.txt`, `.ast` and `.rel` lie beside the `.con`, or in folders `txt`, `ast` and `rel` beside its folder (the
  layout of the release). A `.txt` without `.con` is no document; `.ast` and `.rel` may be missing;
* a relation or assertion names concepts of the `.con`, else the line is an error; the first concept of a
  relation is its first argument;
* assertions say something of a concept and mark no words of their own: they are counted and left aside.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from fedmedlora_core.errors import DataError
from fedmedlora_core.source_documents import SourceDocument, SourceLink, SourceSpan
from fedmedlora_core.source_text import files_named, lines_of, read_text

_CONCEPT = r'c="(.*?)" ([0-9]{1,9}):([0-9]{1,9}) ([0-9]{1,9}):([0-9]{1,9})'
_CONCEPT_LINE = re.compile(rf'^{_CONCEPT}\|\|t="([^"\s]+)"\s*$')
_ASSERTION_LINE = re.compile(rf'^{_CONCEPT}\|\|t="([^"\s]+)"\|\|a="([^"]+)"\s*$')
_RELATION_LINE = re.compile(rf'^{_CONCEPT}\|\|r="([^"\s]+)"\|\|{_CONCEPT}\s*$')
_FOLDERS = {".con": "concept", ".txt": "txt", ".ast": "ast", ".rel": "rel"}
_PROBLEM = "problem"
_FIRST_ENDS = {"Tr": "treatment", "Te": "test"}
"""How the name of a relation begins -> the type of its first concept; the second one is a problem."""

_Place = tuple[int, int, int, int]


@dataclass(slots=True)
class _Reading:
    """One document while its files are read."""

    text: str = field(repr=False)
    tokens: list[list[tuple[int, int]]]
    accepted: frozenset[str]
    places: dict[_Place, list[SourceSpan]] = field(default_factory=dict)
    spans: list[SourceSpan] = field(default_factory=list)
    links: list[SourceLink] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    aside: Counter[str] = field(default_factory=Counter)


def i2b2_documents(folder: Path | str, accepted: frozenset[str] = frozenset()) -> list[SourceDocument]:
    """The documents of a folder, in order of their names.

    Args:
        folder: The folder; folders below it are read too.
        accepted: Places ("NAME.con:LINE") where a line is known to be wrong; it is dropped and counted.

    Raises:
        DataError: A file is malformed; it names file and line.
    """
    root = Path(folder)
    return [_document(root, path, accepted) for path in files_named(root, ".con")]


def _document(root: Path, path: Path, accepted: frozenset[str]) -> SourceDocument:
    """Read the files of one document."""
    text_file = _partner(path, ".txt")
    if text_file is None:
        raise DataError("its text (.txt) is missing", file=_name(root, path), line=1)
    text = read_text(text_file, _name(root, text_file))
    found = _Reading(text, _tokens(text), accepted)
    for suffix, read in ((".con", _concept), (".ast", _assertion), (".rel", _relation)):
        file = path if suffix == ".con" else _partner(path, suffix)
        if file is None:
            continue
        name = _name(root, file)
        for number, line in enumerate(lines_of(read_text(file, name)), start=1):
            if line.strip():
                read(found, name, number, line)
    parent = path.relative_to(root).parent
    parent = parent.parent if parent.name == _FOLDERS[".con"] else parent
    return SourceDocument(
        name=(parent / path.stem).as_posix(),
        text=text,
        spans=tuple(found.spans),
        links=tuple(found.links),
        lines=found.counts,
        aside=found.aside,
        file=_name(root, path),
        line=1,
        text_file=_name(root, text_file),
    )


def _name(root: Path, path: Path) -> str:
    """What errors call a file."""
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _partner(path: Path, suffix: str) -> Path | None:
    """The file of another kind that belongs to a `.con` file."""
    beside = path.with_suffix(suffix)
    released = path.parent.parent / _FOLDERS[suffix] / beside.name
    return next((file for file in (beside, released) if file.is_file()), None)


def _tokens(text: str) -> list[list[tuple[int, int]]]:
    """The places of the tokens of each line."""
    found = []
    start = 0
    for line in text.split("\n"):
        found.append([(start + word.start(), start + word.end()) for word in re.finditer(r"\S+", line)])
        start += len(line) + 1
    return found


def _concept(found: _Reading, name: str, number: int, line: str) -> None:
    """Read a line of a `.con` file."""
    match = _CONCEPT_LINE.match(line)
    if match is None:
        raise DataError("is no concept line", file=name, line=number)
    place, (start, end) = _stretch(found, match.groups()[1:5], name, number)
    is_mismatch = not _shows(found.text[start:end], match[1])
    if is_mismatch and f"{name}:{number}" not in found.accepted:
        raise DataError("the text at these places is not the text of the line", file=name, line=number)
    found.counts["concept"] += 1
    span = SourceSpan(f"C{number}", match[6], ((start, end),), is_mismatch)
    found.places.setdefault(place, []).append(span)
    found.spans.append(span)


def _assertion(found: _Reading, name: str, number: int, line: str) -> None:
    """Read a line of a `.ast` file."""
    match = _ASSERTION_LINE.match(line)
    if match is None:
        raise DataError("is no assertion line", file=name, line=number)
    found.counts["assertion"] += 1
    if _named(found, match[1], match.groups()[1:5], name, number) is not None:
        found.aside["assertion"] += 1


def _relation(found: _Reading, name: str, number: int, line: str) -> None:
    """Read a line of a `.rel` file."""
    match = _RELATION_LINE.match(line)
    if match is None:
        raise DataError("is no relation line", file=name, line=number)
    found.counts["relation"] += 1
    kind = _FIRST_ENDS.get(match[6][:2], _PROBLEM)
    first = _named(found, match[1], match.groups()[1:5], name, number, kind)
    second = _named(found, match[7], match.groups()[7:11], name, number, _PROBLEM)
    if first is not None and second is not None:
        found.links.append(SourceLink(match[6], first, second))


def _named(
    found: _Reading, shown: str, place: tuple[str, ...], name: str, number: int, kind: str = ""
) -> str | None:
    """The concept that a line of another file names; None, counted, where the mapping accepts it as wrong.

    A line tells a place. Where several concepts share it, the one of type `kind` is meant.
    """
    key, (start, end) = _stretch(found, place, name, number)
    spans = found.places.get(key)
    if spans and _shows(found.text[start:end], shown):
        return next((span for span in spans if span.type == kind), spans[0]).id
    if f"{name}:{number}" in found.accepted:
        found.aside["line that is wrong, as the mapping accepts"] += 1
        return None
    raise DataError("names a concept that is not in the .con file", file=name, line=number)


def _stretch(
    found: _Reading, place: tuple[str, ...], name: str, number: int
) -> tuple[_Place, tuple[int, int]]:
    """The numbers of a place and the characters that it covers."""
    first_line, first, last_line, last = (int(value) for value in place)
    for line, token in ((first_line, first), (last_line, last)):
        if not 1 <= line <= len(found.tokens) or token >= len(found.tokens[line - 1]):
            raise DataError("its places do not lie in the text", file=name, line=number)
    start = found.tokens[first_line - 1][first][0]
    end = found.tokens[last_line - 1][last][1]
    if start >= end:
        raise DataError("its places are turned round", file=name, line=number)
    return (first_line, first, last_line, last), (start, end)


def _shows(covered: str, shown: str) -> bool:
    """Whether a line shows the words that its places cover."""
    return covered.lower().split() == shown.lower().split()
