"""Reading BRAT stand-off corpora: a folder of `.txt` files, each with an `.ann` file of the same name.

Rules:

* offsets are in characters of the `.txt` as it is: UTF-8, no newline is translated;
* the text on a `T` line must be the text at its offsets. Blanks count alike; where the span runs over a line
  break, the line may show a blank for it, go on in the next line, or end there (three tools, three habits).
  A mapping may name single lines of a corpus where the texts are known to differ;
* every id that a relation, event, attribute or equivalence names must exist in its file;
* an event stands for its trigger; its arguments are relations from the trigger, named `Event:Role`, that a
  mapping may take;
* attributes, modifications, references, annotators' notes and equivalences (lines of kinds `A M N # *`) carry
  no span or relation of ours: they are counted and left aside;
* whatever else stands there is an error with file and line, and then nothing at all is imported.

What this module leaves out: label names (`mapping`), and what becomes of spans and relations (`importing`).
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field, replace
from pathlib import Path

from fedmedlora_core.errors import DataError
from fedmedlora_core.importing import (
    ImportResult,
    SourceDocument,
    SourceEvent,
    SourceLink,
    SourceSpan,
    convert,
)
from fedmedlora_core.labels import CLINICAL, LabelSet
from fedmedlora_core.mapping import LabelMapping
from fedmedlora_core.source_text import files_named, lines_of, read_text

_NAME = r"[^\s:]+"
_SPAN = re.compile(
    rf"^(T[0-9]+)\t({_NAME}) ([0-9]{{1,9}} [0-9]{{1,9}}(?:;[0-9]{{1,9}} [0-9]{{1,9}})*)\t(.*)$"
)
_RELATION = re.compile(rf"^(R[0-9]+)\t({_NAME}) ({_NAME}):([TE][0-9]+) ({_NAME}):([TE][0-9]+)\s*$")
_EVENT = re.compile(rf"^(E[0-9]+)\t({_NAME}):(T[0-9]+)((?: {_NAME}:[TE][0-9]+)*)\s*$")
_ATTRIBUTE = re.compile(rf"^[AM][0-9]+\t{_NAME} ([TER][0-9]+)(?: [^\t]*)?\s*$")
_EQUIVALENCE = re.compile(rf"^\*\t{_NAME}((?: [TE][0-9]+)+)\s*$")
_FREE = re.compile(r"^[N#][0-9]+\t")
_ASIDE = {
    "A": "attribute",
    "M": "modification",
    "N": "reference to a database",
    "#": "annotator's note",
    "*": "equivalence",
}
_ANNOTATION = re.compile(r"^(?:[TREAMN#][0-9]+|\*)\t")


@dataclass(slots=True)
class _Lines:
    """What was read of one `.ann` file so far."""

    file: str
    text: str = field(repr=False)
    accepted: frozenset[str]
    spans: dict[str, SourceSpan] = field(default_factory=dict)
    links: dict[str, tuple[int, SourceLink]] = field(default_factory=dict)
    events: dict[str, tuple[int, SourceEvent]] = field(default_factory=dict)
    named: list[tuple[int, str]] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)

    def error(self, message: str, line: int) -> DataError:
        """An error of this file; the message carries none of its text."""
        return DataError(message, file=self.file, line=line)


def read_brat(
    folder: Path | str, *, mapping: LabelMapping | None = None, labels: LabelSet = CLINICAL
) -> ImportResult:
    """Read a BRAT corpus, all or nothing.

    Args:
        folder: The folder; folders below it are read too. A `.txt` without `.ann` is no document.
        mapping: How the corpus' names become labels. Without one, the names are taken as labels, the first
            argument of a relation as its head, and the labels that occur as the ones that were annotated.
        labels: The labels of the study.

    Returns:
        Notes in order of their names, and the report.

    Raises:
        DataError: A file is malformed; it names file and line. Nothing was imported.
    """
    accepted = frozenset() if mapping is None else mapping.accepted_mismatches
    return convert(brat_documents(folder, accepted), mapping, labels)


def brat_documents(folder: Path | str, accepted: frozenset[str] = frozenset()) -> list[SourceDocument]:
    """The documents of a folder, in order of their names.

    Args:
        folder: The folder; folders below it are read too.
        accepted: Places ("NAME.ann:LINE") where the text is known to differ from the text of the line.

    Raises:
        DataError: A file is malformed; it names file and line.
    """
    root = Path(folder)
    return [_read_document(root, path, accepted) for path in files_named(root, ".ann")]


def _read_document(root: Path, path: Path, accepted: frozenset[str]) -> SourceDocument:
    """Read one `.ann` file and its text."""
    name = path.relative_to(root).with_suffix("").as_posix()
    text = read_text(path.with_suffix(".txt"), f"{name}.txt")
    lines = _parse(f"{name}.ann", read_text(path, f"{name}.ann"), text, accepted)
    for number, named in lines.named:
        if named not in lines.links:
            _span_of(lines, named, number)
    return SourceDocument(
        name=name,
        text=text,
        spans=tuple(lines.spans.values()),
        links=tuple(_resolved_links(lines)),
        events=tuple(_resolved_events(lines)),
        lines=lines.counts,
        aside={_ASIDE[kind]: count for kind, count in lines.counts.items() if kind in _ASIDE},
        file=f"{name}.ann",
        line=1,
        text_file=f"{name}.txt",
    )


def _parse(file: str, content: str, text: str, accepted: frozenset[str]) -> _Lines:
    """Read the lines of an `.ann` file."""
    found = _Lines(file, text, accepted)
    raw = lines_of(content)
    index = 0
    while index < len(raw):
        line, number = raw[index], index + 1
        index += 1
        if not line.strip():
            continue
        following = []
        if line.startswith("T"):
            while index < len(raw) and raw[index].strip() and not _ANNOTATION.match(raw[index]):
                following.append(raw[index])
                index += 1
        found.counts[line[0]] += 1
        _parse_line(found, line, number, following)
    return found


def _parse_line(found: _Lines, line: str, number: int, following: list[str]) -> None:
    """Read one line (with the lines that a span's text goes on in)."""
    if match := _SPAN.match(line):
        _add_span(found, match, number, following)
    elif match := _RELATION.match(line):
        name, kind, first_role, first, second_role, second = match.groups()
        if name in found.links:
            raise found.error("a relation's id occurs twice", number)
        found.links[name] = (number, SourceLink(kind, first, second, (first_role, second_role)))
    elif match := _EVENT.match(line):
        name, kind, trigger, arguments = match.groups()
        if name in found.events:
            raise found.error("an event's id occurs twice", number)
        pairs = [argument.split(":") for argument in arguments.split()]
        roles, names = tuple(pair[0] for pair in pairs), tuple(pair[1] for pair in pairs)
        found.events[name] = (number, SourceEvent(kind, trigger, names, roles))
    elif match := _ATTRIBUTE.match(line) or _EQUIVALENCE.match(line):
        found.named += [(number, name) for name in match[1].split()]
    elif not _FREE.match(line):
        raise found.error("is no annotation line", number)


def _add_span(found: _Lines, match: re.Match[str], number: int, following: list[str]) -> None:
    """Check a span against the text and keep it."""
    name, kind, offsets, shown = match.groups()
    if name in found.spans:
        raise found.error("a span's id occurs twice", number)
    pieces = []
    for piece in offsets.split(";"):
        start, end = (int(value) for value in piece.split(" "))
        if not start < end <= len(found.text):
            raise found.error(f"its offsets do not lie in 0..{len(found.text)}", number)
        pieces.append((start, end))
    covered = " ".join(found.text[start:end] for start, end in pieces)
    is_mismatch = not _shows(covered, shown, following)
    if is_mismatch and f"{found.file}:{number}" not in found.accepted:
        raise found.error("the text at these offsets is not the text of the line", number)
    found.spans[name] = SourceSpan(name, kind, tuple(pieces), is_mismatch)


def _shows(covered: str, shown: str, following: list[str]) -> bool:
    """Whether a `T` line (and the lines after it) shows the text that its offsets cover."""
    wanted = covered.split()
    if "\n" not in covered and "\r" not in covered:
        return not following and shown.split() == wanted
    whole = " ".join((shown, *following)).split()
    first_line = re.split(r"[\r\n]", covered)[0].split()
    return whole == wanted or (not following and whole == first_line)


def _resolved_links(found: _Lines) -> list[SourceLink]:
    """Relations between spans: an event stands for its trigger."""
    return [
        replace(link, first=_span_of(found, link.first, number), second=_span_of(found, link.second, number))
        for number, link in found.links.values()
    ]


def _resolved_events(found: _Lines) -> list[SourceEvent]:
    """Events over spans: an event as an argument stands for its trigger."""
    return [
        SourceEvent(
            event.type,
            _span_of(found, event.trigger, number),
            tuple(_span_of(found, name, number) for name in event.arguments),
            event.roles,
        )
        for number, event in found.events.values()
    ]


def _span_of(found: _Lines, name: str, number: int) -> str:
    """The span that an id means."""
    if name in found.events:
        name = found.events[name][1].trigger
    if name not in found.spans:
        raise found.error("names an id that does not exist in this file", number)
    return name
