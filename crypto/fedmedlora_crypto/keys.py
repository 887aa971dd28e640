"""X25519 agreement and HKDF, with what the protocol adds to both (PROTOCOL §6.3).

Rules:

* a public key is used only if it is the canonical encoding of a point that is not of low order;
* a private key is always derived from a 32-byte seed, because the seed is what gets shared;
* every derived key is bound to label, session, view and suite, and a pair's key to both ids and both
  public keys, so that a copied or re-encoded key of another party never gives that party's key.

What is not here: which keys a session has (`fedmedlora_crypto.secagg`).
"""

from dataclasses import dataclass

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from fedmedlora_crypto.encoding import encode_fields, encode_index
from fedmedlora_crypto.errors import LowOrderKeyError, MalformedKeyError

PUBLIC_KEY_BYTES = 32
SEED_BYTES = 32
FIELD_PRIME = 2**255 - 19

# The canonical u-coordinates of order 1, 2, 4 and 8 on the curve and its twist (RFC 7748, section 6.1 asks
# for the all-zero check; refusing the encodings names the culprit before any exchange is made).
LOW_ORDER_POINTS = frozenset(
    u.to_bytes(PUBLIC_KEY_BYTES, "little")
    for u in (
        0,
        1,
        FIELD_PRIME - 1,
        325606250916557431795983626356110631294008115727848805560023387167927233504,
        39382357235489614581723060781553021112529911719440698176882885853963445705823,
    )
)


@dataclass(frozen=True)
class Binding:
    """What every derived key of a session is bound to.

    Attributes:
        sid: Session id, 32 bytes.
        view: Digest of the list of advertised keys, 32 bytes.
        suite: Name of the suite.
    """

    sid: bytes
    view: bytes
    suite: str


class AgreementKey:
    """An X25519 key pair made from a 32-byte seed; silent about both."""

    __slots__ = ("_private", "_secrets", "public")

    def __init__(self, seed: bytes, *, label: bytes, sid: bytes) -> None:
        """Derive the private key from `seed`, bound to its purpose and its session (R6.3.3)."""
        self._private = X25519PrivateKey.from_private_bytes(derive_key(seed, encode_fields(label, sid)))
        self._secrets: dict[bytes, bytes] = {}  # a box each way takes the same exchange
        self.public = self._private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)

    def __repr__(self) -> str:
        """Show the class only; the private key is secret."""
        return "AgreementKey(...)"

    def exchange(self, peer_public: bytes, *, party: int | None = None) -> bytes:
        """Return the 32 shared bytes with a peer's public key.

        Raises:
            KeyRefusedError: The peer's key is not canonical or of low order.
        """
        if peer_public not in self._secrets:
            check_public_key(peer_public, party=party)
            peer = X25519PublicKey.from_public_bytes(peer_public)
            self._secrets[peer_public] = self._private.exchange(peer)
        return self._secrets[peer_public]


def check_public_key(public: bytes, *, party: int | None = None) -> None:
    """Demand a canonical X25519 public key that is not of low order (R6.3.1, R6.3.2).

    Raises:
        MalformedKeyError: Wrong size, or not the least encoding of its coordinate.
        LowOrderKeyError: One of the five low-order points.
    """
    # R6.3.1: X25519 itself would reduce the number and ignore the top bit, so one key would have several
    # encodings.
    if len(public) != PUBLIC_KEY_BYTES or int.from_bytes(public, "little") >= FIELD_PRIME:
        raise MalformedKeyError("public key is not canonical", party=party)
    # R6.3.2: with a low-order key the shared secret is zero for every peer.
    if public in LOW_ORDER_POINTS:
        raise LowOrderKeyError("public key is of low order", party=party)


def derive_key(secret: bytes, info: bytes, *, size: int = SEED_BYTES) -> bytes:
    """Derive `size` bytes from a secret with HKDF-SHA-256 (empty salt)."""
    return HKDF(algorithm=hashes.SHA256(), length=size, salt=None, info=info).derive(secret)


def party_info(label: bytes, binding: Binding, party: int) -> bytes:
    """Bind a key of one party: label | sid | view | suite | id (R6.3.4)."""
    return encode_fields(label, binding.sid, binding.view, binding.suite.encode(), encode_index(party))


def pair_info(label: bytes, binding: Binding, first: tuple[int, bytes], second: tuple[int, bytes]) -> bytes:
    """Bind a key of a pair: label | sid | view | suite | smaller id | larger id | both keys (R6.3.4).

    Args:
        label: Purpose of the key.
        binding: Session, view and suite.
        first: Index and public key of one party.
        second: Index and public key of the other; the order of the two does not matter.
    """
    small, large = sorted((first, second))
    return encode_fields(
        label,
        binding.sid,
        binding.view,
        binding.suite.encode(),
        encode_index(small[0]),
        encode_index(large[0]),
        small[1],
        large[1],
    )
