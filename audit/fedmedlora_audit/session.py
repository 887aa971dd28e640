"""Names of a session that everybody computes alone: sid, view, list digests (G34, G36, AUDIT "Sessions").

``sid`` binds log, charter, round, attempt, purpose, base and suite: a message made for one session fits no
other. ``view`` binds the sid and U1 with the digest of every site's keys: all parties hold the same keys, or
differ at once.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import rfc8785

from fedmedlora_audit.event_data import IdDigest

LABEL_SID: Final = b"fedmedlora/v1/sid\0"
LABEL_VIEW: Final = b"fedmedlora/v1/view\0"


def session_id(
    *, origin: str, charter: str, round_number: int, attempt: int, purpose: str, base: str, suite: str
) -> str:
    """Return the sid of a session (G36), 64 hex characters."""
    # R5.5.1
    hasher = hashlib.sha256(LABEL_SID)
    for field in (origin, charter, str(round_number), str(attempt), purpose, base, suite):
        encoded = field.encode()
        hasher.update(len(encoded).to_bytes(4, "big") + encoded)
    return hasher.hexdigest()


def list_json(rows: Iterable[IdDigest]) -> bytes:
    """Return the canonical JSON of a list of (id, digest), sorted by id."""
    ordered = sorted(rows, key=lambda row: row.id)
    return rfc8785.dumps([{"digest": row.digest, "id": row.id} for row in ordered])


def list_hash(rows: Iterable[IdDigest]) -> str:
    """Return H(U2) or H(U3), 64 hex characters (G34)."""
    # R5.5.2
    return hashlib.sha256(list_json(rows)).hexdigest()


def view_of(sid: str, u1: Iterable[IdDigest]) -> str:
    """Return the view of a session with this U1, 64 hex characters."""
    return hashlib.sha256(LABEL_VIEW + bytes.fromhex(sid) + list_json(u1)).hexdigest()
