"""From documents with an outside corpus' labels to notes with ours, and what was dropped and why.

Rules: everything that was read is either in a note or counted as dropped under a reason; spans lose blanks at
their edges; equal spans of one type become one; nested spans stay; pieces of a span that are parted by blanks
alone are one span, and other discontinuous spans are dropped, or covered from first to last piece where the
mapping says so. A file that cannot be read as it is meant stops the whole import: nothing is half imported.

What this module leaves out: reading files (`sources` and the readers that it names), long notes (`parts`),
and near duplicates (`near_duplicates`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from fedmedlora_core.errors import DataError
from fedmedlora_core.joined_spans import argument_links, container_links, event_links
from fedmedlora_core.labels import LabelSet
from fedmedlora_core.mapping import LabelMapping
from fedmedlora_core.records import Entity, Note, Relation, validate_note
from fedmedlora_core.source_documents import SourceDocument, SourceEvent, SourceLink, SourceSpan

__all__ = [
    "ImportReport",
    "ImportResult",
    "SourceDocument",
    "SourceEvent",
    "SourceLink",
    "SourceSpan",
    "convert",
    "identity_mapping",
]

DROP_DISCONTINUOUS = "span of several pieces"
DROP_TYPE = "span type not mapped"
DROP_MISMATCH = "span whose text differs, as the mapping accepts"
DROP_BLANK = "span of blanks only"
DROP_EQUAL = "equal to another span"
DROP_RELATION = "relation type not mapped"
DROP_ARGUMENT = "event argument not mapped"
DROP_ROLE = "relation without the role that the mapping takes for its head"
DROP_END = "relation whose end was dropped"
DROP_PAIR = "relation between types that is not legal"
DROP_TWICE = "relation that occurs twice"
NOTICE_JOINED = "span of several pieces with blanks between, joined"
NOTICE_COVERED = "span of several pieces, covered from the first to the last"
NOTICE_INSIDE = "span that begins or ends inside a word"


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What an import read, kept and dropped.

    Args:
        documents: Documents read.
        lines: Annotation lines by kind (BRAT: T, R, E, A, * and so on).
        spans_read: Spans by the corpus' type.
        spans_kept: Spans by our type.
        relations_read: Relations by the corpus' type.
        relations_kept: Relations by our type, those made from events and containers included.
        dropped: Why something was left out -> how often.
        spans_dropped: (The corpus' type, why) -> how many spans.
        relations_dropped: (The corpus' type, why) -> how many relations.
        becomes: The corpus' span type -> our label, where the mapping has one.
        aside: What the format has and a note cannot hold -> how often.
        notices: What was kept and is worth a look -> how often.
        unmet: Sentences about names of the mapping that met nothing: in the files, or in the study.
    """

    documents: int
    lines: Mapping[str, int]
    spans_read: Mapping[str, int]
    spans_kept: Mapping[str, int]
    relations_read: Mapping[str, int]
    relations_kept: Mapping[str, int]
    dropped: Mapping[str, int]
    spans_dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    relations_dropped: Mapping[tuple[str, str], int] = field(default_factory=dict)
    becomes: Mapping[str, str] = field(default_factory=dict)
    aside: Mapping[str, int] = field(default_factory=dict)
    notices: Mapping[str, int] = field(default_factory=dict)
    unmet: tuple[str, ...] = ()

    def as_dict(self) -> dict[str, object]:
        """The report, ready for JSON."""
        return {
            "documents": self.documents,
            "lines": dict(sorted(self.lines.items())),
            "spans_read": dict(sorted(self.spans_read.items())),
            "spans_kept": dict(sorted(self.spans_kept.items())),
            "relations_read": dict(sorted(self.relations_read.items())),
            "relations_kept": dict(sorted(self.relations_kept.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "spans_dropped": _rows(self.spans_dropped),
            "relations_dropped": _rows(self.relations_dropped),
            "aside": dict(sorted(self.aside.items())),
            "notices": dict(sorted(self.notices.items())),
            "unmet": list(self.unmet),
        }


def _rows(counts: Mapping[tuple[str, str], int]) -> list[dict[str, object]]:
    """Counts by type and reason, ready for JSON."""
    return [{"type": kind, "why": why, "count": count} for (kind, why), count in sorted(counts.items())]


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The notes of an import and its report."""

    notes: tuple[Note, ...]
    report: ImportReport


def convert(
    documents: Sequence[SourceDocument], mapping: LabelMapping | None, labels: LabelSet
) -> ImportResult:
    """Turn documents with a corpus' labels into notes with ours.

    Args:
        documents: The documents; every id that a link or event names exists.
        mapping: How names become labels; None for a corpus that has them already (`identity_mapping`).
        labels: The labels of the study; what a mapping names beyond them is dropped and counted.

    Raises:
        DataError: A document occurs twice, or a note would break a rule of `records`.
    """
    conversion = _Conversion(mapping or identity_mapping(documents, labels), labels)
    seen: set[str] = set()
    notes = []
    for document in documents:
        if document.name in seen:
            raise DataError("a document of this name occurs twice", file=document.file, line=document.line)
        seen.add(document.name)
        try:
            notes.append(conversion.note(document))
        except DataError as error:
            raise DataError(str(error), file=document.file, line=document.line) from None
    return ImportResult(tuple(notes), conversion.report(documents))


def identity_mapping(documents: Iterable[SourceDocument], labels: LabelSet) -> LabelMapping:
    """The mapping for a corpus that uses the study's labels already: heads come first in every relation.

    Only the labels that occur are taken as annotated, so that a type nobody looked for is never a negative.
    """
    spans: set[str] = set()
    relations: set[str] = set()
    for document in documents:
        spans |= {span.type for span in document.spans}
        relations |= {link.type for link in document.links}
    return LabelMapping(
        types={name: name for name in sorted(spans & set(labels.types))},
        relations=dict.fromkeys(sorted(relations), "first"),
        annotated=tuple(sorted((spans | relations) & labels.annotatable)),
    )


class _Conversion:
    """Applies a mapping to documents and counts."""

    def __init__(self, mapping: LabelMapping, labels: LabelSet) -> None:
        """Begin with empty counts."""
        self._mapping = mapping
        self._labels = labels
        self._known = set(labels.types)
        self._spans_kept: Counter[str] = Counter()
        self._relations_kept: Counter[str] = Counter()
        self._spans_dropped: Counter[tuple[str, str]] = Counter()
        self._relations_dropped: Counter[tuple[str, str]] = Counter()
        self._notices: Counter[str] = Counter()

    def report(self, documents: Sequence[SourceDocument]) -> ImportReport:
        """The counts so far."""
        lines: Counter[str] = Counter()
        aside: Counter[str] = Counter()
        dropped: Counter[str] = Counter()
        for counts in (self._spans_dropped, self._relations_dropped):
            for (_, reason), count in counts.items():
                dropped[reason] += count
        for document in documents:
            lines.update(document.lines)
            aside.update(document.aside)
        spans_read = Counter(span.type for document in documents for span in document.spans)
        return ImportReport(
            documents=len(documents),
            lines=lines,
            spans_read=spans_read,
            spans_kept=self._spans_kept,
            relations_read=Counter(link.type for document in documents for link in document.links),
            relations_kept=self._relations_kept,
            dropped=dropped,
            spans_dropped=self._spans_dropped,
            relations_dropped=self._relations_dropped,
            becomes={name: label for name, label in self._mapping.types.items() if label in self._known},
            aside=aside,
            notices=self._notices,
            unmet=self._unmet(spans_read.keys()),
        )

    def _unmet(self, read: Iterable[str]) -> tuple[str, ...]:
        """Names of the mapping that met nothing: a misspelt one would otherwise only be missing."""
        types, seen = self._mapping.types, set(read)
        unknown = [
            f"the mapping makes '{name}' a '{label}', which the study does not have"
            for name, label in types.items()
            if label not in self._known
        ]
        return (*unknown, *(f"the mapping's '{name}' is in no file" for name in types if name not in seen))

    def note(self, document: SourceDocument) -> Note:
        """Turn one document into a note."""
        entities, kept = self._entities(document)
        relations = self._relations(document, {entity.id: entity for entity in entities}, kept)
        note = Note(
            document_id=document.name,
            patient_id=document.patient_id or self._mapping.patient_of(document.name),
            text=document.text,
            entities=tuple(entities),
            relations=tuple(relations),
            annotated=self._annotated(document) & self._labels.annotatable,
        )
        validate_note(note, self._labels)
        self._spans_kept.update(entity.type for entity in entities)
        self._relations_kept.update(relation.type for relation in relations)
        self._notices[NOTICE_INSIDE] += sum(_cuts_word(document.text, e.start, e.end) for e in entities)
        self._notices += Counter()  # without reasons that never occurred
        return note

    def _annotated(self, document: SourceDocument) -> frozenset[str]:
        """The labels that somebody looked for in this document."""
        if document.annotated is None:
            return self._mapping.labels_annotated
        types, links = self._mapping.types, self._mapping.relations.keys()
        named = document.annotated
        spans = frozenset(types[name] for name in named if name in types)
        return spans | frozenset(self._mapping.links.get(name, name) for name in named & links)

    def _entities(self, document: SourceDocument) -> tuple[list[Entity], dict[str, str]]:
        """The spans that are kept, and source id -> id of the kept span that stands for it."""
        entities: list[Entity] = []
        kept: dict[str, str] = {}
        places: dict[tuple[str, int, int], str] = {}
        for span in document.spans:
            label = self._mapping.types.get(span.type)
            if label not in self._known:
                self._spans_dropped[span.type, DROP_TYPE] += 1
                continue
            found = self._stretch(document.text, span)
            if found is None:
                continue
            start, end = found
            place = (label, start, end)
            if start == end:
                self._spans_dropped[span.type, DROP_BLANK] += 1
            elif place in places:
                self._spans_dropped[span.type, DROP_EQUAL] += 1
                kept[span.id] = places[place]
            else:
                places[place] = kept[span.id] = span.id
                entities.append(Entity(span.id, label, start, end))
        return entities, kept

    def _stretch(self, text: str, span: SourceSpan) -> tuple[int, int] | None:
        """The stretch of text that stands for a span, or None, counted, where there is none."""
        if span.is_mismatch:
            self._spans_dropped[span.type, DROP_MISMATCH] += 1
            return None
        pieces = sorted(span.pieces)
        start, end = pieces[0][0], max(piece[1] for piece in pieces)
        if len(pieces) > 1:
            between = pairwise(pieces)
            if all(not text[left[1] : right[0]].strip() for left, right in between):
                self._notices[NOTICE_JOINED] += 1
            elif self._mapping.discontinuous == "cover":
                self._notices[NOTICE_COVERED] += 1
            else:
                self._spans_dropped[span.type, DROP_DISCONTINUOUS] += 1
                return None
        return _trimmed(text, start, end)

    def _relations(
        self, document: SourceDocument, entities: Mapping[str, Entity], kept: Mapping[str, str]
    ) -> list[Relation]:
        """The relations that are kept: those of the corpus, then those of containers and events."""
        links = self._mapped_links(document)
        for container in self._mapping.containers:
            links += container_links(document, container)
        for event in self._mapping.events:
            links += event_links(document, event)
        found: dict[Relation, None] = {}
        for link in links:
            relation = self._relation(link, entities, kept)
            if relation is not None and relation in found:
                self._relations_dropped[link.type, DROP_TWICE] += 1
            elif relation is not None:
                found[relation] = None
        return list(found)

    def _mapped_links(self, document: SourceDocument) -> list[SourceLink]:
        """The relations and event arguments that the mapping names, each with its head first."""
        links: list[SourceLink] = []
        joining = {rule.joined_by for rule in self._mapping.containers}
        for link in document.links:
            if link.type in self._mapping.relations:
                links += self._directed(link, self._mapping.relations[link.type])
            elif link.type not in joining:
                self._relations_dropped[link.type, DROP_RELATION] += 1
        ruled = {name for rule in self._mapping.events for name in rule.among}
        for link in argument_links(document):
            if link.type in self._mapping.relations:
                links += self._directed(link, self._mapping.relations[link.type])
            elif link.type.split(":")[0] not in ruled:
                self._relations_dropped[link.type, DROP_ARGUMENT] += 1
        return links

    def _directed(self, link: SourceLink, head_is: str) -> list[SourceLink]:
        """The link with its head first; none, counted, where the head's role does not occur."""
        role = head_is.removeprefix("role:")
        if head_is == "first" or (role != head_is and link.roles[0] == role):
            return [link]
        if head_is == "second" or (role != head_is and link.roles[1] == role):
            return [SourceLink(link.type, link.second, link.first)]
        self._relations_dropped[link.type, DROP_ROLE] += 1
        return []

    def _relation(
        self, link: SourceLink, entities: Mapping[str, Entity], kept: Mapping[str, str]
    ) -> Relation | None:
        """A link (head first) as a relation, or None, counted, where it is none."""
        if link.first not in kept or link.second not in kept:
            self._relations_dropped[link.type, DROP_END] += 1
            return None
        head, tail = entities[kept[link.first]], entities[kept[link.second]]
        named = self._mapping.links.get(link.type, link.type)
        relation_type = self._labels.relation_type(head.type, tail.type, named)
        if relation_type is None:
            self._relations_dropped[link.type, DROP_PAIR] += 1
            return None
        return Relation(head.id, relation_type, tail.id)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The stretch without blanks at its edges; empty where it has only blanks."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _cuts_word(text: str, start: int, end: int) -> bool:
    """Whether a stretch begins or ends between two letters: often a sign of offsets in another unit."""
    before = start > 0 and text[start - 1].isalpha() and text[start].isalpha()
    return before or (end < len(text) and text[end - 1].isalpha() and text[end].isalpha())
