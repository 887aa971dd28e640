"""Long notes cut into parts at section or sentence bounds, and parts put together again.

Rules: a part has at most as many words as the bound says. It ends before the last section heading in its
second half, else before the last sentence that does not fit, else (one sentence longer than the bound)
between two words. Bounds are found in the text alone: gold spans never move them, or the test set would
know them. The texts of the parts, one after the other, are the text of the note; each part says where it
begins (`part_of`), so every offset leads back into the original file. A span across a bound, and a relation
between two parts, is dropped and counted.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

from fedmedlora_core.records import Entity, Note, PartOf, Relation
from fedmedlora_core.sentences import split_sentences

DROP_ACROSS = "span across the bound of two parts"
DROP_BETWEEN = "relation between two parts"

_WORD = re.compile(r"\S+")
_SECTION = re.compile(
    r"^[ \t]*(?:[A-Z][A-Z0-9 ,/&()'-]{2,60}:|[A-Z][A-Za-z0-9 ,/&()'-]{2,60}:[ \t\r]*$|#+ )", re.MULTILINE
)


@dataclass(frozen=True, slots=True)
class Cutting:
    """What cutting long notes did.

    Args:
        max_words: Words that a part may have.
        documents: Notes that were longer and were cut.
        parts: Parts that they became.
        dropped: Why something was left out -> how often.
    """

    max_words: int
    documents: int = 0
    parts: int = 0
    dropped: Counter[str] = field(default_factory=Counter)


def cut_notes(notes: Iterable[Note], max_words: int) -> tuple[tuple[Note, ...], Cutting]:
    """Cut the notes that are longer than a bound; the others stay as they are.

    Args:
        notes: The notes.
        max_words: Words, parted by blanks, that a part may have; at least 1.

    Returns:
        Notes and parts, in order, and what was done.

    Raises:
        ValueError: The bound is not positive (the caller's mistake).
    """
    if max_words < 1:
        raise ValueError("a part must be able to hold a word")
    found: list[Note] = []
    documents = parts = 0
    dropped: Counter[str] = Counter()
    for note in notes:
        starts = part_starts(note.text, max_words)
        if len(starts) == 1:
            found.append(note)
            continue
        documents += 1
        parts += len(starts)
        found += _cut(note, starts, dropped)
    return tuple(found), Cutting(max_words, documents, parts, dropped)


def part_starts(text: str, max_words: int) -> list[int]:
    """Where the parts of a text begin; the first at 0."""
    words = [match.start() for match in _WORD.finditer(text)]
    index_of = {start: index for index, start in enumerate(words)}
    sentences = {index_of[part.start] for part in split_sentences(text) if part.start in index_of}
    headings = (match.start() + len(match[0]) - len(match[0].lstrip()) for match in _SECTION.finditer(text))
    sections = {index_of[start] for start in headings if start in index_of}
    starts = [0]
    first = 0
    while len(words) - first > max_words:
        first = _bound(first, max_words, sections, sentences)
        starts.append(words[first])
    return starts


def _bound(first: int, max_words: int, sections: set[int], sentences: set[int]) -> int:
    """The word with which the next part begins."""
    end = first + max_words
    for index in range(end, first + (max_words + 1) // 2 - 1, -1):
        if index in sections and index > first:
            return index
    for index in range(end, first, -1):
        if index in sentences:
            return index
    return end


def _cut(note: Note, starts: Sequence[int], dropped: Counter[str]) -> list[Note]:
    """The parts of a note."""
    origin = note.part_of or PartOf(note.document_id, 0)
    bounds = [*starts, len(note.text)]
    part_of_span: dict[str, int] = {}
    parts = []
    for number, (start, end) in enumerate(pairwise(bounds)):
        inside = [entity for entity in note.entities if start <= entity.start and entity.end <= end]
        part_of_span.update({entity.id: number for entity in inside})
        parts.append(
            replace(
                note,
                document_id=f"{note.document_id}#{number + 1}",
                text=note.text[start:end],
                entities=tuple(replace(e, start=e.start - start, end=e.end - start) for e in inside),
                relations=(),
                part_of=PartOf(origin.document_id, origin.start + start),
            )
        )
    dropped[DROP_ACROSS] += len(note.entities) - len(part_of_span)
    links: list[list[Relation]] = [[] for _ in parts]
    for link in note.relations:
        head, tail = part_of_span.get(link.head), part_of_span.get(link.tail)
        if head is None or head != tail:
            dropped[DROP_BETWEEN] += 1
        else:
            links[head].append(link)
    dropped += Counter()
    return [replace(part, relations=tuple(found)) for part, found in zip(parts, links, strict=True)]


def join_parts(notes: Iterable[Note]) -> tuple[Note, ...]:
    """Put the parts of each document together again, with offsets into the whole.

    Args:
        notes: Notes, whole ones and parts, in any order; a document's missing part is read as blanks.

    Returns:
        Whole notes, in the order in which their first parts stood. Spans that came from parts are named anew.
    """
    documents: dict[str, list[Note]] = {}
    for note in notes:
        name = note.document_id if note.part_of is None else note.part_of.document_id
        documents.setdefault(name, []).append(note)
    return tuple(_joined(name, parts) for name, parts in documents.items())


def _joined(name: str, parts: list[Note]) -> Note:
    """One document of its parts."""
    if len(parts) == 1 and parts[0].part_of is None:
        return parts[0]
    text = ""
    entities: list[Entity] = []
    relations: list[Relation] = []
    for part in sorted(parts, key=_start):
        start = _start(part)
        text = text[:start].ljust(start) + part.text
        ids = {
            entity.id: f"T{len(entities) + number}" for number, entity in enumerate(part.entities, start=1)
        }
        entities += [Entity(ids[e.id], e.type, e.start + start, e.end + start) for e in part.entities]
        relations += [Relation(ids[link.head], link.type, ids[link.tail]) for link in part.relations]
    return replace(
        parts[0],
        document_id=name,
        text=text,
        entities=tuple(entities),
        relations=tuple(relations),
        annotated=frozenset().union(*(part.annotated for part in parts)),
        part_of=None,
        near=None,
    )


def _start(note: Note) -> int:
    """Where a note begins in its document."""
    return 0 if note.part_of is None else note.part_of.start
