"""Payload files: bytes that a signed event names, whole on this site's disk before the event is signed.

The file's name is its digest. A resume sends exactly these bytes; nothing ever changes such a file.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_audit.blob import BlobTree, Chunk, blob_leaves, hash_chunks
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_site.durable import make_folder, sync_folder, writing
from fedmedlora_site.errors import FolderError


@dataclass(frozen=True)
class UploadFile:
    """One payload on disk with its hash tree.

    Args:
        path: The file.
        tree: Its RFC 6962 tree over 1 MiB chunks.
        total_bytes: Its length.
    """

    path: Path
    tree: BlobTree
    total_bytes: int

    @property
    def digest(self) -> str:
        """Blob digest, hex."""
        return self.tree.digest

    @property
    def chunk_count(self) -> int:
        """Number of chunks."""
        return -(-self.total_bytes // CHUNK_BYTES)

    def chunk(self, index: int) -> tuple[bytes, list[bytes]]:
        """Read one chunk with its inclusion proof."""
        with self.path.open("rb") as file:
            file.seek(index * CHUNK_BYTES)
            return file.read(CHUNK_BYTES), self.tree.proof(index)


class UploadFolder:
    """The payload files of one site.

    Args:
        root: The folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        """Open the folder and drop what a crash left half written."""
        self._root = make_folder(root)
        for torn in root.glob(".*.tmp"):
            torn.unlink()

    def store(self, data: bytes) -> UploadFile:
        """Write a small payload durably and return it; the same bytes are written once."""
        return self.store_chunks(data[at : at + CHUNK_BYTES] for at in range(0, len(data), CHUNK_BYTES))

    def store_chunks(self, chunks: Iterable[Chunk], *, threads: int = 1) -> UploadFile:
        """Write a payload chunk by chunk, durably and whole, while it is hashed (R5.4.4).

        Args:
            chunks: 1 MiB each but the last; memory stays at a few of them.
            threads: Threads that hash.
        """
        temporary = self._root / f".{secrets.token_hex(8)}.tmp"
        with writing(temporary) as write:
            leaves = hash_chunks(chunks, sink=write, threads=threads)
        total = temporary.stat().st_size
        tree = BlobTree(leaves, total)
        path = self._root / tree.digest
        temporary.replace(path)
        sync_folder(self._root)
        return UploadFile(path, tree, total)

    def open(self, digest: str) -> UploadFile:
        """Open a stored payload and check that it still has its digest.

        Raises:
            FolderError: It is missing or damaged.
        """
        path = self._root / digest
        try:
            with path.open("rb") as file:
                leaves = blob_leaves(file)
            total = path.stat().st_size
        except FileNotFoundError:
            raise FolderError(f"{path}: a signed payload is missing") from None
        tree = BlobTree(leaves, total)
        if tree.digest != digest:
            raise FolderError(f"{path}: a signed payload was changed on disk")
        return UploadFile(path, tree, total)

    def keep_only(self, digests: Iterable[str]) -> None:
        """Delete every payload that is not in `digests`."""
        keep = set(digests)
        for path in self._root.iterdir():
            if path.name not in keep:
                path.unlink()
        sync_folder(self._root)
