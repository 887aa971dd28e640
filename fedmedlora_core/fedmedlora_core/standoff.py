"""Writing a note's spans and relations as BRAT standoff (.ann) and as plain JSON.

Offsets are in characters of the note's text as it is, so the output lies beside the original file and any
BRAT tool shows it there.
"""

from __future__ import annotations

import re
from typing import Any

from fedmedlora_core.records import Note

_LINE_BREAKS = re.compile(r"[\t\n\v\f\r\x1c-\x1e\x85\u2028\u2029]")


def to_standoff(note: Note) -> str:
    """Write a note's annotations as the content of a .ann file.

    Args:
        note: A note, usually predicted.

    Returns:
        One `T` line per span and one `R` line per relation; empty for a note without annotations.
    """
    lines = []
    names = {}
    for number, entity in enumerate(note.entities, start=1):
        names[entity.id] = f"T{number}"
        covered = _LINE_BREAKS.sub(" ", note.text[entity.start : entity.end])
        lines.append(f"T{number}\t{entity.type} {entity.start} {entity.end}\t{covered}\n")
    for number, relation in enumerate(note.relations, start=1):
        head, tail = names[relation.head], names[relation.tail]
        lines.append(f"R{number}\t{relation.type} Arg1:{head} Arg2:{tail}\n")
    return "".join(lines)


def to_json(note: Note) -> dict[str, Any]:
    """Describe a note's annotations with their text, for people and scripts.

    Args:
        note: A note, usually predicted.

    Returns:
        `document_id`, `entities` (id, type, start, end, text) and `relations` (head, type, tail).
    """
    return {
        "document_id": note.document_id,
        "entities": [
            {
                "id": entity.id,
                "type": entity.type,
                "start": entity.start,
                "end": entity.end,
                "text": note.text[entity.start : entity.end],
            }
            for entity in note.entities
        ],
        "relations": [
            {"head": relation.head, "type": relation.type, "tail": relation.tail}
            for relation in note.relations
        ],
    }
