"""Updates at rest: encrypted with a key that never leaves this site, deleted when their round is over.

A file is a stream of chunks of 1 MiB, each sealed by AES-256-GCM, so that a vector is written and read
without a second one in memory. Every file has a key of its own, derived from the storage key, a random salt
and the name under which it is stored; a chunk's nonce holds its number and whether it is the last. So no file
can stand for another, and no chunk can be left out, repeated, moved or cut off: all that is a damaged file.

The trainer's process writes the trained update in this form, so that it never lies on the disk in the clear.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from io import FileIO
from pathlib import Path
from typing import Any, Final, TypeVar

import numpy as np
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

from fedmedlora_site.durable import make_folder, write_atomic_parts
from fedmedlora_site.errors import FolderError

_MAGIC: Final = b"fedmedlora/v1/vault-stream\0"
_SALT_BYTES: Final = 32
_TAG_BYTES: Final = 16
CHUNK_BYTES: Final = 1 << 20
_SEALED_BYTES: Final = CHUNK_BYTES + _TAG_BYTES
Buffer = TypeVar("Buffer", bytearray, memoryview)


class Vault:
    """Encrypted vectors in one folder.

    Args:
        root: The folder; made when missing.
        key: Storage key, 32 bytes.
    """

    def __init__(self, root: Path, key: bytes) -> None:
        """Open the vault.

        Raises:
            ValueError: The key has another size (the caller's mistake).
        """
        if len(key) != 32:
            raise ValueError("a storage key has 32 bytes")
        self._root = make_folder(root)
        self._key = bytes(key)

    def __repr__(self) -> str:
        """Show the class only; the key is secret."""
        return "Vault(…)"

    def path(self, name: str) -> Path:
        """The file of a name."""
        return self._root / f"{name}.sealed"

    def holds(self, name: str) -> bool:
        """Whether something is stored under a name."""
        return self.path(name).is_file()

    def store(self, name: str, data: bytes | memoryview) -> None:
        """Encrypt and write durably, chunk by chunk; replaces what was there."""
        write_atomic_parts(self.path(name), self._sealed(name, memoryview(data).cast("B")))

    def load(self, name: str) -> bytes:
        """Read and decrypt.

        Raises:
            FolderError: Nothing is stored under the name, or it was changed on disk.
        """
        return bytes(self._load_into(name, bytearray))

    def store_floats(self, name: str, vector: NDArray[np.float32]) -> None:
        """Store a float32 vector."""
        self.store(name, np.ascontiguousarray(vector, dtype="<f4").view(np.uint8).data)

    def load_floats(self, name: str, *, spare: int = 0) -> tuple[NDArray[np.float32], NDArray[np.uint32]]:
        """Load a float32 vector as a fresh, writable array, with room behind it.

        Args:
            name: What it is stored under.
            spare: Words of room.

        Returns:
            (the vector, all of its memory as words), so that an update can be encoded where it lies.

        Raises:
            FolderError: See `load`.
        """
        room = self._load_words(name, spare).astype(np.uint32, copy=False)
        return room[: room.size - spare].view(np.float32), room

    def store_ring(self, name: str, vector: NDArray[np.uint32]) -> None:
        """Store a ring vector."""
        self.store(name, np.ascontiguousarray(vector, dtype="<u4").view(np.uint8).data)

    def load_ring(self, name: str) -> NDArray[np.uint32]:
        """Load a ring vector as a fresh, writable array."""
        return self._load_words(name).astype(np.uint32, copy=False)

    def delete(self, name: str) -> None:
        """Delete what is stored under a name, if anything is."""
        self.path(name).unlink(missing_ok=True)

    def names(self) -> list[str]:
        """All stored names."""
        return sorted(path.name.removesuffix(".sealed") for path in self._root.glob("*.sealed"))

    def _cipher(self, name: str, salt: bytes) -> AESGCM:
        """Cipher of one file; a fresh salt for each write makes a nonce that counts from zero safe."""
        # R4.5.8
        info = _MAGIC + name.encode()
        return AESGCM(HKDF(algorithm=SHA256(), length=32, salt=salt, info=info).derive(self._key))

    def _sealed(self, name: str, data: memoryview) -> Iterator[bytes]:
        """Yield the bytes of a file."""
        salt = secrets.token_bytes(_SALT_BYTES)
        cipher = self._cipher(name, salt)
        yield _MAGIC + salt
        last = max(0, -(-len(data) // CHUNK_BYTES) - 1)  # an empty file has one empty chunk
        for index in range(last + 1):
            chunk = data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
            yield cipher.encrypt(_nonce(index, last=index == last), chunk, None)

    def _load_words(self, name: str, spare: int = 0) -> NDArray[Any]:
        def room(size: int) -> memoryview:
            if size % 4:
                raise FolderError(f"{self.path(name)}: does not hold a vector")
            words.append(np.empty(size // 4 + spare, dtype="<u4"))
            return words[0][: size // 4].view(np.uint8).data

        words: list[NDArray[Any]] = []
        self._load_into(name, room)
        return words[0]

    def _load_into(self, name: str, room: Callable[[int], Buffer]) -> Buffer:
        """Decrypt a file into the buffer that `room(size)` gives; returns the buffer."""
        path = self.path(name)
        try:
            with path.open("rb", buffering=0) as file:
                size = path.stat().st_size - len(_MAGIC) - _SALT_BYTES
                chunks = max(1, -(-size // _SEALED_BYTES))
                total = size - chunks * _TAG_BYTES
                if file.read(len(_MAGIC)) != _MAGIC or total < 0:
                    raise InvalidTag
                buffer = room(total)
                self._open_chunks(file, name, chunks, buffer)
        except FileNotFoundError:
            raise FolderError(f"{path}: is missing") from None
        except (InvalidTag, ValueError):
            raise FolderError(f"{path}: was changed on disk or has another key") from None
        return buffer

    def _open_chunks(self, file: FileIO, name: str, chunks: int, buffer: bytearray | memoryview) -> None:
        cipher = self._cipher(name, file.read(_SALT_BYTES))
        at = 0
        for index in range(chunks):
            # R4.5.8: the number and the mark of the last chunk are in the nonce.
            plain = cipher.decrypt(_nonce(index, last=index == chunks - 1), file.read(_SEALED_BYTES), None)
            buffer[at : at + len(plain)] = plain
            at += len(plain)


def _nonce(index: int, *, last: bool) -> bytes:
    """Nonce of a chunk: eleven bytes of its number and one that marks the last."""
    return index.to_bytes(11, "big") + bytes([last])
