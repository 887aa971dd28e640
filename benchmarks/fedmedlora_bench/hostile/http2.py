"""Bytes of HTTP/2 and gRPC, made by hand: a client library would not send what is wrong on purpose.

Headers are literals without a table and without Huffman's code, which every HTTP/2 server reads.
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "ACK",
    "CONTINUATION",
    "DATA",
    "HEADERS",
    "HEAD_BYTES",
    "PREFACE",
    "SETTINGS",
    "call",
    "frame",
    "giant_call",
    "headers",
]

DATA: Final = 0
HEADERS: Final = 1
SETTINGS: Final = 4
CONTINUATION: Final = 9
ACK: Final = 1
END_STREAM: Final = 1
END_HEADERS: Final = 4
HEAD_BYTES: Final = 9


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Write one frame (RFC 9113, 4.1)."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)


def headers(method: str) -> bytes:
    """Write the header block of a call of the federation's service."""
    fields = {
        ":method": "POST",
        ":scheme": "https",
        ":path": f"/fedmedlora.v1.Federation/{method}",
        ":authority": "coordinator",
        "te": "trailers",
        "content-type": "application/grpc",
    }
    return b"".join(_literal(name) + _string(value) for name, value in fields.items())


def call(method: str, message: bytes, stream: int) -> bytes:
    """Write a whole unary call."""
    body = b"\0" + len(message).to_bytes(4, "big") + message
    return frame(HEADERS, END_HEADERS, stream, headers(method)) + frame(DATA, END_STREAM, stream, body)


def giant_call(method: str, announced: int, sent: int, stream: int) -> bytes:
    """Write a call whose message announces more bytes than any may have, and its first bytes."""
    body = b"\0" + announced.to_bytes(4, "big") + bytes(sent)
    pieces = [body[at : at + 16_384] for at in range(0, len(body), 16_384)]
    data = b"".join(frame(DATA, 0, stream, piece) for piece in pieces)
    return frame(HEADERS, END_HEADERS, stream, headers(method)) + data


def _literal(name: str) -> bytes:
    return b"\0" + _string(name)


def _string(text: str) -> bytes:
    """A string of less than 127 bytes."""
    return bytes([len(text)]) + text.encode("ascii")
