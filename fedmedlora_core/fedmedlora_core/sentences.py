"""Sentences of a note as character offsets into its text.

Rules: a line break ends a sentence (notes use lines as lists use bullets); so does `.`, `?` or `!` before a
blank and something that can begin a sentence, unless the word before it is an abbreviation, a single letter
or a list number. A full stop that stands alone between blanks always ends one. Sentences carry no blanks at
their edges, never overlap, and together cover every visible character of the text.

What this module leaves out: knowledge of spans. A span that crosses a boundary belongs to no sentence, at
training and at test time alike; a splitter that looked at the gold would help the model at test time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

_END = re.compile(r"[.?!]+[\"')\]]*(?=[ \t])")
_OPENING = re.compile(r"[ \t]+[\"'(\[]?[A-Z0-9]")
_ABBREVIATIONS = frozenset(
    [
        "a.m",
        "al",
        "approx",
        "b.i.d",
        "cm",
        "dept",
        "dr",
        "e.g",
        "etc",
        "fig",
        "hosp",
        "i.e",
        "i.v",
        "inc",
        "jr",
        "mm",
        "mr",
        "mrs",
        "ms",
        "p.m",
        "p.o",
        "prof",
        "pt",
        "q.d",
        "q.i.d",
        "resp",
        "sr",
        "st",
        "t.i.d",
        "temp",
        "vol",
        "vs",
    ]
)


@dataclass(frozen=True, order=True, slots=True)
class Sentence:
    """A stretch of a note's text: half open, in characters, without blanks at its edges."""

    start: int
    end: int


def split_sentences(text: str, *, max_chars: int | None = None) -> list[Sentence]:
    """Split a text into sentences.

    Args:
        text: The text as it is.
        max_chars: Longest sentence, in characters; a longer one is cut at its last blank before the limit (or
            at the limit where it has none). None for no limit.

    Returns:
        Sentences in order; empty for a text of blanks.
    """
    found: list[Sentence] = []
    for start, end in _line_spans(text):
        for left, right in _split_line(text, start, end):
            found.extend(_cut(text, left, right, max_chars))
    return found


def _line_spans(text: str) -> Iterator[tuple[int, int]]:
    """The lines of a text, without their line breaks."""
    start = 0
    for match in re.finditer(r"[\r\n\f\v\x85\u2028\u2029]+", text):
        yield start, match.start()
        start = match.end()
    yield start, len(text)


def _split_line(text: str, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Split one line at the ends of its sentences."""
    left = start
    for match in _END.finditer(text, start, end):
        if _ends_sentence(text, left, match, end):
            yield left, match.end()
            left = match.end()
    yield left, end


def _ends_sentence(text: str, left: int, match: re.Match[str], end: int) -> bool:
    """Whether a full stop, question or exclamation mark ends the sentence that began at `left`."""
    position = match.start()
    if position > left and text[position - 1] in " \t":
        return True
    if not _OPENING.match(text, match.end(), end):
        return False
    if text[position] != ".":
        return True
    first = position
    while first > left and not text[first - 1].isspace():  # not a search for `\S*$`: quadratic in the word
        first -= 1
    word = text[first:position].lstrip("\"'([")
    is_list_number = word.isdigit() and not text[left : position - len(word)].strip()
    is_initial = len(word) == 1 and word.isalpha()
    return not (is_list_number or is_initial or word.lower() in _ABBREVIATIONS)


def _cut(text: str, start: int, end: int, max_chars: int | None) -> Iterator[Sentence]:
    """Trim blanks and cut what is longer than the limit."""
    while start < end:
        while start < end and text[start].isspace():
            start += 1
        stop = end
        while stop > start and text[stop - 1].isspace():
            stop -= 1
        if start == stop:
            return
        if max_chars is None or stop - start <= max_chars:
            yield Sentence(start, stop)
            return
        blank = max((text.rfind(mark, start + 1, start + max_chars + 1) for mark in " \t"), default=-1)
        cut = blank if blank > start else start + max_chars
        yield from _cut(text, start, cut, None)
        start = cut
