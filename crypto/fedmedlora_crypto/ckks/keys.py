"""The public context that all sites hold, and the secret key of those who may decrypt (PROTOCOL §6.16).

Both are files of one canonical form: a magic line, then coefficients, each below its modulus. A public
context holds no secret and nothing else, by construction (R6.16.1); its digest stands in the charter, so all
sites encrypt under the key that all of them signed for.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field
from typing import Final, Self

import numpy as np

from fedmedlora_crypto.ckks.library import PUBLIC_KEY_BYTES, SECRET_KEY_BYTES, Cipher, make_keys
from fedmedlora_crypto.ckks.parameters import (
    MODULUS,
    RING_DEGREE,
    SLOTS,
    SPECIAL_MODULUS,
    SlotTerms,
)
from fedmedlora_crypto.errors import MalformedError, StateError

PUBLIC_MAGIC: Final = b"fedmedlora/v1/ckks-context/8192-60-60\n"
SECRET_MAGIC: Final = b"fedmedlora/v1/ckks-secret-key/8192-60-60\n"
CONTEXT_BYTES: Final = len(PUBLIC_MAGIC) + PUBLIC_KEY_BYTES
SECRET_FILE_BYTES: Final = len(SECRET_MAGIC) + 32 + SECRET_KEY_BYTES
_MODULI: Final = np.array([MODULUS, SPECIAL_MODULUS], dtype=np.uint64)
_DIGEST_BYTES = 32


@dataclass(frozen=True)
class PublicContext:
    """The public key under which every site of a study encrypts.

    Attributes:
        coefficients: The key's coefficients, reduced; as `decode` and `generate` make them.
    """

    coefficients: bytes = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of the file, hex: what the charter names."""
        return hashlib.sha256(self.encode()).hexdigest()

    def encode(self) -> bytes:
        """Return the file's bytes."""
        return PUBLIC_MAGIC + self.coefficients

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a public context (R6.16.1).

        Raises:
            MalformedError: Not the one canonical form of a public key: another size, head or a coefficient
                that is not reduced. Bytes of a secret key have another head and another size.
        """
        return cls(_coefficients(data, PUBLIC_MAGIC, PUBLIC_KEY_BYTES, polynomials=2))

    def cipher(self, terms: SlotTerms) -> Cipher:
        """Return what encrypts under this key; it cannot decrypt."""
        return Cipher(self.coefficients, scale_bits=terms.scale_bits)


class SecretKey:
    """The key that opens every ciphertext of a study; silent about itself.

    Whoever holds it can read single updates. `context_digest` says to which public context it belongs.
    """

    def __init__(self, coefficients: bytes, context_digest: str) -> None:
        """Keep checked coefficients; as `decode` and `generate` make them."""
        self._coefficients = coefficients
        self.context_digest = context_digest

    def __repr__(self) -> str:
        """Name the class only (R6.13.2)."""
        return "SecretKey(…)"

    def encode(self) -> bytes:
        """Return the file's bytes; they are secret."""
        return SECRET_MAGIC + bytes.fromhex(self.context_digest) + self._coefficients

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a secret key.

        Raises:
            MalformedError: Not the one canonical form of a secret key.
        """
        head, rest = data[: len(SECRET_MAGIC)], data[len(SECRET_MAGIC) :]
        body = _coefficients(head + rest[_DIGEST_BYTES:], SECRET_MAGIC, SECRET_KEY_BYTES, polynomials=1)
        return cls(body, rest[:_DIGEST_BYTES].hex())

    def cipher(self, context: PublicContext, terms: SlotTerms) -> Cipher:
        """Return what decrypts sums under this key.

        Raises:
            StateError: The key belongs to another context.
        """
        if not hmac.compare_digest(self.context_digest, context.digest):
            raise StateError("the secret key belongs to another CKKS context")
        return Cipher(context.coefficients, scale_bits=terms.scale_bits, secret=self._coefficients)


def generate() -> tuple[PublicContext, SecretKey]:
    """Make a fresh pair of public context and secret key.

    Raises:
        LibraryError: TenSEAL is not installed.
    """
    public, secret = make_keys()
    context = PublicContext.decode(PUBLIC_MAGIC + public)
    key = SecretKey.decode(SECRET_MAGIC + bytes.fromhex(context.digest) + secret)
    check_pair(context, key)
    return context, key


def check_pair(context: PublicContext, key: SecretKey) -> None:
    """Try a key on a random vector encrypted under a context (R6.16.7).

    Raises:
        StateError: The key names another context.
        MalformedError: It does not open what the context closes.
    """
    terms = SlotTerms(ring_bits=24, n=3)
    cipher = key.cipher(context, terms)
    random = np.frombuffer(secrets.token_bytes(4 * SLOTS), dtype="<u4").astype(np.int64) & 0x7FFFFF
    opened = cipher.decrypt(context.cipher(terms).encrypt(random))
    if not np.array_equal(np.rint(opened), random):
        raise MalformedError("the secret key does not open what the CKKS context closes")


def _coefficients(data: bytes, magic: bytes, size: int, *, polynomials: int) -> bytes:
    """Take the head off and check every coefficient against its modulus."""
    if len(data) != len(magic) + size or data[: len(magic)] != magic:
        raise MalformedError("not a CKKS key file of this release")
    body = data[len(magic) :]
    words = np.frombuffer(body, dtype="<u8").reshape(polynomials, len(_MODULI), RING_DEGREE)
    if (words >= _MODULI[None, :, None]).any():
        raise MalformedError("a coefficient of a CKKS key is not reduced")
    return body
