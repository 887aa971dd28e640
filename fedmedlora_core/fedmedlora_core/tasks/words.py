"""Words of a note with their character offsets, and the alignment of copied text to the original.

A note is shown to a model as words separated by single blanks, so that a copied span is cut into the same
sub-word pieces as in the input. Offsets always refer to the original text: everything that comes back from
a model is aligned on its non-blank characters.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = ["Characters", "Word", "trim", "words_of"]

_WORD = re.compile(r"\d+(?:[.,]\d+)*|[^\W\d_][^\W_]*|\S")


@dataclass(frozen=True, slots=True)
class Word:
    """One word, number or single symbol of a note.

    Args:
        text: Its characters, none of them blank.
        start: First character in the note.
        end: One past its last character.
    """

    text: str
    start: int
    end: int


def words_of(text: str, start: int = 0, end: int | None = None) -> list[Word]:
    """Cut `text[start:end]` into words, numbers and single symbols; offsets are those of `text`.

    A number ends where letters begin (`100mg` is two words), a word may end in digits (`T4` is one).
    """
    stop = len(text) if end is None else end
    return [Word(match.group(), match.start(), match.end()) for match in _WORD.finditer(text, start, stop)]


def trim(text: str, start: int, end: int) -> tuple[int, int]:
    """Shrink a span until it neither begins nor ends with a blank; an all-blank span becomes empty."""
    while start < end and text[start].isspace():
        start += 1
    while start < end and text[end - 1].isspace():
        end -= 1
    return start, end


class Characters:
    """The non-blank characters of one window of a note, with their offsets in the note."""

    def __init__(self, text: str, start: int, end: int) -> None:
        """Collect the characters of `text[start:end]`."""
        self.offsets = [index for index in range(start, end) if not text[index].isspace()]
        self.text = "".join(text[index] for index in self.offsets)

    def __len__(self) -> int:
        """Count the non-blank characters."""
        return len(self.offsets)

    def span(self, first: int, stop: int) -> tuple[int, int]:
        """Offsets in the note of the non-blank characters `first` to `stop - 1`."""
        return self.offsets[first], self.offsets[stop - 1] + 1
