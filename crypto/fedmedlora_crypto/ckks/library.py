"""TenSEAL behind a narrow door: coefficients in, coefficients out (PROTOCOL §6.16).

TenSEAL makes keys, encrypts and decrypts. What travels and what lies on disks is not its own serialisation
but the bare coefficients: one canonical form of fixed size, checked coefficient by coefficient before the
library sees anything. Its parser is only ever given bytes whose every header was written here.

The serial form of the library (SEAL's, inside protocol buffers) is read by the two small readers below. They
understand what SEAL 4 writes for data that does not compress; for anything else they raise `LibraryError`
instead of guessing, and `open_cipher` tries a known vector before it is trusted.
"""

from __future__ import annotations

import struct
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmedlora_crypto.ckks.parameters import CIPHERTEXT_BYTES, COEFFICIENT_BITS, RING_DEGREE, SLOTS
from fedmedlora_crypto.errors import CryptoError

POLYNOMIAL_BYTES = RING_DEGREE * 8
PUBLIC_KEY_BYTES = 2 * len(COEFFICIENT_BITS) * POLYNOMIAL_BYTES
SECRET_KEY_BYTES = len(COEFFICIENT_BITS) * POLYNOMIAL_BYTES
_SEAL_HEAD = b"\x5e\xa1\x10\x04\x03"
_SEAL_HEAD_BYTES = 16
_ZSTD_HEAD = b"\x28\xb5\x2f\xfd\xa0"  # one segment, content size in four bytes, no checksum
_VARINT, _EIGHT_BYTES, _BYTES = 0, 1, 2
_PUBLIC_FIELD, _SECRET_FIELD = 2, 3

Field = tuple[int, int, Any]


class LibraryError(CryptoError):
    """TenSEAL is missing, or is not the one that this module was written against."""


@cache
def library() -> Any:
    """Import TenSEAL on first use.

    Raises:
        LibraryError: It is not installed.
    """
    try:
        import tenseal
    except ImportError:
        raise LibraryError("CKKS needs TenSEAL: install fedmedlora[ckks]") from None
    return tenseal


def make_keys() -> tuple[bytes, bytes]:
    """Make a fresh key pair; returns the coefficients of (public key, secret key)."""
    fields = _fields(_new_context())
    return _key_of(fields, _PUBLIC_FIELD, PUBLIC_KEY_BYTES), _key_of(fields, _SECRET_FIELD, SECRET_KEY_BYTES)


class Cipher:
    """One key pair, or its public half, at one scale; silent about its secret."""

    def __init__(self, public: bytes, *, scale_bits: int, secret: bytes | None = None) -> None:
        """Hand checked coefficients to the library.

        Args:
            public: Coefficients of the public key, all reduced.
            scale_bits: Binary logarithm of the scale.
            secret: Coefficients of the secret key, or None to encrypt only.

        Raises:
            LibraryError: The library is missing or does not do what it should.
        """
        self._scale = 2.0**scale_bits
        self._context = library().context_from(_context_bytes(public, secret))
        # The head of a ciphertext (parameters, sizes, scale) is the library's own; the rest is coefficients.
        content = self._content(np.zeros(SLOTS))
        self._head = content[:-CIPHERTEXT_BYTES]

    def __repr__(self) -> str:
        """Name the class only."""
        return "Cipher(…)"

    def encrypt(self, values: NDArray[np.int64]) -> bytes:
        """Encrypt up to `SLOTS` integers; returns `CIPHERTEXT_BYTES` of coefficients."""
        slots = np.zeros(SLOTS)
        slots[: values.shape[0]] = values
        content = self._content(slots)
        if content[:-CIPHERTEXT_BYTES] != self._head:
            raise LibraryError("TenSEAL changed the form of its ciphertexts")
        return content[-CIPHERTEXT_BYTES:]

    def decrypt(self, coefficients: bytes) -> NDArray[np.float64]:
        """Decrypt checked coefficients; returns `SLOTS` real numbers, noise included.

        Never hand these to anybody: what they differ from integers by says something about the key.
        """
        message = _join(
            [
                (1, _BYTES, _varint(SLOTS)),
                (2, _BYTES, _seal(self._head + coefficients)),
                (3, _EIGHT_BYTES, struct.pack("<d", self._scale)),
            ]
        )
        vector = library().ckks_vector_from(self._context, message)
        return np.array(vector.decrypt())

    def _content(self, slots: NDArray[np.float64]) -> bytes:
        vector = library().ckks_vector(self._context, slots, scale=self._scale)
        for number, kind, value in _fields(vector.serialize()):
            if (number, kind) == (2, _BYTES):
                content = _content(value)
                if len(content) > CIPHERTEXT_BYTES:
                    return content
        raise LibraryError("TenSEAL gave no ciphertext of the expected size")


def _new_context() -> bytes:
    """Make a context with a fresh key pair and serialise it, without evaluation keys (R6.16.1)."""
    tenseal = library()
    context = tenseal.context(
        tenseal.SCHEME_TYPE.CKKS, RING_DEGREE, coeff_mod_bit_sizes=list(COEFFICIENT_BITS), n_threads=1
    )
    return bytes(
        context.serialize(
            save_public_key=True, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
        )
    )


@cache
def _template() -> tuple[list[Field], bytes, bytes]:
    """Return a context's fields with the keys' coefficients left out: parameters and heads only."""
    fields = _fields(_new_context())
    heads = []
    for number, size in ((_PUBLIC_FIELD, PUBLIC_KEY_BYTES), (_SECRET_FIELD, SECRET_KEY_BYTES)):
        heads.append(_content(_inner(fields, number)[0][2])[:-size])
    return fields, heads[0], heads[1]


def _context_bytes(public: bytes, secret: bytes | None) -> bytes:
    """Write the serial form of a context around checked coefficients."""
    fields, public_head, secret_head = _template()
    new: list[Field] = []
    for number, kind, value in fields:
        if number == _PUBLIC_FIELD:
            inner = [(1, _BYTES, _seal(public_head + public)), *_inner(fields, number)[1:]]
            new.append((number, _BYTES, _join(inner)))
        elif number == _SECRET_FIELD:
            if secret is not None:
                inner = [(1, _BYTES, _seal(secret_head + secret)), *_inner(fields, number)[1:]]
                new.append((number, _BYTES, _join(inner)))
        else:
            new.append((number, kind, value))
    return _join(new)


def _inner(fields: list[Field], number: int) -> list[Field]:
    """Return the fields of the message inside a field."""
    for found, kind, value in fields:
        if (found, kind) == (number, _BYTES):
            inner = _fields(value)
            if inner and inner[0][:2] == (1, _BYTES):
                return inner
    raise LibraryError("TenSEAL changed the form of its contexts")


def _key_of(fields: list[Field], number: int, size: int) -> bytes:
    content = _content(_inner(fields, number)[0][2])
    if len(content) <= size:
        raise LibraryError("TenSEAL gave a key of another size")
    return content[-size:]


def _seal(content: bytes) -> bytes:
    """Wrap content in SEAL's header, uncompressed."""
    size = _SEAL_HEAD_BYTES + len(content)
    return _SEAL_HEAD + bytes(3) + size.to_bytes(8, "little") + content


def _content(data: bytes) -> bytes:
    """Take SEAL's header and its stored (not compressed) zstd blocks off."""
    size = int.from_bytes(data[8:_SEAL_HEAD_BYTES], "little")
    if data[: len(_SEAL_HEAD)] != _SEAL_HEAD or size != len(data):
        raise LibraryError("TenSEAL changed the form of its objects")
    mode, body = data[5], data[_SEAL_HEAD_BYTES:]
    if mode == 0:
        return body
    if mode != 2 or body[:5] != _ZSTD_HEAD:
        raise LibraryError("TenSEAL compresses its objects in an unknown way")
    found, at, last = [], 9, False
    while not last:
        head = int.from_bytes(body[at : at + 3], "little")
        last, kind, length = bool(head & 1), head >> 1 & 3, head >> 3
        if kind != 0 or at + 3 + length > len(body):
            raise LibraryError("a random object was compressed; the library's random numbers are not sound")
        found.append(body[at + 3 : at + 3 + length])
        at += 3 + length
    content = b"".join(found)
    if len(content) != int.from_bytes(body[5:9], "little") or at != len(body):
        raise LibraryError("TenSEAL gave a damaged object")
    return content


def _fields(data: bytes) -> list[Field]:
    """Read the fields of a protocol buffers message that the library wrote."""
    found: list[Field] = []
    at = 0
    try:
        while at < len(data):
            tag, at = _read_varint(data, at)
            number, kind = tag >> 3, tag & 7
            value: Any
            if kind == _VARINT:
                value, at = _read_varint(data, at)
            elif kind == _EIGHT_BYTES:
                value, at = data[at : at + 8], at + 8
            elif kind == _BYTES:
                length, at = _read_varint(data, at)
                value, at = data[at : at + length], at + length
            else:
                raise LibraryError("TenSEAL wrote a field of an unknown kind")
            found.append((number, kind, value))
    except IndexError:
        raise LibraryError("TenSEAL wrote a message that ends too early") from None
    return found


def _join(fields: list[Field]) -> bytes:
    """Write fields as a protocol buffers message."""
    parts = []
    for number, kind, value in fields:
        parts.append(_varint(number << 3 | kind))
        if kind == _VARINT:
            parts.append(_varint(value))
        elif kind == _BYTES:
            parts += [_varint(len(value)), value]
        else:
            parts.append(value)
    return b"".join(parts)


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
