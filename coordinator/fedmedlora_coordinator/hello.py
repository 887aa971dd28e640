"""The first bytes of a caller: whether they begin TLS, and when its first record is whole (sans I/O).

Who says nothing, says it slowly, or speaks something else costs the door a few bytes of memory, and gRPC
nothing. Nothing is decided on what the record says: that is for TLS, which gets it unchanged.
"""

from enum import Enum
from typing import Final

HANDSHAKE: Final = 0x16  # content type of the record (RFC 8446, 5.1)
MAJOR_VERSION: Final = 3
HEAD_BYTES: Final = 5
MOST_BYTES: Final = 1 << 14  # of one record
CLIENT_HELLO: Final = 1


class Heard(Enum):
    """What the bytes so far are."""

    BEGINNING = "beginning"
    WHOLE = "whole"
    SOMETHING_ELSE = "something else"


class Hello:
    """The bytes of one caller until the first record is whole; at most one read more than that."""

    def __init__(self) -> None:
        """Start with nothing heard."""
        self._heard = bytearray()

    def take(self, data: bytes) -> Heard:
        """Take the next bytes, and say what they are together with those before."""
        self._heard += data
        heard = self._heard
        for at, wanted in ((0, HANDSHAKE), (1, MAJOR_VERSION), (HEAD_BYTES, CLIENT_HELLO)):
            if len(heard) > at and heard[at] != wanted:
                return Heard.SOMETHING_ELSE
        if len(heard) < HEAD_BYTES:
            return Heard.BEGINNING
        length = int.from_bytes(heard[3:HEAD_BYTES], "big")
        if not 0 < length <= MOST_BYTES:
            return Heard.SOMETHING_ELSE
        return Heard.WHOLE if len(heard) >= HEAD_BYTES + length else Heard.BEGINNING

    def whole(self) -> bytes:
        """Give the bytes away, to be carried on."""
        found = bytes(self._heard)
        self._heard.clear()
        return found
