"""JSON Lines: the event's own fields, and five more to go back to the proof (AUDIT "Exports").

Without the five fields a row is the event's text; with `signature` as its last line it is the note again, and
the hash of that is `leaf_hash`. So this form alone can be checked without the bundle's tiles.
"""

import json
from collections.abc import Mapping
from typing import Any, Final

import rfc8785

from fedmedlora_audit.errors import AuditError, ExportError
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.export.record import VERIFICATION, Record
from fedmedlora_audit.merkle import leaf_hash

ADDED: Final = ("leaf_hash", "leaf_index", "receipt_index", "signature", "verification")
"""Fields that an event does not have."""


def native_row(record: Record) -> dict[str, Any]:
    """Return the event's fields with the five that are added."""
    return {
        **json.loads(record.entry.note.partition(b"\n")[0]),
        "leaf_index": record.entry.index,
        "leaf_hash": record.leaf,
        "receipt_index": record.receipt,
        "signature": record.signature_line,
        "verification": record.verification,
    }


def note_of(row: Mapping[str, Any]) -> bytes:
    """Return the signed note that a row was made from."""
    event = {name: value for name, value in row.items() if name not in ADDED}
    return rfc8785.dumps(event) + f"\n\n{row['signature']}\n".encode()


def check_native(row: Mapping[str, Any]) -> None:
    """Judge a row: its note has its leaf hash and is an event.

    Raises:
        ExportError: It has not, or is none.
    """
    index = row.get("leaf_index")
    missing = [name for name in ADDED if name not in row]
    if missing:
        raise ExportError(f"the row of entry {index} lacks {missing[0]}")
    try:
        note = note_of(row)
        parse_event(note)
    except (AuditError, ValueError):
        raise ExportError(f"the row of entry {index} is no event") from None
    if leaf_hash(note).hex() != row["leaf_hash"]:
        raise ExportError(f"the row of entry {index} is not the entry of its leaf hash")
    if row["verification"] not in VERIFICATION.values() or type(index) is not int:
        raise ExportError(f"the row of entry {index} does not say where it is from")
