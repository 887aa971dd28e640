"""Entities and relations as word tags (IOB2), for models that classify tokens.

NER tags the entities of a window. RE is posed for one head entity, which stands in brackets after a prefix
that names its type, and tags its tails with the relation type. One set of tags serves both; each example
says which tags it may use, so a type that a note is not annotated for is left out of loss and prediction
alike: a missing label is never a negative.

Tags cannot nest: of two spans that share a word the longer one is kept.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from fedmedlora_core.labels import LabelSet
from fedmedlora_core.records import Entity, Note
from fedmedlora_core.tasks.examples import Task, heads_of, tails_of
from fedmedlora_core.tasks.inline import TypedSpan
from fedmedlora_core.tasks.scope import entity_types
from fedmedlora_core.tasks.windows import MAX_WORDS, windows_of
from fedmedlora_core.tasks.words import Word, words_of

__all__ = ["OUTSIDE", "TagExample", "read_tags", "tag_examples", "tag_names", "tags_of"]

OUTSIDE = "O"


@dataclass(frozen=True, slots=True)
class TagExample:
    """Words of one input; `words[i]` is None where the input has a prefix or a bracket.

    Args:
        note_index: Position of the note in the list that the examples were made from.
        texts: What the model reads, word by word.
        words: The note's word at each place, or None.
        types: Types that may be tagged here.
        tags: Gold tag of each place; `OUTSIDE` where `words` is None.
        head: Head entity of an RE example.
    """

    note_index: int
    texts: tuple[str, ...]
    words: tuple[Word | None, ...]
    types: tuple[str, ...]
    tags: tuple[str, ...]
    head: Entity | None = None


def tag_names(labels: LabelSet) -> tuple[str, ...]:
    """All tags of a label set in a fixed order: outside, then begin and inside of each type."""
    types = (*labels.entities, *labels.modifiers, *(link.type for link in labels.links))
    return (OUTSIDE, *(f"{part}-{name}" for name in types for part in "BI"))


def tag_examples(
    notes: Sequence[Note], labels: LabelSet, tasks: Iterable[Task], *, max_words: int = MAX_WORDS
) -> list[TagExample]:
    """Make the examples of several tasks, NER first; see `tasks.examples.examples_of`."""
    wanted = set(tasks)
    found = []
    for index, note in enumerate(notes if "ner" in wanted else ()):
        types = entity_types(labels, note)
        spans = [(e.start, e.end, e.type) for e in note.entities if e.type in types]
        for window in windows_of(note.text, max_words=max_words) if types else ():
            words = words_of(note.text, window.start, window.end)
            found.append(_example(index, ("entities", ":"), words, types, tags_of(words, spans), None))
    for index, note in enumerate(notes if "re" in wanted else ()):
        tails = tails_of(note)
        for window, head, types in heads_of(note, labels, max_words):
            words = words_of(note.text, window.start, window.end)
            spans = [tail for tail in tails[head.id] if tail[2] in types]
            tags = tags_of(words, spans)
            found.append(_example(index, ("modifiers", "of", head.type, ":"), words, types, tags, head))
    return found


def tags_of(words: Sequence[Word], spans: Iterable[TypedSpan]) -> list[str]:
    """Tag each word; a word belongs to a span that covers any of it, to the longest where several do."""
    tags = [OUTSIDE] * len(words)
    for start, end, label in sorted(set(spans), key=lambda span: (span[0] - span[1], span)):
        inside = [i for i, word in enumerate(words) if word.start < end and start < word.end]
        whole = inside and words[inside[0]].start <= start and end <= words[inside[-1]].end
        if whole and all(tags[i] == OUTSIDE for i in inside):
            tags[inside[0]] = f"B-{label}"
            for i in inside[1:]:
                tags[i] = f"I-{label}"
    return tags


def read_tags(words: Sequence[Word], tags: Sequence[str]) -> list[TypedSpan]:
    """Read tags back into spans of the note; an inside tag that continues nothing begins a span."""
    spans: list[TypedSpan] = []
    label = ""
    for word, tag in zip(words, tags, strict=True):
        kind, _, name = tag.partition("-")
        if kind == "I" and name == label:
            start, _, _ = spans.pop()
            spans.append((start, word.end, label))
        else:
            label = name
            if name:
                spans.append((word.start, word.end, name))
    return spans


def _example(
    note_index: int,
    prefix: Sequence[str],
    words: Sequence[Word],
    types: tuple[str, ...],
    tags: Sequence[str],
    head: Entity | None,
) -> TagExample:
    """Put the prefix before the words, and brackets around the head."""
    rows: list[tuple[str, Word | None, str]] = [(text, None, OUTSIDE) for text in prefix]
    opened = closed = head is None
    for word, tag in zip(words, tags, strict=True):
        if head is not None and not opened and word.end > head.start:
            rows.append(("[", None, OUTSIDE))
            opened = True
        if head is not None and not closed and word.start >= head.end:
            rows.append(("]", None, OUTSIDE))
            closed = True
        rows.append((word.text, word, tag))
    if not closed:
        rows.append(("]", None, OUTSIDE))
    texts, places, all_tags = zip(*rows, strict=True)
    return TagExample(note_index, tuple(texts), tuple(places), types, tuple(all_tags), head)
