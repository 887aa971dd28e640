"""One blob's bytes in one file, chunk by chunk: as they are, or sealed (PROTOCOL §4.6)."""

import os
from pathlib import Path

from fedmedlora_audit.blob import chunk_count
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_coordinator.folder import sync_folder
from fedmedlora_coordinator.sealing import SEALED_CHUNK_BYTES, TAG_BYTES, BlobSeal, sealed_bytes


class BlobFile:
    """A file with all chunks of a blob, or with room for them."""

    def __init__(self, path: Path, total_bytes: int, seal: BlobSeal | None) -> None:
        """Name the file; nothing is opened.

        Args:
            path: The file.
            total_bytes: Size of the blob, without what sealing adds.
            seal: The blob's cipher; None for bytes as they are.
        """
        self.path = path
        self.total_bytes = total_bytes
        self._seal = seal
        self._stride = CHUNK_BYTES if seal is None else SEALED_CHUNK_BYTES

    @property
    def file_bytes(self) -> int:
        """Size of the whole file."""
        return self.total_bytes if self._seal is None else sealed_bytes(self.total_bytes)

    @property
    def is_whole(self) -> bool:
        """Whether the file is there and has its size."""
        try:
            return self.path.stat().st_size == self.file_bytes
        except FileNotFoundError:
            return False

    def allocate(self) -> None:
        """Make the file with room for every chunk; holes cost no disk."""
        with self.path.open("wb") as file:
            file.truncate(self.file_bytes)

    def write(self, index: int, data: bytes) -> None:
        """Write one chunk into its place."""
        stored = data if self._seal is None else self._seal.seal(index, data)
        write_at(self.path, index * self._stride, stored)

    def read(self, index: int) -> bytes:
        """Read one chunk.

        Raises:
            StoreError: The file is sealed and the chunk does not open.
        """
        last = index + 1 == chunk_count(self.total_bytes)
        length = self.total_bytes - index * CHUNK_BYTES if last else CHUNK_BYTES
        with self.path.open("rb", buffering=0) as file:
            file.seek(index * self._stride)
            stored = file.read(length + (0 if self._seal is None else TAG_BYTES))
        return stored if self._seal is None else self._seal.open(index, stored)

    def sync(self) -> None:
        """Make the bytes durable."""
        with self.path.open("rb") as file:
            os.fsync(file.fileno())


def write_at(path: Path, offset: int, data: bytes) -> None:
    """Write all of `data` at an offset of an existing file."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)
    finally:
        os.close(descriptor)


def write_synced(path: Path, data: bytes) -> None:
    """Write a file, readable by its owner only, and make its bytes durable."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def destroy(path: Path) -> None:
    """Overwrite a small file in place, durably, then delete it; one that is not there is no error.

    What a journalling file system or the disk itself has copied elsewhere is out of reach (OPERATIONS
    "Evidence").
    """
    try:
        length = path.stat().st_size
    except FileNotFoundError:
        return
    write_at(path, 0, bytes(length))
    with path.open("rb") as file:
        os.fsync(file.fileno())
    path.unlink()
    sync_folder(path.parent)
