"""Sealed boxes between two parties: AES-256-GCM under a key that seals one box (PROTOCOL §6.5).

The key is derived for one session, one view and one direction and is used once, which is what makes the
fixed nonce safe. The context goes in as associated data too, so that a box opens only where it was meant
to.
"""

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedmedlora_crypto.errors import SealedBoxError

TAG_BYTES = 16
_NONCE = bytes(12)


def seal(key: bytes, plaintext: bytes, *, context: bytes) -> bytes:
    """Seal `plaintext` under 32 bytes that are never used again; the box is `TAG_BYTES` longer."""
    return AESGCM(key).encrypt(_NONCE, plaintext, context)


def open_box(key: bytes, box: bytes, *, context: bytes, party: int) -> bytes:
    """Open a box of `party`.

    Raises:
        SealedBoxError: Altered, or sealed under another key or context.
    """
    try:
        return AESGCM(key).decrypt(_NONCE, box, context)
    except InvalidTag:
        raise SealedBoxError("sealed box does not open", party=party) from None
