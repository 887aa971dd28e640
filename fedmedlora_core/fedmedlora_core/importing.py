"""From documents with an outside corpus' labels to notes with ours, and what was dropped and why.

Rules: everything that was read is either in a note or counted as dropped under a reason; spans lose blanks at
their edges; equal spans of one type become one; nested spans stay. A file that cannot be read as it is meant
stops the whole import: nothing is half imported.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from fedmedlora_core.labels import LabelSet
from fedmedlora_core.mapping import Container, EventRule, LabelMapping
from fedmedlora_core.records import Entity, Note, Relation, validate_note

DROP_DISCONTINUOUS = "span of several pieces"
DROP_TYPE = "span type not mapped"
DROP_MISMATCH = "span whose text differs, as the mapping accepts"
DROP_BLANK = "span of blanks only"
DROP_EQUAL = "equal to another span"
DROP_RELATION = "relation type not mapped"
DROP_END = "relation whose end was dropped"
DROP_PAIR = "relation between types that is not legal"
DROP_TWICE = "relation that occurs twice"


@dataclass(frozen=True, slots=True)
class SourceSpan:
    """A span as the corpus has it; `pieces` has one entry unless the span is discontinuous.

    `is_mismatch`: the corpus shows another text than the one at these offsets, and the mapping accepts that.
    """

    id: str
    type: str
    pieces: tuple[tuple[int, int], ...]
    is_mismatch: bool = False


@dataclass(frozen=True, slots=True)
class SourceLink:
    """A relation as the corpus has it, between span ids."""

    type: str
    first: str
    second: str


@dataclass(frozen=True, slots=True)
class SourceEvent:
    """An event as the corpus has it: its trigger and arguments are span ids."""

    type: str
    trigger: str
    arguments: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SourceDocument:
    """A document with a corpus' own labels; every id that is named exists."""

    name: str
    text: str
    spans: tuple[SourceSpan, ...] = ()
    links: tuple[SourceLink, ...] = ()
    events: tuple[SourceEvent, ...] = ()
    lines: Mapping[str, int] = field(default_factory=dict)
    patient_id: str | None = None
    annotated: frozenset[str] | None = None

    def __repr__(self) -> str:
        """Show sizes, never the text."""
        return f"SourceDocument({len(self.text)} characters, {len(self.spans)} spans)"


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
    """

    documents: int
    lines: Mapping[str, int]
    spans_read: Mapping[str, int]
    spans_kept: Mapping[str, int]
    relations_read: Mapping[str, int]
    relations_kept: Mapping[str, int]
    dropped: Mapping[str, int]

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
        }


@dataclass(frozen=True, slots=True)
class ImportResult:
    """The notes of an import and its report."""

    notes: tuple[Note, ...]
    report: ImportReport


def convert(documents: Sequence[SourceDocument], mapping: LabelMapping, labels: LabelSet) -> ImportResult:
    """Turn documents with a corpus' labels into notes with ours.

    Args:
        documents: The documents; every id that a link or event names exists.
        mapping: How names become labels.
        labels: The labels of the study; what a mapping names beyond them is dropped and counted.

    Raises:
        DataError: A note would break a rule of `records`.
    """
    conversion = _Conversion(mapping, labels)
    notes = tuple(conversion.note(document) for document in documents)
    return ImportResult(notes, conversion.report(documents))


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
        self._dropped: Counter[str] = Counter()

    def report(self, documents: Sequence[SourceDocument]) -> ImportReport:
        """The counts so far."""
        lines: Counter[str] = Counter()
        for document in documents:
            lines.update(document.lines)
        return ImportReport(
            documents=len(documents),
            lines=lines,
            spans_read=Counter(span.type for document in documents for span in document.spans),
            spans_kept=self._spans_kept,
            relations_read=Counter(link.type for document in documents for link in document.links),
            relations_kept=self._relations_kept,
            dropped=self._dropped,
        )

    def note(self, document: SourceDocument) -> Note:
        """Turn one document into a note."""
        entities, kept = self._entities(document)
        relations = self._relations(document, {entity.id: entity for entity in entities}, kept)
        annotated = self._mapping.labels_annotated
        if document.annotated is not None:
            types, links = self._mapping.types, self._mapping.relations.keys()
            annotated = frozenset(types[name] for name in document.annotated if name in types)
            annotated |= document.annotated & links
        note = Note(
            document_id=document.name,
            patient_id=document.patient_id or self._mapping.patient_of(document.name),
            text=document.text,
            entities=tuple(entities),
            relations=tuple(relations),
            annotated=annotated & self._labels.annotatable,
        )
        validate_note(note, self._labels)
        self._spans_kept.update(entity.type for entity in entities)
        self._relations_kept.update(relation.type for relation in relations)
        return note

    def _entities(self, document: SourceDocument) -> tuple[list[Entity], dict[str, str]]:
        """The spans that are kept, and source id -> id of the kept span that stands for it."""
        entities: list[Entity] = []
        kept: dict[str, str] = {}
        places: dict[tuple[str, int, int], str] = {}
        for span in document.spans:
            label = self._mapping.types.get(span.type)
            if label not in self._known:
                self._dropped[DROP_TYPE] += 1
                continue
            if span.is_mismatch or len(span.pieces) != 1:
                self._dropped[DROP_MISMATCH if span.is_mismatch else DROP_DISCONTINUOUS] += 1
                continue
            start, end = _trimmed(document.text, *span.pieces[0])
            place = (label, start, end)
            if start == end:
                self._dropped[DROP_BLANK] += 1
            elif place in places:
                self._dropped[DROP_EQUAL] += 1
                kept[span.id] = places[place]
            else:
                places[place] = kept[span.id] = span.id
                entities.append(Entity(span.id, label, start, end))
        return entities, kept

    def _relations(
        self, document: SourceDocument, entities: Mapping[str, Entity], kept: Mapping[str, str]
    ) -> list[Relation]:
        """The relations that are kept: those of the corpus, then those of containers and events."""
        links: list[SourceLink] = []
        joining = {rule.joined_by for rule in self._mapping.containers}
        for link in document.links:
            head_is = self._mapping.relations.get(link.type)
            if head_is is not None:
                ends = (link.first, link.second) if head_is == "first" else (link.second, link.first)
                links.append(SourceLink(link.type, *ends))
            elif link.type not in joining:
                self._dropped[DROP_RELATION] += 1
        for container in self._mapping.containers:
            links += _container_links(document, container)
        for event in self._mapping.events:
            links += _event_links(document, event)
        found: dict[Relation, None] = {}
        for link in links:
            relation = self._relation(link, entities, kept)
            if relation is not None and relation in found:
                self._dropped[DROP_TWICE] += 1
            elif relation is not None:
                found[relation] = None
        return list(found)

    def _relation(
        self, link: SourceLink, entities: Mapping[str, Entity], kept: Mapping[str, str]
    ) -> Relation | None:
        """A link (head first) as a relation, or None, counted, where it is none."""
        if link.first not in kept or link.second not in kept:
            self._dropped[DROP_END] += 1
            return None
        head, tail = entities[kept[link.first]], entities[kept[link.second]]
        relation_type = self._labels.relation_type(head.type, tail.type, link.type)
        if relation_type is None:
            self._dropped[DROP_PAIR] += 1
            return None
        return Relation(head.id, relation_type, tail.id)


def _trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """The stretch without blanks at its edges; empty where it has only blanks."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


def _within(inner: SourceSpan, outer: SourceSpan) -> bool:
    """Whether every piece of a span lies inside a piece of the other."""
    return all(any(a <= start and end <= b for a, b in outer.pieces) for start, end in inner.pieces)


def _members(document: SourceDocument, outer: SourceSpan, joined_by: str | None) -> list[SourceSpan]:
    """The spans inside a container, by place or by the joining relation."""
    joined = {link.second for link in document.links if link.type == joined_by and link.first == outer.id}
    return [span for span in document.spans if span.id in joined or _within(span, outer)]


def _container_links(document: SourceDocument, rule: Container) -> list[SourceLink]:
    """Join each modifier inside a container to the nearest head inside it; the first of equally near ones."""
    found: dict[SourceLink, None] = {}
    for outer in document.spans:
        if outer.type != rule.inside:
            continue
        members = _members(document, outer, rule.joined_by)
        heads = [span for span in members if span.type == rule.head]
        for tail in members:
            if tail.type in rule.tails and heads:
                nearest = min(heads, key=lambda head, tail=tail: (_gap(head, tail), head.pieces))  # type: ignore[misc]
                found[SourceLink(tail.type, nearest.id, tail.id)] = None
    return list(found)


def _gap(one: SourceSpan, other: SourceSpan) -> int:
    """Characters between two spans; 0 where they touch or overlap."""
    return max(0, max(one.pieces[0][0], other.pieces[0][0]) - min(one.pieces[-1][1], other.pieces[-1][1]))


def _event_links(document: SourceDocument, rule: EventRule) -> list[SourceLink]:
    """Join heads and tails that are arguments of the same event."""
    competing = [event for event in document.events if event.type in rule.among]
    by_id = {span.id: span for span in document.spans}
    found: dict[SourceLink, None] = {}
    for event in competing:
        if event.type != rule.event:
            continue
        is_alone = len(competing) == 1 and not event.arguments
        arguments = list(document.spans) if is_alone else [by_id[name] for name in event.arguments]
        holders = [span for span in arguments if span.type == rule.via]
        heads = [
            span
            for span in document.spans
            if span.type == rule.head and any(_within(span, h) for h in holders)
        ]
        tails = [span for span in arguments if span.type == rule.tail]
        for head in heads:
            for tail in tails:
                found[SourceLink(rule.relation, head.id, tail.id)] = None
    return list(found)
