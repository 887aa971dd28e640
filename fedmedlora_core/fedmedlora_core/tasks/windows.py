"""Cut a note into the pieces of text that one prompt shows."""

from __future__ import annotations

from dataclasses import dataclass

from fedmedlora_core.sentences import split_sentences
from fedmedlora_core.tasks.words import words_of

__all__ = ["MAX_WORDS", "Window", "windows_of"]

MAX_WORDS = 64
"""Longest window in words; with inline mark-up it stays under 400 tokens of the small base model."""


@dataclass(frozen=True, slots=True)
class Window:
    """A piece of a note: `note.text[start:end]`, neither beginning nor ending with a blank."""

    start: int
    end: int

    def holds(self, start: int, end: int) -> bool:
        """Tell whether a span lies wholly inside this window."""
        return self.start <= start and end <= self.end


def windows_of(text: str, *, max_words: int = MAX_WORDS) -> list[Window]:
    """Cut a note into sentences, and a sentence longer than `max_words` words into pieces of that length.

    The cut does not look at annotations, so training and prediction see the same windows. A span that
    crosses a border can neither be trained nor predicted: it counts as missed.
    """
    windows = []
    for sentence in split_sentences(text):
        words = words_of(text, sentence.start, sentence.end)
        windows += [
            Window(words[first].start, words[min(first + max_words, len(words)) - 1].end)
            for first in range(0, len(words), max_words)
        ]
    return windows
