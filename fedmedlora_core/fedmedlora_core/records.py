"""Notes with their gold spans and relations, and the JSONL format in which a site keeps them.

Rules, held at every door (constructor checks by `validate_note`, reading, writing):

* offsets are in characters of `text` as it is, half open, inside the text and not empty;
* ids of spans are unique in a note, ids of notes in a file;
* both ends of a relation exist, and their types are legal for the label set;
* a span's type is one that was annotated here: `annotated` says which types were looked for in this note, so
  that a missing label of another type is never read as "there is none".

* a note may be a part of a longer document (`part_of`): its text then begins at that character of the
  document.

One note per line, UTF-8, keys in fixed order:

    {"document_id": "n1", "patient_id": "p1", "text": "no fever .", "annotated": ["problem", "negation"],
     "entities": [["T1", "problem", 3, 8], ["T2", "negation", 0, 2]], "relations": [["T1", "negation", "T2"]]}

Three things may stand there besides: `"part_of": ["n0", 2048]`, `"near": "n1"` (`near_duplicates`), and in a
row of a span its text as a fifth entry, which must then be the text at its offsets.

What this module leaves out: importing foreign formats (`brat`), splitting (`splits`), scores (`scores`).
"""

from __future__ import annotations

import codecs
import json
import os
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from fedmedlora_core.errors import DataError
from fedmedlora_core.labels import CLINICAL, LabelSet
from fedmedlora_core.source_text import is_storable

_KEYS = {"document_id", "patient_id", "text", "annotated", "entities", "relations"}
_MORE_KEYS = {"part_of", "near"}


@dataclass(frozen=True, order=True, slots=True)
class Span:
    """A typed stretch of characters: half open, in characters of the text as it is."""

    start: int
    end: int
    type: str


@dataclass(frozen=True, slots=True)
class Entity:
    """A span with the name by which relations of its note refer to it; modifiers are entities too."""

    id: str
    type: str
    start: int
    end: int

    @property
    def span(self) -> Span:
        """The span without its name."""
        return Span(self.start, self.end, self.type)


@dataclass(frozen=True, slots=True)
class Relation:
    """A head entity, a relation type and a tail, by their ids; the type is the modifier's type."""

    head: str
    type: str
    tail: str


@dataclass(frozen=True, order=True, slots=True)
class PartOf:
    """Where the text of a note begins in the longer document that it was cut from."""

    document_id: str
    start: int


@dataclass(frozen=True, slots=True)
class Note:
    """One document: its text, spans and relations, and which types were annotated in it.

    Args:
        document_id: Unique in its file.
        patient_id: Whose note it is, or None where the source does not say (then it is a patient of its own).
        text: The text as it is; no newline is translated.
        entities: Entities and modifiers.
        relations: Relations between them.
        annotated: The entity and modifier types (and types of links) that somebody looked for in this note.
        part_of: The longer document that this is a part of, and where it begins there; None for a whole one.
        near: The name of the group of near duplicates that it belongs to; None where it has none.
    """

    document_id: str
    patient_id: str | None
    text: str
    entities: tuple[Entity, ...] = ()
    relations: tuple[Relation, ...] = ()
    annotated: frozenset[str] = frozenset()
    part_of: PartOf | None = None
    near: str | None = None

    def __repr__(self) -> str:
        """Show sizes, never the text."""
        return (
            f"Note({len(self.text)} characters, {len(self.entities)} spans, {len(self.relations)} relations)"
        )

    @property
    def patient_key(self) -> str:
        """The unit of splitting: the patient, or the whole document where the patient is not known."""
        if self.patient_id is not None:
            return f"patient:{self.patient_id}"
        return f"document:{self.document_id if self.part_of is None else self.part_of.document_id}"

    def entity(self, entity_id: str) -> Entity:
        """The span of this id; KeyError where there is none."""
        for entity in self.entities:
            if entity.id == entity_id:
                return entity
        raise KeyError(entity_id)

    def text_of(self, span: Entity | Span) -> str:
        """The characters that a span covers."""
        return self.text[span.start : span.end]

    def triples(self) -> list[tuple[Span, str, Span]]:
        """Relations as (head span, type, tail span), without ids."""
        by_id = {entity.id: entity.span for entity in self.entities}
        return [(by_id[relation.head], relation.type, by_id[relation.tail]) for relation in self.relations]

    def without_gold(self) -> Note:
        """The same note as a model sees it: text and the types it is asked for, no spans."""
        return replace(self, entities=(), relations=())

    def restricted_to(self, types: Iterable[str]) -> Note:
        """The note as a site would have it that annotates only these types."""
        keep = frozenset(types)
        entities = tuple(entity for entity in self.entities if entity.type in keep)
        ids = {entity.id for entity in entities}
        relations = tuple(
            link for link in self.relations if link.head in ids and link.tail in ids and link.type in keep
        )
        return replace(self, entities=entities, relations=relations, annotated=self.annotated & keep)


def validate_note(note: Note, labels: LabelSet = CLINICAL) -> None:
    """Check that a note keeps the rules of this module.

    Args:
        note: The note.
        labels: Types and legal pairs that it may use.

    Raises:
        DataError: A rule is broken; the message names positions and numbers, never text.
    """
    check_structure(note)
    unknown = note.annotated - labels.annotatable
    if unknown:
        raise DataError(f"{len(unknown)} annotated type(s) are not in the label set")
    types = {entity.id: entity.type for entity in note.entities}
    for index, relation in enumerate(note.relations):
        if not labels.is_legal(types[relation.head], relation.type, types[relation.tail]):
            raise DataError(f"relation {index}: its head, type and tail are not a legal combination")
        if relation.type not in note.annotated:
            raise DataError(f"relation {index}: its type is not among the annotated types")


def check_structure(note: Note) -> None:
    """Check the rules that hold whatever the label set: ids, offsets, ends of relations.

    Raises:
        DataError: A rule is broken; the message names positions and numbers, never text.
    """
    if not note.document_id or note.patient_id == "":
        raise DataError("document_id and patient_id must not be empty")
    if note.patient_id is not None and note.patient_id != note.patient_id.strip():
        raise DataError("patient_id must not begin or end with a blank: it would be another patient")
    if not all(map(is_storable, (note.text, note.document_id, note.patient_id or ""))):
        raise DataError("text or an id has halves of characters, which no file can hold")
    if note.part_of is not None and (not note.part_of.document_id or note.part_of.start < 0):
        raise DataError("part_of: expected a document and a character of it, from 0")
    ids: set[str] = set()
    for index, entity in enumerate(note.entities):
        _check_entity(entity, index, note, ids)
        ids.add(entity.id)
    seen: set[Relation] = set()
    for index, relation in enumerate(note.relations):
        if relation.head not in ids or relation.tail not in ids:
            raise DataError(f"relation {index}: an end does not exist")
        if relation in seen:
            raise DataError(f"relation {index}: occurs twice")
        seen.add(relation)


def _check_entity(entity: Entity, index: int, note: Note, earlier: set[str]) -> None:
    """Check one span of a note against the text and the spans before it."""
    if not entity.id:
        raise DataError(f"span {index}: its id is empty")
    if entity.id in earlier:
        raise DataError(f"span {index}: its id occurs twice")
    if entity.type not in note.annotated:
        raise DataError(f"span {index}: its type is not among the annotated types")
    if not 0 <= entity.start < entity.end <= len(note.text):
        raise DataError(f"span {index}: its offsets do not lie in 0..{len(note.text)}")


def note_to_json(note: Note) -> str:
    """One line of JSON (without newline) for a note."""
    more: dict[str, Any] = {}
    if note.part_of is not None:
        more["part_of"] = [note.part_of.document_id, note.part_of.start]
    if note.near is not None:
        more["near"] = note.near
    return json.dumps(
        {
            "document_id": note.document_id,
            "patient_id": note.patient_id,
            "text": note.text,
            "annotated": sorted(note.annotated),
            "entities": [[entity.id, entity.type, entity.start, entity.end] for entity in note.entities],
            "relations": [[link.head, link.type, link.tail] for link in note.relations],
            **more,
        },
        ensure_ascii=True,  # line separators such as U+2028 and lone surrogates stay inside their line
    )


def note_from_json(line: str) -> Note:
    """Read one line of the JSONL format; its rules are not checked yet (`validate_note` does that).

    Args:
        line: One JSON object.

    Raises:
        DataError: It is not such an object; without file and line.
    """
    try:
        fields = json.loads(line, object_pairs_hook=_object_without_duplicates)
    except (ValueError, RecursionError):
        raise DataError("not a JSON object") from None  # the parser's message would carry text
    if not isinstance(fields, dict):
        raise DataError("expected a JSON object")
    if set(fields) - _MORE_KEYS != _KEYS:
        missing = sorted(_KEYS - set(fields))
        raise DataError(f"missing keys: {', '.join(missing)}" if missing else "unknown keys")
    text = _string(fields["text"], "text")
    return Note(
        document_id=_string(fields["document_id"], "document_id"),
        patient_id=None if fields["patient_id"] is None else _string(fields["patient_id"], "patient_id"),
        text=text,
        annotated=frozenset(_string(name, "annotated") for name in _list(fields["annotated"], "annotated")),
        entities=tuple(_entity(row, text) for row in _list(fields["entities"], "entities")),
        relations=tuple(_relation(row) for row in _list(fields["relations"], "relations")),
        part_of=None if fields.get("part_of") is None else _part_of(fields["part_of"]),
        near=None if fields.get("near") is None else _string(fields["near"], "near"),
    )


def _object_without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse objects that name a key twice."""
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise ValueError("a key occurs twice")
    return fields


def _string(value: object, key: str) -> str:
    """The value, if it is a string."""
    if not isinstance(value, str):
        raise DataError(f"{key}: expected a string")
    return value


def _list(value: object, key: str) -> list[Any]:
    """The value, if it is a list."""
    if not isinstance(value, list):
        raise DataError(f"{key}: expected a list")
    return value


def _entity(row: object, text: str) -> Entity:
    """A span from its row [id, type, start, end], or [id, type, start, end, text]."""
    match row:
        case [str() as entity_id, str() as span_type, int() as start, int() as end, *shown] if len(shown) < 2:
            if isinstance(start, bool) or isinstance(end, bool):
                raise DataError("entities: offsets must be whole numbers")
            if shown and (start < 0 or shown[0] != text[start:end]):
                raise DataError("entities: the text at these offsets is not the text of the row")
            return Entity(entity_id, span_type, start, end)
        case _:
            raise DataError("entities: expected rows [id, type, start, end]")


def _part_of(row: object) -> PartOf:
    """A place in a longer document from its row [document, start]."""
    match row:
        case [str() as document, int() as start] if not isinstance(start, bool):
            return PartOf(document, start)
        case _:
            raise DataError("part_of: expected [document, start]")


def _relation(row: object) -> Relation:
    """A relation from its row [head, type, tail]."""
    match row:
        case [str() as head, str() as relation_type, str() as tail]:
            return Relation(head, relation_type, tail)
        case _:
            raise DataError("relations: expected rows [head, type, tail]")


def iter_checked(path: Path, check: Callable[[Note], None]) -> Iterator[Note]:
    """Read a JSONL file note by note.

    Args:
        path: The file.
        check: Raises DataError where a note breaks a rule (`validate_note`, `check_structure`).

    Raises:
        DataError: A line is malformed or breaks a rule; it names file and line.
    """
    seen: set[str] = set()
    for number, raw in enumerate(_lines(path), start=1):
        try:
            note = note_from_json(raw.decode("utf-8"))
            check(note)
            if note.document_id in seen:
                raise DataError("document_id occurs twice in this file")
        except UnicodeDecodeError:
            raise DataError("not valid UTF-8", file=path.name, line=number) from None
        except DataError as error:
            raise DataError(str(error), file=path.name, line=number) from None
        seen.add(note.document_id)
        yield note


def _lines(path: Path) -> Iterator[bytes]:
    """The lines of a file as bytes, split at line feeds only, without a byte order mark."""
    try:
        with path.open("rb") as file:
            for number, raw in enumerate(file):
                yield (raw if number else raw.removeprefix(codecs.BOM_UTF8)).rstrip(b"\n")
    except OSError as error:
        raise DataError(error.strerror or "cannot be read", file=path.name) from None


def read_notes(path: Path | str, labels: LabelSet = CLINICAL) -> list[Note]:
    """Read a JSONL file of notes, all or nothing.

    Args:
        path: The file.
        labels: Types and legal pairs that the notes may use.

    Raises:
        DataError: A line is malformed or breaks a rule; it names file and line.
    """
    return list(iter_checked(Path(path), lambda note: validate_note(note, labels)))


def write_notes(path: Path | str, notes: Iterable[Note], labels: LabelSet = CLINICAL) -> int:
    """Write notes to a JSONL file that appears whole or not at all.

    Args:
        path: The file; replaced if it exists. Only its owner may read it.
        notes: The notes; each is validated first.
        labels: Types and legal pairs that the notes may use.

    Returns:
        How many notes were written.

    Raises:
        DataError: A note breaks a rule or an id occurs twice; no file was changed.
    """
    target = Path(path)
    handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=f".{target.name}.")
    seen: set[str] = set()
    try:
        with os.fdopen(handle, "w", encoding="utf-8", newline="\n") as file:
            for note in notes:
                validate_note(note, labels)
                if note.document_id in seen:
                    raise DataError("document_id occurs twice")
                seen.add(note.document_id)
                file.write(note_to_json(note) + "\n")
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(target)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    return len(seen)


def mentions_in(notes: Iterable[Note]) -> dict[str, int]:
    """Count the spans of each type in some notes."""
    return dict(Counter(entity.type for note in notes for entity in note.entities))
