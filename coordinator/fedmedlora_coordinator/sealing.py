"""Blobs at rest: each under a random key of its own, and that key wrapped under the storage key (§4.6).

A masked upload and opened shares are a liability once their round is over. Deleting a large file leaves its
bytes on most disks; deleting 32 bytes is soon done. So every blob that a site sends is encrypted chunk by
chunk as it arrives, and shredding it means destroying its wrapped key; the file goes afterwards.

Format: chunk i of a blob is AES-256-GCM under the blob's key with nonce i and the blob's digest, size and i
as associated data, so no chunk opens in another place. A chunk that is written again after a crash has the
same bytes, since it carries a proof for the digest: the nonce is never used for two plaintexts. The key file
holds a random nonce and the blob's key under AES-256-GCM with the storage key, bound to the digest.
"""

import secrets
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_coordinator.errors import StoreError

KEY_BYTES: Final = 32
TAG_BYTES: Final = 16
NONCE_BYTES: Final = 12
WRAPPED_BYTES: Final = NONCE_BYTES + KEY_BYTES + TAG_BYTES
SEALED_CHUNK_BYTES: Final = CHUNK_BYTES + TAG_BYTES
_CHUNK: Final = b"fedmedlora/v1/evidence-chunk\0"
_KEY: Final = b"fedmedlora/v1/evidence-key\0"


class BlobSeal:
    """The cipher of one blob; silent about its key."""

    __slots__ = ("_cipher", "_context")

    def __init__(self, key: bytes, *, digest: str, total_bytes: int) -> None:
        """Take the blob's key, and what every chunk is bound to."""
        self._cipher = AESGCM(key)
        self._context = _CHUNK + bytes.fromhex(digest) + total_bytes.to_bytes(8, "big")

    def __repr__(self) -> str:
        """Show the class only; the key is secret."""
        return "BlobSeal(...)"

    def seal(self, index: int, data: bytes) -> bytes:
        """Encrypt one chunk (R4.6.8); 16 bytes longer."""
        return self._cipher.encrypt(_nonce(index), data, self._context + index.to_bytes(8, "big"))

    def open(self, index: int, sealed: bytes) -> bytes:
        """Decrypt one chunk.

        Raises:
            StoreError: It was changed on disk, or is another chunk or blob.
        """
        try:
            return self._cipher.decrypt(_nonce(index), sealed, self._context + index.to_bytes(8, "big"))
        except (InvalidTag, ValueError):
            raise StoreError(f"sealed chunk {index} does not open") from None


class StorageKey:
    """The coordinator's key over the keys of blobs; `keys/storage.key`."""

    __slots__ = ("_cipher",)

    def __init__(self, key: bytes) -> None:
        """Take 32 bytes.

        Raises:
            ValueError: The key has another size (the caller's mistake).
        """
        if len(key) != KEY_BYTES:
            raise ValueError(f"a storage key has {KEY_BYTES} bytes")
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        """Show the class only; the key is secret."""
        return "StorageKey(...)"

    def new(self, *, digest: str, total_bytes: int) -> tuple[bytes, BlobSeal]:
        """Draw the key of a blob; returns it wrapped, for its key file, and ready to use."""
        key, nonce = secrets.token_bytes(KEY_BYTES), secrets.token_bytes(NONCE_BYTES)
        wrapped = nonce + self._cipher.encrypt(nonce, key, _context(digest, total_bytes))
        return wrapped, BlobSeal(key, digest=digest, total_bytes=total_bytes)

    def unwrap(self, wrapped: bytes, *, digest: str, total_bytes: int) -> BlobSeal:
        """Open a blob's key file.

        Raises:
            StoreError: It is damaged, of another blob, or from under another storage key.
        """
        nonce, sealed = wrapped[:NONCE_BYTES], wrapped[NONCE_BYTES:]
        try:
            key = self._cipher.decrypt(nonce, sealed, _context(digest, total_bytes))
        except (InvalidTag, ValueError):
            raise StoreError(f"the key of blob {digest[:16]}… does not open") from None
        return BlobSeal(key, digest=digest, total_bytes=total_bytes)


def sealed_bytes(total_bytes: int) -> int:
    """Return the size of a sealed blob's file."""
    return total_bytes + TAG_BYTES * -(-total_bytes // CHUNK_BYTES)


def plain_bytes(file_bytes: int) -> int:
    """Return the size of the blob in a sealed file of this size."""
    return file_bytes - TAG_BYTES * -(-file_bytes // SEALED_CHUNK_BYTES)


def _nonce(index: int) -> bytes:
    return index.to_bytes(NONCE_BYTES, "big")


def _context(digest: str, total_bytes: int) -> bytes:
    return _KEY + bytes.fromhex(digest) + total_bytes.to_bytes(8, "big")
