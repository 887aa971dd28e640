"""Reading BioC collections: documents of passages with annotations and relations, in XML or JSON.

Rules:

* offsets count characters from the beginning of the document. Its text is its passages (or their
  sentences), each at its offset, with blanks in the gaps; passages that overlap, stand out of order, or
  leave a gap of more than 10,000 characters are errors;
* an annotation's type is its infon `type`; its text must be the text at its locations, blanks counting alike.
  One without a location marks no words: it is counted and left aside;
* a relation's type is its infon `type` (or `relation`); of its nodes, two annotations in the order of the
  file, the roles are kept, so that a mapping can name the head by its role. Relations of concepts, of other
  relations, or of another number of nodes are counted and left aside;
* ids are unique in a document, and a node names one that exists;
* the infon `patient_id` of a document is its patient; blanks around it do not count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmedlora_core.bioc_files import DecodedDocument, decoded_documents
from fedmedlora_core.errors import DataError
from fedmedlora_core.source_documents import SourceDocument, SourceLink, SourceSpan
from fedmedlora_core.source_text import is_storable

_LONGEST_GAP = 10_000


def bioc_documents(path: Path, name: str) -> Iterator[SourceDocument]:
    """The documents of a BioC file.

    Args:
        path: The file, XML or JSON.
        name: What errors call it.

    Raises:
        DataError: It is malformed; the error names file and line.
        ConfigError: The extra that reads BioC is not installed.
    """
    for decoded in decoded_documents(path, name):
        yield _Document(name, decoded).read()


@dataclass(slots=True)
class _Document:
    """One document while it is read."""

    file: str
    decoded: DecodedDocument
    text: str = field(default="", repr=False)
    spans: dict[str, SourceSpan] = field(default_factory=dict)
    links: list[SourceLink] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    aside: Counter[str] = field(default_factory=Counter)

    def read(self) -> SourceDocument:
        """Read it whole."""
        content = self.decoded.content
        if not content.id or not is_storable(content.id):
            raise DataError("a document without an id", file=self.file, line=self.decoded.line)
        self._read_text(content.passages)
        holders = [content, *content.passages, *(part for p in content.passages for part in p.sentences)]
        annotations = [annotation for holder in holders for annotation in holder.annotations]
        relations = [relation for holder in holders for relation in holder.relations]
        places = {annotation.id for annotation in annotations}
        for annotation in annotations:
            self._add_annotation(annotation)
        for relation in relations:
            self._add_relation(relation, places, {item.id for item in relations if item.id})
        return SourceDocument(
            name=content.id,
            text=self.text,
            spans=tuple(self.spans.values()),
            links=tuple(self.links),
            lines=self.counts,
            aside=self.aside,
            patient_id=self._patient(content.infons.get("patient_id", "")),
            file=self.file,
            line=self.decoded.line,
        )

    def _patient(self, patient: Any) -> str | None:
        """The patient's id without the blanks of a file that is set out in lines; None where it is empty."""
        if not isinstance(patient, str):
            raise DataError("a patient_id is no text", file=self.file, line=self.decoded.line)
        return patient.strip() or None

    def _error(self, message: str, kind: str, part: str) -> DataError:
        """An error at a part of the document; at the second one where an id occurs twice."""
        lines = self.decoded.lines.get((kind, part), [self.decoded.line])
        return DataError(message, file=self.file, line=lines[1] if message.endswith("twice") else lines[0])

    def _read_text(self, passages: list[Any]) -> None:
        """Put the passages at their offsets."""
        pieces: list[str] = []
        length = 0
        for index, passage in enumerate(passages):
            for offset, text in _stretches(passage):
                if not length <= offset <= length + _LONGEST_GAP:
                    raise self._error("a passage does not follow the one before it", "passage", str(index))
                if not is_storable(text):
                    raise self._error("a text has halves of characters", "passage", str(index))
                pieces += [" " * (offset - length), text]
                length = offset + len(text)
            if passage.text and not _agree(passage):
                raise self._error("a sentence is not in the text of its passage", "passage", str(index))
        self.text = "".join(pieces)

    def _add_annotation(self, annotation: Any) -> None:
        """Check an annotation against the text and keep it."""
        self.counts["annotation"] += 1
        kind = annotation.infons.get("type")
        if not annotation.id or len(self.decoded.lines[("annotation", annotation.id)]) > 1:
            message = "an annotation's id occurs twice" if annotation.id else "an annotation without an id"
            raise self._error(message, "annotation", annotation.id)
        if not isinstance(kind, str) or not kind.strip():
            raise self._error("an annotation without a type", "annotation", annotation.id)
        pieces = tuple((place.offset, place.offset + place.length) for place in annotation.locations)
        if not pieces:
            self.aside["annotation without a place"] += 1
            return
        if not all(start < end <= len(self.text) for start, end in pieces):
            raise self._error("its offsets do not lie in the text", "annotation", annotation.id)
        covered = " ".join(self.text[start:end] for start, end in pieces)
        if covered.split() != (annotation.text or "").split():
            message = "the text at these offsets is not the text of the annotation"
            raise self._error(message, "annotation", annotation.id)
        self.spans[annotation.id] = SourceSpan(annotation.id, kind, pieces)

    def _add_relation(self, relation: Any, annotations: set[str], relations: set[str]) -> None:
        """Keep a relation between two annotations; count what else there is."""
        kind = relation.infons.get("type") or relation.infons.get("relation")
        self.counts["relation"] += 1
        if not isinstance(kind, str) or not kind.strip():
            raise self._error("a relation without a type", "relation", relation.id)
        if not relation.nodes:
            self.aside["relation of concepts"] += 1
            return
        if not all(node.refid in annotations | relations for node in relation.nodes):
            raise self._error("names an id that does not exist in this document", "relation", relation.id)
        if len(relation.nodes) != 2:
            self.aside["relation of another number of ends than two"] += 1
        elif not all(node.refid in self.spans for node in relation.nodes):
            self.aside["relation of relations or of annotations without a place"] += 1
        else:
            first, second = relation.nodes
            self.links.append(
                SourceLink(kind, first.refid, second.refid, (first.role or "", second.role or ""))
            )


def _stretches(passage: Any) -> list[tuple[int, str]]:
    """The texts of a passage with their offsets: its own, or those of its sentences."""
    if passage.text or not passage.sentences:  # the library gives a passage without a text an empty one
        return [(passage.offset, passage.text or "")]
    return [(sentence.offset, sentence.text or "") for sentence in passage.sentences]


def _agree(passage: Any) -> bool:
    """Whether the sentences of a passage with a text of its own are what stands there."""
    return all(
        sentence.text is None
        or (
            sentence.offset >= passage.offset
            and passage.text.startswith(sentence.text, sentence.offset - passage.offset)
        )
        for sentence in passage.sentences
    )
