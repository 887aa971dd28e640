"""The first bytes of a caller: a TLS record is waited for, anything else is known by its first bytes."""

from __future__ import annotations

import ssl
from contextlib import suppress

import pytest

from fedmedlora_coordinator.hello import MOST_BYTES, Heard, Hello


def client_hello() -> bytes:
    outgoing = ssl.MemoryBIO()
    tls = ssl.create_default_context().wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="coordinator")
    with suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_a_hello_that_comes_byte_by_byte_is_whole_with_its_last_byte_and_unchanged() -> None:
    # R3.1.5
    hello, sent = Hello(), client_hello()
    found = [hello.take(bytes([byte])) for byte in sent]
    assert found == [Heard.BEGINNING] * (len(sent) - 1) + [Heard.WHOLE]
    assert hello.whole() == sent


def test_what_comes_after_the_first_record_is_handed_over_too() -> None:
    hello, sent = Hello(), client_hello() + b"more"
    assert hello.take(sent) is Heard.WHOLE
    assert hello.whole() == sent


@pytest.mark.parametrize(
    "said",
    [
        b"GET / HTTP/1.1\r\n",
        b"PRI * HTTP/2.0\r\n",
        b"\x17\x03\x03\x00\x10",  # another record of TLS
        b"\x16\x02",  # SSL 2
        b"\x16\x03\x01\x00\x10\x02",  # a handshake's other message
        b"\x16\x03\x01\x00\x00",
        b"\x16\x03\x01" + (MOST_BYTES + 1).to_bytes(2, "big"),
    ],
)
def test_what_is_not_the_beginning_of_tls_is_known_at_once(said: bytes) -> None:
    assert Hello().take(said) is Heard.SOMETHING_ELSE
