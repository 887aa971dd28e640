"""X25519 and ML-KEM-768 side by side, against a quantum computer to come (PROTOCOL §6.14).

A hybrid key is an X25519 key and an ML-KEM key made from one seed, so that sharing the seed shares both. A
secret is wrapped for a hybrid key with HPKE (RFC 9180) and the X-Wing combiner. HPKE's base mode does not
say who wrapped; whoever uses a wrapped secret therefore mixes it with the X25519 exchange of the two
parties, which does.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey, MLKEM768PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
from cryptography.hazmat.primitives.hpke import (
    AEAD,
    KDF,
    KEM,
    MLKEM768X25519PrivateKey,
    MLKEM768X25519PublicKey,
    Suite,
)

from fedmedlora_crypto.encoding import encode_fields
from fedmedlora_crypto.errors import MalformedKeyError, SealedBoxError
from fedmedlora_crypto.keys import PUBLIC_KEY_BYTES, SEED_BYTES, AgreementKey, check_public_key, derive_key
from fedmedlora_crypto.sealed import TAG_BYTES

KEM_KEY_BYTES = 1184
HYBRID_KEY_BYTES = PUBLIC_KEY_BYTES + KEM_KEY_BYTES
WRAP_BYTES = 1088 + PUBLIC_KEY_BYTES + SEED_BYTES + TAG_BYTES  # both encapsulations, then the sealed secret
_KEM_SEED_BYTES = 64
_HPKE = Suite(KEM.MLKEM768_X25519, KDF.HKDF_SHA256, AEAD.AES_256_GCM)


class HybridKey(AgreementKey):
    """An X25519 and an ML-KEM-768 key pair from one 32-byte seed; silent about all of it.

    `public` is the X25519 key followed by the ML-KEM key; `exchange` uses the X25519 part alone.
    """

    __slots__ = ("_hpke",)

    def __init__(self, seed: bytes, *, label: bytes, kem_label: bytes, sid: bytes) -> None:
        """Derive both private keys from `seed`, each under its own label (R6.14.1)."""
        super().__init__(seed, label=label, sid=sid)
        kem = MLKEM768PrivateKey.from_seed_bytes(
            derive_key(seed, encode_fields(kem_label, sid), size=_KEM_SEED_BYTES)
        )
        self._hpke = MLKEM768X25519PrivateKey(kem, self._private)
        self.public += kem.public_key().public_bytes_raw()

    def exchange(self, peer_public: bytes, *, party: int | None = None) -> bytes:
        """Return the X25519 secret with a peer's hybrid key."""
        return super().exchange(peer_public[:PUBLIC_KEY_BYTES], party=party)

    def unwrap(self, wrapped: bytes, info: bytes, *, party: int) -> bytes:
        """Return the secret that `party` wrapped for this key.

        Raises:
            SealedBoxError: Altered, or wrapped for another key or purpose.
        """
        try:
            return _HPKE.decrypt(wrapped, self._hpke, info)
        except InvalidTag:
            raise SealedBoxError("wrapped secret does not open", party=party) from None


def wrap(secret: bytes, public: bytes, info: bytes) -> bytes:
    """Wrap 32 bytes for a hybrid public key that `check_hybrid_key` accepted; draws system randomness."""
    x25519 = X25519PublicKey.from_public_bytes(public[:PUBLIC_KEY_BYTES])
    kem = MLKEM768PublicKey.from_public_bytes(public[PUBLIC_KEY_BYTES:])
    return _HPKE.encrypt(secret, MLKEM768X25519PublicKey(kem, x25519), info)


def check_hybrid_key(public: bytes, *, party: int | None = None) -> None:
    """Demand a canonical X25519 key that is not of low order, then a valid ML-KEM-768 key (R6.14.2).

    Raises:
        KeyRefusedError: Either part is not.
    """
    check_public_key(public[:PUBLIC_KEY_BYTES], party=party)
    try:
        MLKEM768PublicKey.from_public_bytes(public[PUBLIC_KEY_BYTES:])
    except ValueError:
        raise MalformedKeyError("ML-KEM key is not canonical", party=party) from None
