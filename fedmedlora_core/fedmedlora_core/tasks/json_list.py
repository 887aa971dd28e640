"""Entities as a JSON list of `{"entity": type, "text": words}`, and back to character offsets of the note.

A list says words, not places. The rule that gives it places, for training and prediction alike: items stand
in the order of the text; an item takes the first occurrence of its words that no earlier item has taken and
that begins no earlier than the item before it, or else the first one that is free at all. Whole words come
first: the "no" of "normal" is taken only if no other is there. An occurrence is taken once, so no prediction
is credited twice.

About one mention in a hundred is ambiguous under this rule: an earlier mention of the same words that was not
annotated is taken in its place. Inline mark-up has no such limit; a list is shorter in return.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fedmedlora_core.tasks.inline import Parsed, TypedSpan
from fedmedlora_core.tasks.windows import Window
from fedmedlora_core.tasks.words import Characters, trim, words_of

__all__ = ["ListedEntity", "align", "listable", "read_json", "write_json"]

_KEYS = {"entity", "text"}


@dataclass(frozen=True, slots=True)
class ListedEntity:
    """One item of a list: a type and the words it covers."""

    type: str
    words: str


def write_json(items: Iterable[ListedEntity]) -> str:
    """Write items on one line."""
    return json.dumps([{"entity": item.type, "text": item.words} for item in items], ensure_ascii=False)


def read_json(output: str) -> tuple[list[ListedEntity], bool]:
    """Read a list as a model wrote it.

    Returns:
        (the items that could be read, whether anything could not). What is no JSON list is read as an empty
        one: nothing is guessed.
    """
    try:
        # The deepest output that a limit on tokens admits would exhaust the reader's stack.
        found: Any = json.loads(output, parse_constant=_refuse)
    except (ValueError, RecursionError):
        return [], True
    if not isinstance(found, list):
        return [], True
    kept = [ListedEntity(item["entity"], item["text"]) for item in found if _is_item(item)]
    return kept, len(kept) < len(found)


def listable(text: str, window: Window, spans: Iterable[TypedSpan]) -> list[TypedSpan]:
    """Select the spans of a window that a list can express, in the order of the text.

    Spans are trimmed of blanks; those outside the window or empty are left out, and of two types of one span
    the second: an occurrence is taken once.
    """
    trimmed = {(*trim(text, start, end), label) for start, end, label in spans if window.holds(start, end)}
    chosen: dict[tuple[int, int], str] = {}
    for start, end, label in sorted(trimmed):
        if start < end:
            chosen.setdefault((start, end), label)
    return [(start, end, label) for (start, end), label in chosen.items()]


def align(items: Sequence[ListedEntity], text: str, window: Window, types: Collection[str]) -> Parsed:
    """Give listed entities their places in the note, by the rule of this module.

    Args:
        items: What the model listed.
        text: The note.
        window: The piece of the note that the prompt showed.
        types: Types that the prompt asked for.

    Returns:
        One span for each item that has a place. An item of another type, or whose words do not occur (again),
        makes the answer malformed.
    """
    source = Characters(text, window.start, window.end)
    borders = {edge for word in words_of(text, window.start, window.end) for edge in (word.start, word.end)}
    taken: set[tuple[int, int]] = set()
    spans: list[TypedSpan] = []
    previous, malformed = window.start, False
    for item in items:
        free = [] if item.type not in types else _occurrences(item.words, text, source)
        free = [span for span in free if span not in taken]
        if not free:
            malformed = True
            continue
        place = min(free, key=lambda s: (not borders.issuperset(s), s[0] < previous, s))
        taken.add(place)
        previous = place[0]
        spans.append((*place, item.type))
    return Parsed(tuple(spans), malformed)


def _occurrences(words: str, text: str, source: Characters) -> list[tuple[int, int]]:
    """Every place of the window with the characters of `words`, in no more pieces than they have."""
    pieces = words.split()
    wanted, found, at = "".join(pieces), [], -1
    while wanted and (at := source.text.find(wanted, at + 1)) >= 0:
        span = source.span(at, at + len(wanted))
        if len(text[slice(*span)].split()) <= len(pieces):
            found.append(span)
    return found


def _is_item(item: Any) -> bool:
    """Tell whether a value of a list is an object of two strings."""
    return isinstance(item, dict) and set(item) == _KEYS and all(isinstance(v, str) for v in item.values())


def _refuse(constant: str) -> Any:
    """NaN and infinities are no JSON."""
    raise ValueError(constant)
