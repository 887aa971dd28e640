"""Who may have signed a bundle's manifest: the parties with the keys that the log leads to.

A manifest is opened before the log is judged, and a member that changed its event key signs with the new one.
So the rotations alone are read first, each under the key before it; one that does not hold changes nothing.
Whether the log as a whole is lawful is judged afterwards.
"""

from collections.abc import Mapping
from typing import Final

from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.member_keys import KeyBook
from fedmedlora_audit.tiles import claimed_size, read_entries, read_remains
from fedmedlora_audit.trust import Trust

_MARK: Final = b'"type":"key.rotated"'


def later_keys(files: Mapping[str, bytes], trust: Trust) -> KeyBook:
    """Return the parties' keys at the end of the log.

    Args:
        files: The bundle's files by path; few logs have rotations, and then the entries are not even read.
        trust: Names the first keys.
    """
    book = trust.key_book()
    if not any(_MARK in content for path, content in files.items() if path.startswith("tile/entries/")):
        return book
    size = claimed_size(files)
    notes, problem = read_entries(files, size)
    remains = read_remains(files, size) if problem is not None else None
    left = dict(enumerate(notes)) if remains is None else remains.notes
    for index, note in left.items():
        if _MARK not in note:
            continue
        try:
            unverified = parse_event(note)
            key = book.event_key_of(unverified.event.actor)
            if key is not None:
                book.take(index, unverified.verify(key))
        except AuditError:
            continue
    return book
