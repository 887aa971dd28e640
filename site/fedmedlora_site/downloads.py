"""Downloads that go on where a cut or a kill left them (PROTOCOL §3.2).

A chunk is appended once its proof has been checked against the digest, so a part file holds the first chunks
of its blob and nothing else. A kill may leave a torn chunk at its end, and a disk may damage what lies there:
so what was kept counts as nothing until the digest of the whole has been compared (R3.2.6).

Only what every member may read lies here: published sums. At most `MOST_PARTS` parts are kept.
"""

from __future__ import annotations

import os
from pathlib import Path

from fedmedlora_audit.blob import BlobTree, blob_leaves, chunk_count
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_site.durable import PRIVATE, make_folder, write_all

MOST_PARTS = 4


class Download:
    """One blob on its way to this site.

    Args:
        path: The part file.
        digest: The blob's digest, from a signed event.
        total_bytes: Its length, from the same event.
    """

    def __init__(self, path: Path, digest: str, total_bytes: int) -> None:
        """Find what an earlier connection or process kept; a torn last chunk is fetched again."""
        self._path = path
        self._digest = digest
        self._total = total_bytes
        self.count = chunk_count(total_bytes)
        self.held = 0  # chunks, from the first on
        if path.exists():
            size = min(path.stat().st_size, total_bytes)
            self.held = self.count if size == total_bytes else size // CHUNK_BYTES
            os.truncate(path, min(self.held * CHUNK_BYTES, total_bytes))

    def append(self, chunk: bytes) -> None:
        """Keep the next chunk, which has been checked."""
        descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW, PRIVATE)
        try:
            write_all(descriptor, chunk)
        finally:
            os.close(descriptor)
        self.held += 1

    def take(self) -> bytearray | None:
        """Return the whole blob and forget it here; None if it is not what the digest names.

        Every chunk was right when it came, so a wrong whole was damaged on this disk: fetch it again.
        """
        data = bytearray(self._path.read_bytes())
        self._path.unlink()
        self.held = 0
        right = len(data) == self._total and BlobTree(blob_leaves(data), self._total).digest == self._digest
        return data if right else None


class DownloadFolder:
    """The downloads of one site.

    Args:
        root: The folder; made when missing.
    """

    def __init__(self, root: Path) -> None:
        """Open the folder; parts of earlier runs stay, to be gone on with."""
        self._root = make_folder(root)

    def open(self, digest: str, total_bytes: int) -> Download:
        """Begin or go on with a download; the oldest of too many parts are given up."""
        path = self._root / f"{digest}.part"
        others = sorted(
            (part for part in self._root.glob("*.part") if part != path),
            key=lambda part: part.stat().st_mtime,
        )
        for part in others[: max(0, len(others) - MOST_PARTS + 1)]:
            part.unlink()
        return Download(path, digest, total_bytes)
