"""BioC files, XML and JSON, checked for shape with line numbers, then decoded by the `bioc` library.

The library reads what is well-formed and says nothing of lines; a file that is not gets errors of many
kinds from it. So the shape is checked first, element by element and each with its line, and the library is
handed only what it can read. XML entities of one's own, comments inside a text and unknown elements are
refused: each would make a text that differs from what the file shows.

What this module leaves out: offsets and texts (`bioc`).
"""

from __future__ import annotations

import bisect
import io
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from json import decoder, scanner
from pathlib import Path
from typing import Any

from fedmedlora_core.errors import ConfigError, DataError
from fedmedlora_core.source_text import read_text

_CHILDREN = {
    "collection": {"source", "date", "key", "infon", "document"},
    "document": {"id", "infon", "passage", "annotation", "relation"},
    "passage": {"infon", "offset", "text", "sentence", "annotation", "relation"},
    "sentence": {"infon", "offset", "text", "annotation", "relation"},
    "annotation": {"infon", "location", "text"},
    "relation": {"infon", "node"},
}
_ONCE = {"document": ("id",), "passage": ("offset",), "sentence": ("offset",), "annotation": ("text",)}
_ATTRIBUTES = {
    "annotation": ("id",),
    "infon": ("key",),
    "location": ("offset", "length"),
    "node": ("refid", "role"),
}
_TWICE = "a key occurs twice in an object"
_NUMBER = re.compile(r"^\s*[0-9]{1,9}\s*$")


@dataclass(frozen=True, slots=True)
class DecodedDocument:
    """A document as the library decoded it, and the lines of its parts.

    Args:
        content: The library's `BioCDocument`.
        line: The line in which it begins.
        lines: Lines of its annotations ("annotation", id), relations and passages ("passage", index).
    """

    content: Any = field(repr=False)
    line: int
    lines: dict[tuple[str, str], list[int]]


def decoded_documents(path: Path, name: str) -> list[DecodedDocument]:
    """Read a BioC file of either kind.

    Args:
        path: The file; XML where it begins with `<`, else JSON.
        name: What errors call it.

    Raises:
        DataError: It is malformed; the error names file and line.
        ConfigError: The extra that reads BioC is not installed.
    """
    text = read_text(path, name)
    try:
        from bioc import biocjson, biocxml
        from lxml import etree
    except ModuleNotFoundError:
        raise ConfigError("reading BioC needs the 'bioc' extra: pip install 'fedmedlora[bioc]'") from None
    if text.lstrip("\ufeff \t\r\n").startswith("<"):
        raw = text.encode("utf-8")
        found = _xml_lines(etree, raw, name)
        return _together(found, [biocxml.load(io.BytesIO(raw))])
    collections, found = _json_collections(text, name)
    return _together(found, [biocjson.decoder.parse_collection(item) for item in collections])


_Lines = list[tuple[int, dict[tuple[str, str], list[int]]]]


def _together(lines: _Lines, collections: list[Any]) -> list[DecodedDocument]:
    """Each document with its lines; both were read in the order of the file."""
    documents = [document for collection in collections for document in collection.documents]
    return [
        DecodedDocument(document, line, places)
        for document, (line, places) in zip(documents, lines, strict=True)
    ]


def _xml_lines(etree: Any, raw: bytes, name: str) -> _Lines:
    """Check the shape of an XML file; the lines of its documents."""
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, huge_tree=False)
    try:
        tree = etree.parse(io.BytesIO(raw), parser)
    except etree.XMLSyntaxError as error:
        raise DataError("is not well-formed XML", file=name, line=error.lineno or 1) from None
    if (tree.docinfo.encoding or "UTF-8").upper() not in {"UTF-8", "ASCII", "US-ASCII"}:
        raise DataError("declares another encoding than UTF-8", file=name, line=1)
    subset = tree.docinfo.internalDTD
    if subset is not None and any(True for _ in subset.iterentities()):
        raise DataError("declares entities of its own", file=name, line=1)
    root = tree.getroot()
    if root.tag != "collection":
        raise DataError("its root is no BioC collection", file=name, line=root.sourceline)
    for element in root.iter():
        _check_element(element, name)
    return [
        (document.sourceline, _places(_xml_parts(document))) for document in root.iterchildren("document")
    ]


def _xml_parts(document: Any) -> Iterator[tuple[str, str, int]]:
    """Kind, id and line of the parts of a document."""
    for element in document.iter("annotation", "relation"):
        yield element.tag, element.get("id", ""), element.sourceline
    for index, element in enumerate(document.iterchildren("passage")):
        yield "passage", str(index), element.sourceline


def _places(parts: Iterator[tuple[str, str, int]]) -> dict[tuple[str, str], list[int]]:
    """The lines of each part; several where an id occurs several times."""
    found: dict[tuple[str, str], list[int]] = {}
    for kind, part, line in parts:
        found.setdefault((kind, part), []).append(line)
    return found


def _check_element(element: Any, name: str) -> None:
    """Check one element of an XML file: its children, attributes and numbers."""
    line = element.sourceline
    parent = element.getparent()
    if not isinstance(element.tag, str):
        if parent is not None and parent.tag not in _CHILDREN:
            raise DataError("a text holds a comment or an entity", file=name, line=line or parent.sourceline)
        return
    allowed = {"collection"} if parent is None else _CHILDREN.get(parent.tag, set())
    if element.tag not in allowed:
        raise DataError("is an element that BioC does not have there", file=name, line=line)
    for child in ("id", "offset", "text"):
        count = sum(1 for _ in element.iterchildren(child))
        if count > 1 or (count < 1 and child in _ONCE.get(element.tag, ())):
            raise DataError(f"expected one '{child}' in a '{element.tag}'", file=name, line=line)
    if any(key not in element.attrib for key in _ATTRIBUTES.get(element.tag, ())):
        raise DataError(f"a '{element.tag}' lacks an attribute", file=name, line=line)
    numbers = [element.text or ""] if element.tag == "offset" else []
    numbers += [element.get(key) for key in ("offset", "length")] if element.tag == "location" else []
    if not all(_NUMBER.match(number) for number in numbers):
        raise DataError("an offset or length is no number", file=name, line=line)


class _Placed(dict[str, Any]):
    """A JSON object that knows where it begins, and whether a key occurs twice in it."""

    place: int = 0
    has_twice: bool = False


class _PlacingDecoder(json.JSONDecoder):
    """Decodes JSON into objects that know where they begin, and refuses keys that occur twice."""

    def __init__(self) -> None:
        """Take the pure scanner: the compiled one never asks `parse_object`."""
        super().__init__(object_pairs_hook=_placed)
        self.parse_object: Callable[..., Any] = _parse_object
        self.scan_once = scanner.py_make_scanner(self)  # type: ignore[attr-defined]


def _placed(pairs: list[tuple[str, Any]]) -> _Placed:
    """An object of its pairs."""
    found = _Placed(pairs)
    found.has_twice = len(found) != len(pairs)
    return found


def _parse_object(text_and_place: tuple[str, int], *more: Any) -> tuple[Any, int]:
    """Parse an object as the library does and keep where it began."""
    value, end = decoder.JSONObject(text_and_place, *more)  # type: ignore[attr-defined]
    value.place = text_and_place[1] - 1
    if value.has_twice:
        raise json.JSONDecodeError(_TWICE, text_and_place[0], value.place)
    return value, end


@dataclass(frozen=True, slots=True)
class _Shape:
    """Checks the shape of a JSON file and fills in what may be left out."""

    name: str
    breaks: list[int]

    def line(self, item: _Placed) -> int:
        """The line in which an object begins."""
        return bisect.bisect_left(self.breaks, item.place) + 1

    def error(self, message: str, item: _Placed) -> DataError:
        """An error at an object."""
        return DataError(message, file=self.name, line=self.line(item))

    def collection(self, item: _Placed) -> Iterator[tuple[int, dict[tuple[str, str], list[int]]]]:
        """Check a collection; the lines of its documents."""
        self._text(item, "source", "date", "key")
        self._infons(item)
        for document in self._list(item, "documents", needed=True):
            self._text(document, "id", needed=True)
            self._infons(document)
            parts = self._annotated(document)
            for index, passage in enumerate(self._list(document, "passages", needed=True)):
                parts.append(("passage", str(index), self.line(passage)))
                parts += self._stretch(passage)
                for sentence in self._list(passage, "sentences"):
                    parts += self._stretch(sentence)
            yield self.line(document), _places(iter(parts))

    def _stretch(self, item: _Placed) -> list[tuple[str, str, int]]:
        """Check a passage or sentence."""
        self._numbers(item, "offset")
        if item.get("text", "") is None:
            del item["text"]
        if "text" in item or "sentences" not in item:
            self._text(item, "text", needed="sentences" not in item)
        self._infons(item)
        return self._annotated(item)

    def _annotated(self, item: _Placed) -> list[tuple[str, str, int]]:
        """Check the annotations and relations of a document, passage or sentence."""
        parts = []
        for annotation in self._list(item, "annotations"):
            self._text(annotation, "id", "text", needed=True)
            self._infons(annotation)
            for location in self._list(annotation, "locations", needed=True):
                self._numbers(location, "offset", "length")
            parts.append(("annotation", annotation["id"], self.line(annotation)))
        for relation in self._list(item, "relations"):
            self._text(relation, "id")
            self._infons(relation)
            for node in self._list(relation, "nodes"):
                self._text(node, "refid", needed=True)
                self._text(node, "role")
            parts.append(("relation", relation["id"], self.line(relation)))
        return parts

    def _list(self, item: _Placed, key: str, *, needed: bool = False) -> list[_Placed]:
        """A list of objects under a key."""
        found = item.get(key) if needed else item.setdefault(key, [])
        if not isinstance(found, list) or not all(isinstance(part, _Placed) for part in found):
            raise self.error(f"expected a list of objects under '{key}'", item)
        return found

    def _text(self, item: _Placed, *keys: str, needed: bool = False) -> None:
        """Check that keys hold strings."""
        for key in keys:
            value = item.get(key) if needed else item.setdefault(key, "")
            if not isinstance(value, str):
                raise self.error(f"expected a string under '{key}'", item)

    def _infons(self, item: _Placed) -> None:
        """Check that an object has a table of infons."""
        if not isinstance(item.setdefault("infons", _Placed()), _Placed):
            raise self.error("expected an object under 'infons'", item)

    def _numbers(self, item: _Placed, *keys: str) -> None:
        """Check that keys hold numbers from 0."""
        for key in keys:
            value = item.get(key)
            if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 10**9:
                raise self.error(f"expected a number from 0 under '{key}'", item)


def _json_collections(text: str, name: str) -> tuple[list[_Placed], _Lines]:
    """Decode a JSON file and check its shape."""
    try:
        top = _PlacingDecoder().decode(text)
    except json.JSONDecodeError as error:
        reason = _TWICE if error.msg == _TWICE else "is not well-formed JSON"
        raise DataError(reason, file=name, line=error.lineno) from None
    except (ValueError, RecursionError):  # the standard library's limits of digits and of depth
        raise DataError("holds a number or a nesting that is too long", file=name, line=1) from None
    collections = top if isinstance(top, list) else [top]
    if not all(isinstance(item, _Placed) for item in collections):
        raise DataError("is no BioC collection", file=name, line=1)
    shape = _Shape(name, [index for index, character in enumerate(text) if character == "\n"])
    return collections, [row for item in collections for row in shape.collection(item)]
