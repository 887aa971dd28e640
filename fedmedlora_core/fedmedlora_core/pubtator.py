"""Reading PubTator files: abstracts with entity mentions, as BioCreative V CDR publishes them.

    8701013|t|Famotidine-associated delirium.
    8701013|a|Famotidine is ...
    8701013<TAB>0<TAB>10<TAB>Famotidine<TAB>Chemical<TAB>D015738

Rules: a document's text is its title, a blank, its abstract, and offsets count characters in it; documents
are parted by an empty line; neither title nor abstract has a tab; the text on a mention's line must be the
text at its offsets.

What this module leaves out: relations of a PubTator file join concepts of a whole document, not mentions;
they are counted among the lines of the report and make no relation of a note.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from fedmedlora_core.errors import DataError
from fedmedlora_core.importing import ImportResult, SourceDocument, SourceSpan, convert
from fedmedlora_core.labels import CLINICAL, LabelSet
from fedmedlora_core.mapping import LabelMapping
from fedmedlora_core.source_text import lines_of, read_text

_TITLE = re.compile(r"^([^|\t]+)\|t\|([^\t]*)$")
_ABSTRACT = re.compile(r"^([^|\t]+)\|a\|([^\t]*)$")
_MENTION = re.compile(r"^([^|\t]+)\t([0-9]{1,9})\t([0-9]{1,9})\t([^\t]*)\t([^\t]+)(?:\t[^\t]*){0,2}$")
_RELATION = re.compile(r"^([^|\t]+)\t([A-Za-z]\w*)\t[^\t]+\t[^\t]+$", re.ASCII)


def read_pubtator(
    path: Path | str, *, mapping: LabelMapping | None = None, labels: LabelSet = CLINICAL
) -> ImportResult:
    """Read a PubTator file, all or nothing.

    Args:
        path: The file.
        mapping: How its names become labels; without one they must be labels of the study.
        labels: The labels of the study.

    Returns:
        Notes in the order of the file, and the report.

    Raises:
        DataError: A line is malformed; it names file and line. Nothing was imported.
    """
    return convert(list(pubtator_documents(path)), mapping, labels)


def pubtator_documents(path: Path | str) -> Iterator[SourceDocument]:
    """The documents of a file, one after the other.

    Raises:
        DataError: A line is malformed; it names file and line.
    """
    file = Path(path)
    block: list[str] = []
    first = 1
    for number, line in enumerate([*lines_of(read_text(file, file.name)), ""], start=1):
        if line:
            first = first if block else number
            block.append(line)
        elif block:
            yield _document(file.name, first, block)
            block = []


def _document(file: str, first: int, block: list[str]) -> SourceDocument:
    """One document from its lines."""
    title = _TITLE.match(block[0])
    abstract = _ABSTRACT.match(block[1]) if len(block) > 1 else None
    if title is None or abstract is None or title[1] != abstract[1]:
        place = first if title is None or len(block) < 2 else first + 1
        raise DataError("expected a title line and an abstract line of one document", file=file, line=place)
    text = f"{title[2]} {abstract[2]}"
    spans: list[SourceSpan] = []
    lines: Counter[str] = Counter()
    for number, line in enumerate(block[2:], start=first + 2):
        mention, relation = _MENTION.match(line), _RELATION.match(line)
        found = mention or relation
        if found is None or found[1] != title[1]:
            raise DataError("is no mention and no relation of this document", file=file, line=number)
        lines["mention" if mention else "relation of concepts"] += 1
        if mention:
            start, end = int(mention[2]), int(mention[3])
            if not start < end <= len(text) or text[start:end] != mention[4]:
                raise DataError(
                    "the text at these offsets is not the text of the line", file=file, line=number
                )
            spans.append(SourceSpan(f"T{len(spans) + 1}", mention[5], ((start, end),)))
    return SourceDocument(
        name=title[1],
        text=text,
        spans=tuple(spans),
        lines=lines,
        aside={kind: count for kind, count in lines.items() if kind != "mention"},
        file=file,
        line=first,
    )
