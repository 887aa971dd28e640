"""What one note may be asked: only types that somebody looked for in it.

A type outside a note's `annotated` set is never listed in its prompts and never counted as "there is none".
"""

from __future__ import annotations

from fedmedlora_core.labels import LabelSet
from fedmedlora_core.records import Note

__all__ = ["entity_types", "relation_types", "tail_type"]


def entity_types(labels: LabelSet, note: Note) -> tuple[str, ...]:
    """Entity types of the label set that were annotated in this note, in schema order."""
    return tuple(name for name in labels.entities if name in note.annotated)


def relation_types(labels: LabelSet, note: Note, head_type: str) -> tuple[str, ...]:
    """Relation types that a head of this type may have in this note: modifiers first, then links."""
    modifiers = tuple(name for name in labels.modifiers_of(head_type) if name in note.annotated)
    asked = {link.type for link in labels.links if link.head == head_type and link.tail in note.annotated}
    links = tuple(link.type for link in labels.links if link.type in asked & note.annotated)
    return modifiers + links


def tail_type(labels: LabelSet, relation_type: str) -> str:
    """Type of the span at the tail of a relation: the modifier's own, or the one that the link names."""
    return next((link.tail for link in labels.links if link.type == relation_type), relation_type)
