"""Notes to prompt-and-target pairs for a causal model, and a model's outputs back to annotated notes.

One NER example is one window of a note; one RE example is one head entity in its window. The same functions
make the prompts for training (gold target) and for prediction (the target is not looked at).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from fedmedlora_core.labels import LabelSet
from fedmedlora_core.records import Entity, Note, Relation, Span
from fedmedlora_core.tasks.inline import Parsed, TypedSpan
from fedmedlora_core.tasks.relations import list_modifiers, resolve
from fedmedlora_core.tasks.scope import entity_types, relation_types, tail_type
from fedmedlora_core.tasks.templates import Template
from fedmedlora_core.tasks.windows import MAX_WORDS, Window, windows_of

__all__ = [
    "Example",
    "Task",
    "entity_examples",
    "examples_of",
    "heads_of",
    "read_output",
    "relation_examples",
    "tails_of",
    "with_entities",
    "with_relations",
]

Task = Literal["ner", "re"]


@dataclass(frozen=True, slots=True)
class Example:
    """One prompt with its gold answer.

    Args:
        task: "ner" or "re".
        note_index: Position of the note in the list that the examples were made from.
        window: The piece of the note that the prompt shows.
        types: Types that the prompt asks for.
        prompt: What the model reads.
        target: What it should write, without the end mark.
        head: Head entity of an RE example.
    """

    task: Task
    note_index: int
    window: Window
    types: tuple[str, ...]
    prompt: str
    target: str
    head: Entity | None = None


def entity_examples(
    notes: Sequence[Note], labels: LabelSet, template: Template, *, max_words: int = MAX_WORDS
) -> list[Example]:
    """Make one NER example for each window of each note that has annotated entity types."""
    found = []
    for index, note in enumerate(notes):
        types = entity_types(labels, note)
        if not types:
            continue
        spans = [(e.start, e.end, e.type) for e in note.entities if e.type in types]
        for window in windows_of(note.text, max_words=max_words):
            found.append(
                Example(
                    "ner",
                    index,
                    window,
                    types,
                    template.entity_prompt(note.text, window, types),
                    template.entity_target(note.text, window, spans),
                )
            )
    return found


def relation_examples(
    notes: Sequence[Note], labels: LabelSet, template: Template, *, max_words: int = MAX_WORDS
) -> list[Example]:
    """Make one RE example for each entity that lies in a window and may have relations."""
    found = []
    for index, note in enumerate(notes):
        tails = tails_of(note)
        for window, head, types in heads_of(note, labels, max_words):
            inside = [t for t in tails[head.id] if window.holds(t[0], t[1]) and t[2] in types]
            found.append(
                Example(
                    "re",
                    index,
                    window,
                    types,
                    template.relation_prompt(note.text, window, (head.start, head.end, head.type), types),
                    template.relation_target(list_modifiers(note.text, inside)),
                    head,
                )
            )
    return found


def examples_of(
    notes: Sequence[Note],
    labels: LabelSet,
    template: Template,
    tasks: Iterable[Task],
    *,
    max_words: int = MAX_WORDS,
) -> list[Example]:
    """Make the examples of several tasks, NER first."""
    wanted = set(tasks)
    found: list[Example] = []
    if "ner" in wanted:
        found += entity_examples(notes, labels, template, max_words=max_words)
    if "re" in wanted:
        found += relation_examples(notes, labels, template, max_words=max_words)
    return found


def read_output(example: Example, note: Note, template: Template, output: str) -> Parsed:
    """Read a model's output for an example back into spans of the note."""
    if example.head is None:
        return template.read_entities(output, note.text, example.window, example.types)
    listed, malformed = template.read_list(output)
    head = (example.head.start, example.head.end)
    parsed = resolve(listed, note.text, example.window, head, example.types)
    return Parsed(parsed.spans, parsed.malformed or malformed)


def with_entities(note: Note, spans: Iterable[TypedSpan]) -> Note:
    """Return the note with these spans as its only entities, and no relations."""
    unique = sorted(set(spans))
    entities = tuple(Entity(f"P{i}", label, start, end) for i, (start, end, label) in enumerate(unique, 1))
    return replace(note, entities=entities, relations=())


def with_relations(
    note: Note, labels: LabelSet, answers: Iterable[tuple[Entity, Iterable[TypedSpan]]]
) -> Note:
    """Return a note that keeps its entities and has these relations, with the modifiers they need.

    Args:
        note: A note whose entities are the heads; its modifiers and relations are replaced.
        labels: The label set, which says what a relation's tail is.
        answers: For each head, its tails as (start, end, relation type).
    """
    entities = [e for e in note.entities if labels.is_entity(e.type)]
    by_span = {entity.span: entity.id for entity in entities}
    relations: dict[Relation, None] = {}
    for head, tails in answers:
        for start, end, relation_type in tails:
            span = Span(start, end, tail_type(labels, relation_type))
            if span not in by_span:
                by_span[span] = f"M{len(by_span) + 1}"
                entities.append(Entity(by_span[span], span.type, start, end))
            relations[Relation(head.id, relation_type, by_span[span])] = None
    return replace(note, entities=tuple(entities), relations=tuple(relations))


def heads_of(
    note: Note, labels: LabelSet, max_words: int
) -> Iterator[tuple[Window, Entity, tuple[str, ...]]]:
    """Every entity that may have relations, with the window that holds it."""
    windows = windows_of(note.text, max_words=max_words)
    heads = sorted((e for e in note.entities if labels.is_entity(e.type)), key=lambda e: (e.start, e.end))
    position = 0
    for head in heads:
        while position < len(windows) and windows[position].end <= head.start:
            position += 1
        types = relation_types(labels, note, head.type)
        if types and position < len(windows) and windows[position].holds(head.start, head.end):
            yield windows[position], head, types


def tails_of(note: Note) -> defaultdict[str, list[TypedSpan]]:
    """Tails of each head id, as (start, end, relation type)."""
    by_id = {entity.id: entity for entity in note.entities}
    tails: defaultdict[str, list[TypedSpan]] = defaultdict(list)
    for link in note.relations:
        tail = by_id[link.tail]
        tails[link.head].append((tail.start, tail.end, link.type))
    return tails
