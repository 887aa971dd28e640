"""Entities as inline mark-up: copy the text with `<span class="type"> … </span>` around each entity.

Both directions are here: annotated text to pieces (for the templates to join) and a model's output back to
character offsets of the note. Nested spans are written properly nested; of two spans that cross, the one
that starts later is left out, because mark-up cannot express it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from difflib import SequenceMatcher
from itertools import pairwise

from fedmedlora_core.tasks.windows import Window
from fedmedlora_core.tasks.words import Characters, trim, words_of

__all__ = [
    "Marked",
    "Parsed",
    "TypedSpan",
    "close_tag",
    "markable",
    "marked_words",
    "open_tag",
    "parse_marked",
]

TypedSpan = tuple[int, int, str]
"""(start, end, type) in characters of the note."""

_PIECE = re.compile(r'<span class="([^"]*)">|(</span>)|(\S)')


@dataclass(frozen=True, slots=True)
class Marked:
    """One piece of marked text: a word, or a tag (`start == end`)."""

    text: str
    start: int
    end: int


@dataclass(frozen=True)
class Parsed:
    """What a model's output says.

    Args:
        spans: Spans in characters of the note, in the order they were closed.
        malformed: The output is no exact copy, has unbalanced tags or unknown types; `spans` holds what could
            be aligned all the same.
    """

    spans: tuple[TypedSpan, ...]
    malformed: bool


def open_tag(label: str) -> str:
    """Return the tag that begins an entity of a type."""
    return f'<span class="{label}">'


def close_tag() -> str:
    """Return the tag that ends the innermost open entity."""
    return "</span>"


def markable(text: str, window: Window, spans: Iterable[TypedSpan]) -> list[TypedSpan]:
    """Select the spans that mark-up of this window can express, outermost first.

    Spans are trimmed of blanks; those outside the window, empty, repeated or crossing an earlier one are left
    out.
    """
    trimmed = {(*trim(text, start, end), label) for start, end, label in spans if window.holds(start, end)}
    chosen: list[TypedSpan] = []
    open_ends: list[int] = []
    for start, end, label in sorted(trimmed, key=lambda span: (span[0], -span[1], span[2])):
        while open_ends and open_ends[-1] <= start:
            open_ends.pop()
        if start >= end or (open_ends and end > open_ends[-1]):
            continue
        open_ends.append(end)
        chosen.append((start, end, label))
    return chosen


def marked_words(text: str, window: Window, spans: Iterable[TypedSpan]) -> list[Marked]:
    """Cut a window into words and tags; a word is split where a span begins or ends inside it."""
    chosen = markable(text, window, spans)
    cuts = {offset for start, end, _ in chosen for offset in (start, end)}
    pieces: list[Marked] = []
    waiting = chosen[::-1]
    open_ends: list[int] = []
    for word in words_of(text, window.start, window.end):
        edges = [word.start, *sorted(cut for cut in cuts if word.start < cut < word.end), word.end]
        for start, end in pairwise(edges):
            while waiting and waiting[-1][0] == start:
                _, span_end, label = waiting.pop()
                pieces.append(Marked(open_tag(label), start, start))
                open_ends.append(span_end)
            pieces.append(Marked(text[start:end], start, end))
            while open_ends and open_ends[-1] == end:
                open_ends.pop()
                pieces.append(Marked(close_tag(), end, end))
    return pieces


def parse_marked(output: str, text: str, window: Window, types: Collection[str]) -> Parsed:
    """Read a model's output back into spans of the note.

    Args:
        output: What the model wrote, without the end mark.
        text: The note.
        window: The piece of the note that the prompt showed.
        types: Entity types that the prompt asked for; a span of another type makes the output malformed.

    Returns:
        Spans with exact offsets. The copy is compared on non-blank characters. If it differs from the text,
        the output is malformed, and a span is kept only if all its characters stand in one piece that is the
        same in both (the longest common pieces, in order).
    """
    source = Characters(text, window.start, window.end)
    characters, marks, malformed = _read(output)
    place = _alignment("".join(characters), source.text)
    malformed = malformed or place != list(range(len(source)))
    spans: list[TypedSpan] = []
    for first, stop, label in marks:
        start = place[first] if first < stop else None
        whole = start is not None and place[first:stop] == list(range(start, start + stop - first))
        if start is not None and whole and label in types:
            spans.append((*source.span(start, start + stop - first), label))
        else:
            malformed = True
    return Parsed(tuple(spans), malformed)


def _read(output: str) -> tuple[list[str], list[tuple[int, int, str]], bool]:
    """Split an output into its non-blank characters and the marked stretches of them.

    Returns:
        (characters, (first, stop, type) of each closed tag pair, whether a tag had no partner).
    """
    characters: list[str] = []
    marks: list[tuple[int, int, str]] = []
    stack: list[tuple[int, str]] = []
    unbalanced = False
    for match in _PIECE.finditer(output):
        label, closing, character = match.groups()
        if character is not None:
            characters.append(character)
        elif closing is None:
            stack.append((len(characters), label))
        elif stack:
            first, label = stack.pop()
            marks.append((first, len(characters), label))
        else:
            unbalanced = True
    return characters, marks, unbalanced or bool(stack)


def _alignment(copied: str, source: str) -> list[int | None]:
    """Place in the source of each copied character; None where the copy has something else."""
    if copied == source:
        return list(range(len(source)))
    place: list[int | None] = [None] * len(copied)
    for block in SequenceMatcher(None, source, copied, autojunk=False).get_matching_blocks():
        place[block.b : block.b + block.size] = range(block.a, block.a + block.size)
    return place
