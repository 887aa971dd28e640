"""Updates at rest: encrypted with a key that never leaves this site, deleted when their round is over.

AES-256-GCM with a random nonce; the name under which a vector is stored is authenticated, so files cannot be
exchanged for one another. The trainer's process writes the trained update in this form, so that it never
lies on the disk in the clear.
"""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from numpy.typing import NDArray

from fedmedlora_site.durable import make_folder, write_atomic
from fedmedlora_site.errors import FolderError

_MAGIC = b"fedmedlora/v1/vault\0"
_NONCE_BYTES = 12


class Vault:
    """Encrypted vectors in one folder.

    Args:
        root: The folder; made when missing.
        key: AES-256 key, 32 bytes.
    """

    def __init__(self, root: Path, key: bytes) -> None:
        """Open the vault."""
        self._root = make_folder(root)
        self._cipher = AESGCM(key)

    def __repr__(self) -> str:
        """Show the class only; the key is secret."""
        return "Vault(…)"

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self._root / f"{name}.sealed"

    def holds(self, name: str) -> bool:
        """Whether something is stored under a name."""
        return self.path(name).is_file()

    def store(self, name: str, data: bytes) -> None:
        """Encrypt and write durably; replaces what was there."""
        nonce = secrets.token_bytes(_NONCE_BYTES)
        sealed = self._cipher.encrypt(nonce, data, _MAGIC + name.encode())
        write_atomic(self.path(name), _MAGIC + nonce + sealed)

    def load(self, name: str) -> bytes:
        """Read and decrypt.

        Raises:
            FolderError: Nothing is stored under the name, or it was changed on disk.
        """
        try:
            blob = self.path(name).read_bytes()
        except FileNotFoundError:
            raise FolderError(f"{self.path(name)}: is missing") from None
        start = len(_MAGIC) if blob.startswith(_MAGIC) else len(blob)
        nonce, sealed = blob[start : start + _NONCE_BYTES], blob[start + _NONCE_BYTES :]
        try:
            return self._cipher.decrypt(nonce, sealed, _MAGIC + name.encode())
        except (InvalidTag, ValueError):
            raise FolderError(f"{self.path(name)}: was changed on disk or has another key") from None

    def store_floats(self, name: str, vector: NDArray[np.float32]) -> None:
        """Store a float32 vector."""
        self.store(name, np.ascontiguousarray(vector, dtype="<f4").tobytes())

    def load_floats(self, name: str) -> NDArray[np.float32]:
        """Load a float32 vector."""
        return np.frombuffer(self.load(name), dtype="<f4").astype(np.float32)

    def store_ring(self, name: str, vector: NDArray[np.uint32]) -> None:
        """Store a ring vector."""
        self.store(name, np.ascontiguousarray(vector, dtype="<u4").tobytes())

    def load_ring(self, name: str) -> NDArray[np.uint32]:
        """Load a ring vector as a fresh, writable array."""
        return np.frombuffer(self.load(name), dtype="<u4").astype(np.uint32)

    def delete(self, name: str) -> None:
        """Delete what is stored under a name, if anything is."""
        self.path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """All stored names."""
        return sorted(path.name.removesuffix(".sealed") for path in self._root.glob("*.sealed"))
