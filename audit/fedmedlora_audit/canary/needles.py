"""Every form in which a mark is looked for, and the search of one piece of data for all of them.

A piece is searched in three views: in small letters; in small letters without blanks, line ends, colons and
dashes (hex dumps, numbers in groups); and with URL-safe base64 written as the other, without line ends. Of
base64 the characters are taken that the mark alone decides, at each of its three alignments.

The search does not grow with the number of marks: the view is cut into words of 8 bytes, and a set of all
8-byte pieces of all needles says whether any of them can be there. A needle of 15 bytes covers a whole word
wherever it begins. For shorter ones, down to 7 bytes, the same is done with words of 4 bytes.
"""

import base64
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Final, Literal, NamedTuple
from urllib.parse import quote

from fedmedlora_audit.canary.marks import Canaries, occurs_in_digests, squeezed

WORDS: Final[tuple[tuple[int, Literal["Q", "I"]], ...]] = ((8, "Q"), (4, "I"))
"""Sizes of words in bytes, with the code under which a memory view reads them."""

View = Literal["folded", "squeezed", "base64"]
VIEWS: Final[tuple[View, ...]] = ("folded", "squeezed", "base64")
_SEPARATORS: Final = b" \t\r\n:-"
_STANDARD: Final = bytes.maketrans(b"-_", b"+/")
PLAIN: Final = "plain"
APART: Final = "plain without separators"


class Hit(NamedTuple):
    """A mark that was found: whose, which, and how it was written."""

    canary: str
    mark: str
    spelling: str


class Needle(NamedTuple):
    """Bytes to look for in one view."""

    view: View
    data: bytes
    hit: Hit


def spellings(text: str) -> Iterator[tuple[View, str, bytes]]:
    """Every form of a mark: (view, name of the form, bytes)."""
    cases = sorted({text, text.lower(), text.upper(), text.casefold()})
    for case in cases:
        yield "folded", PLAIN, case.encode().lower()
        yield "folded", "reversed", case[::-1].encode().lower()
        for codec in ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"):
            yield "folded", codec, case.encode(codec).lower()
        if not occurs_in_digests(squeezed(case)):
            yield "squeezed", APART, squeezed(case).encode().lower()
        yield from _escaped(case)
        for codec, suffix in (("utf-8", ""), ("utf-16-le", " of utf-16-le"), ("utf-16-be", " of utf-16-be")):
            data = case.encode(codec)
            yield "squeezed", f"hex{suffix}", data.hex().encode()
            for alignment in range(3):
                yield "base64", f"base64{suffix}", _inner_base64(data, alignment)


def _escaped(text: str) -> Iterator[tuple[View, str, bytes]]:
    """Forms of a mark that is not of plain letters and digits: JSON and URL escapes, Latin-1."""
    forms = {
        "JSON escapes": json.dumps(text)[1:-1].encode(),
        "URL escapes": quote(text, safe="").encode(),
        "latin-1": text.encode("latin-1", "replace"),
    }
    for name, form in forms.items():
        if form != text.encode() and b"?" not in form:
            yield "folded", name, form.lower()


def _inner_base64(data: bytes, alignment: int) -> bytes:
    """The characters of base64 that `data` alone decides when it begins at byte `alignment` of three."""
    written = base64.b64encode(bytes(alignment) + data + bytes(2))
    return written[-(-8 * alignment // 6) : 8 * (alignment + len(data)) // 6]


class Needles:
    """All forms of all marks, ready to be looked for.

    Args:
        canaries: Whose marks.
    """

    def __init__(self, canaries: Canaries) -> None:
        """Make the needles and the set of their words."""
        found: dict[tuple[View, bytes], Needle] = {}
        for canary in canaries.canaries:
            for kind, text in canary.marks.items():
                for view, name, data in spellings(text):
                    found.setdefault((view, data), Needle(view, data, Hit(canary.id, kind, name)))
        self.longest = max(len(data) for _, data in found)
        self._words = {
            (view, size): _table(found.values(), view, size) for view in VIEWS for size, _ in WORDS
        }

    def search(self, data: bytes) -> set[Hit]:
        """Find every mark that lies wholly in `data`.

        Args:
            data: Any bytes.

        Returns:
            What was found, each once.
        """
        folded = data.lower()
        views: tuple[tuple[View, bytes], ...] = (
            ("folded", folded),
            ("squeezed", folded.translate(None, _SEPARATORS)),
            ("base64", data.translate(_STANDARD, b"\r\n")),
        )
        return {hit for view, seen in views for hit in self._search_view(view, seen)}

    def _search_view(self, view: View, seen: bytes) -> Iterator[Hit]:
        """Look for the needles of which at least one word lies in this view."""
        padded = memoryview(seen + bytes(-len(seen) % 8))
        for size, code in WORDS:
            table, cut = self._words[view, size], padded.cast(code)
            words = table.keys() & cut if table else ()
            for needle in {needle for word in words for needle in table[word]}:
                if needle.data in seen:
                    yield needle.hit


def _table(needles: Iterable[Needle], view: View, size: int) -> dict[int, list[Needle]]:
    """The words of the needles of one view that are looked for by words of this size."""
    found: defaultdict[int, list[Needle]] = defaultdict(list)
    code = dict(WORDS)[size]
    for needle in needles:
        if needle.view == view and size == next(s for s, _ in WORDS if len(needle.data) >= 2 * s - 1):
            for start in range(len(needle.data) - size + 1):
                found[memoryview(needle.data[start : start + size]).cast(code)[0]].append(needle)
    return dict(found)


def told_once(hits: set[Hit]) -> set[Hit]:
    """Leave out what says the same twice: a plain mark is there without separators as well."""
    plain = {(hit.canary, hit.mark) for hit in hits if hit.spelling == PLAIN}
    return {hit for hit in hits if hit.spelling != APART or (hit.canary, hit.mark) not in plain}
