"""Modifiers of one head entity as a list of `type: words`, and back to offsets in the note.

A modifier is written as the words it covers and resolved to the occurrence nearest the head. About one
modifier in a hundred is ambiguous under this rule; the list is short in return, and conditioned on the head.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedmedlora_core.tasks.inline import Parsed, TypedSpan
from fedmedlora_core.tasks.windows import Window
from fedmedlora_core.tasks.words import Characters, words_of

__all__ = ["ListedModifier", "list_modifiers", "resolve"]

# A prompt may show square brackets of the note as round ones, because it marks the head with square ones.
_BRACKETS = str.maketrans("[]", "()")


@dataclass(frozen=True, slots=True)
class ListedModifier:
    """A modifier as a model lists it: its type and the words it covers, separated by blanks."""

    type: str
    words: str


def list_modifiers(text: str, modifiers: Iterable[TypedSpan]) -> list[ListedModifier]:
    """List modifiers in the order of the text; equal spans of one type are listed once."""
    return [
        ListedModifier(label, " ".join(word.text for word in words_of(text, start, end)))
        for start, end, label in sorted(set(modifiers))
        if text[start:end].strip()
    ]


def resolve(
    listed: Sequence[ListedModifier], text: str, window: Window, head: tuple[int, int], types: Sequence[str]
) -> Parsed:
    """Find each listed modifier in the window (nearest to the head first).

    Args:
        listed: What the model listed.
        text: The note.
        window: The piece of the note that the prompt showed.
        head: Offsets of the head entity.
        types: Modifier types that the prompt asked for.

    Returns:
        One span for each item that was found. An item of another type, or whose words do not occur, makes
        the answer malformed. A repeated item takes the next nearest occurrence.
    """
    source = Characters(text, window.start, window.end)
    borders = {
        offset for word in words_of(text, window.start, window.end) for offset in (word.start, word.end)
    }
    spans: list[TypedSpan] = []
    malformed = False
    for item in listed:
        found = [] if item.type not in types else _occurrences(item.words, source)
        # No occurrence has more pieces than was listed: "no" is not in "pain on".
        found = [span for span in found if len(text[slice(*span)].split()) <= len(item.words.split())]
        # Whole words first: the "no" of "normal" is used only if no other is there.
        ranked = sorted(found, key=lambda span: (not borders.issuperset(span), _distance(span, head), span))
        free = [span for span in ranked if (*span, item.type) not in spans]
        if free:
            spans.append((*free[0], item.type))
        else:
            malformed = True
    return Parsed(tuple(spans), malformed)


def _occurrences(words: str, source: Characters) -> list[tuple[int, int]]:
    """Every place where the non-blank characters of `words` occur, as offsets in the note."""
    wanted = "".join(words.split()).translate(_BRACKETS)
    if not wanted:
        return []
    starts = (m.start() for m in re.finditer(f"(?={re.escape(wanted)})", source.text.translate(_BRACKETS)))
    return [source.span(start, start + len(wanted)) for start in starts]


def _distance(span: tuple[int, int], head: tuple[int, int]) -> int:
    """Characters between two spans; 0 where they touch or overlap."""
    return max(0, head[0] - span[1], span[0] - head[1])
