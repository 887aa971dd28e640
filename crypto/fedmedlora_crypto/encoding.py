"""Canonical bytes: length-prefixed fields for hashing, and a strict reader for payloads (PROTOCOL §6.1).

A payload has exactly one encoding (R6.1.2). The reader takes fixed-size pieces and refuses what is left
over, so that `encode(decode(data)) == data` holds for everything that decodes.
"""

import hashlib

from fedmedlora_crypto.errors import MalformedError

LENGTH_BYTES = 4
INDEX_BYTES = 2
COUNT_BYTES = 2
DIGEST_BYTES = 32


def encode_fields(*fields: bytes) -> bytes:
    """Join fields, each behind its length, so that no two lists give the same bytes (R6.1.1)."""
    return b"".join(len(field).to_bytes(LENGTH_BYTES, "big") + field for field in fields)


def digest_fields(label: bytes, *fields: bytes) -> bytes:
    """Hash a label and fields with SHA-256."""
    return hashlib.sha256(encode_fields(label, *fields)).digest()


def encode_index(index: int) -> bytes:
    """Write a party index; 1 <= index < 2**16."""
    return index.to_bytes(INDEX_BYTES, "big")


class Reader:
    """Reads fixed-size pieces of a payload and demands that nothing is left over."""

    def __init__(self, data: bytes, *, party: int | None) -> None:
        """Start at the first byte; `party` is blamed for whatever is wrong."""
        self._data = data
        self._at = 0
        self._party = party

    def take(self, size: int) -> bytes:
        """Return the next `size` bytes.

        Raises:
            MalformedError: Fewer are left.
        """
        piece = self._data[self._at : self._at + size]
        if len(piece) != size:
            raise MalformedError("payload is too short", party=self._party)
        self._at += size
        return piece

    def number(self, size: int) -> int:
        """Return the next `size` bytes as a big-endian number."""
        return int.from_bytes(self.take(size), "big")

    def end(self) -> None:
        """Demand that the payload ends here.

        Raises:
            MalformedError: Bytes are left over.
        """
        if self._at != len(self._data):
            raise MalformedError("payload is too long", party=self._party)
