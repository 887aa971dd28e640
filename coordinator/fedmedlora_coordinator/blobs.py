"""Payloads on disk by digest: uploads resume, every chunk is checked, also when read back (PROTOCOL §3.2).

Contract: a chunk is taken only with a proof that it is that chunk of that blob. `complete` is said only once
every chunk is on the disk. A chunk read back is hashed again: a damaged disk is an error, never a wrong sum.
An upload cut off by a kill goes on after its last good chunk.

Layout: `<ab>/<digest>.blob` with `<digest>.leaves` (32 bytes a chunk) beside it; unfinished uploads lie in
`incoming/` as a sparse `.part` and a `.have` file with the leaf hash of each chunk held (zeros: missing).
"""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_audit.blob import BlobTree, chunk_count, hash_chunks, verify_chunk
from fedmedlora_audit.errors import ProofError
from fedmedlora_audit.merkle import CHUNK_BYTES, leaf_hash
from fedmedlora_coordinator.errors import PeerRefusedError, StoreError
from fedmedlora_coordinator.folder import sync_folder
from fedmedlora_protos.wire import Reason

_MISSING = bytes(32)


@dataclass
class _Upload:
    """An unfinished upload; `leaves` holds zeros for each chunk that is missing."""

    part: Path
    have: Path
    total_bytes: int
    leaves: list[bytes]
    owner: str

    @property
    def next_missing(self) -> int | None:
        """Lowest chunk index not held, or None."""
        try:
            return self.leaves.index(_MISSING)
        except ValueError:
            return None


class BlobStore:
    """The blob folder of one coordinator; used by one process."""

    def __init__(self, root: Path, *, max_blob_bytes: int = 1 << 40, max_open_uploads: int = 4) -> None:
        """Open the folder; nothing is read until it is asked for.

        Args:
            root: The folder; made when it does not exist.
            max_blob_bytes: Largest blob a site may send.
            max_open_uploads: Blobs of one site that are unfinished or named in no event yet.
        """
        self._root = root
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._max_blob_bytes = max_blob_bytes
        self._max_open_uploads = max_open_uploads
        self._uploads: dict[tuple[str, int], _Upload] = {}
        self._trees: dict[str, BlobTree] = {}
        self._unclaimed: dict[str, str] = {}  # complete, but named in no event yet: digest -> owner

    def size(self, digest: str) -> int | None:
        """Return the size of a complete blob, or None."""
        try:
            return self._path(digest).stat().st_size
        except FileNotFoundError:
            return None

    def query(self, digest: str, total_bytes: int) -> int | None:
        """Return the first missing chunk of a blob, or None when it is complete."""
        if self.size(digest) == total_bytes:
            return None
        known = self._uploads.get((digest, total_bytes)) or self._reopen(digest, total_bytes, owner="")
        return 0 if known is None else known.next_missing or 0

    def put_chunk(
        self, owner: str, *, digest: str, total_bytes: int, index: int, data: bytes, proof: tuple[bytes, ...]
    ) -> int | None:
        """Take one chunk; returns the next missing index, or None once the blob is complete and durable.

        Raises:
            PeerRefusedError: bad_chunk, too_large or too_many; what was held before is kept.
        """
        if total_bytes > self._max_blob_bytes:
            raise PeerRefusedError(Reason.TOO_LARGE)
        if self.size(digest) == total_bytes:
            return None
        try:
            verify_chunk(digest=digest, total_bytes=total_bytes, index=index, data=data, proof=proof)
        except ProofError:
            raise PeerRefusedError(Reason.BAD_CHUNK) from None
        upload = self._upload(owner, digest, total_bytes)
        if upload.leaves[index] == _MISSING:
            _write_at(upload.part, index * CHUNK_BYTES, data)
            leaf = leaf_hash(data)
            _write_at(upload.have, index * 32, leaf)
            upload.leaves[index] = leaf
        missing = upload.next_missing
        if missing is None:
            self._finish(digest, upload)
        return missing

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Store a small blob of the coordinator's own; returns its digest once it is durable."""
        return self.put_chunks(bytes(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES))

    def put_chunks(self, chunks: Iterable[bytes], *, threads: int = 1) -> str:
        """Store a blob of the coordinator's own chunk by chunk; returns its digest once it is durable.

        Args:
            chunks: 1 MiB each but the last; memory stays at a few of them.
            threads: Threads that hash.
        """
        part = self._incoming / "sum.own"
        with part.open("wb") as file:
            leaves = hash_chunks(chunks, sink=file.write, threads=threads)
            total = file.tell()
            file.flush()
            os.fsync(file.fileno())
        digest = BlobTree(leaves, total).digest
        if self.size(digest) is None:
            self._install(digest, part, leaves)
        else:
            part.unlink()
        return digest

    def chunk(self, digest: str, index: int) -> tuple[int, bytes, list[bytes]]:
        """Return (total bytes, chunk, inclusion proof) of a complete blob.

        Raises:
            PeerRefusedError: unknown_blob: there is no such blob or chunk.
            StoreError: The bytes on disk are not those that were stored.
        """
        total = self.size(digest)
        if total is None or not 0 <= index < chunk_count(total):
            raise PeerRefusedError(Reason.UNKNOWN_BLOB)
        tree = self._tree(digest, total)
        with self._path(digest).open("rb") as file:
            file.seek(index * CHUNK_BYTES)
            data = file.read(CHUNK_BYTES)
        proof = tree.proof(index)
        self._check(digest, total, index, data, proof)
        return total, data, proof

    def chunks(self, digest: str) -> Iterator[bytes]:
        """Yield the chunks of a complete blob in order, each checked against the digest.

        Raises:
            StoreError: The blob is not there or its bytes are not those that were stored.
        """
        total = self.size(digest)
        if total is None:
            raise StoreError(f"blob {digest[:16]}… is not in the store")
        tree = self._tree(digest, total)
        with self._path(digest).open("rb", buffering=0) as file:
            for index in range(chunk_count(total)):
                data = file.read(CHUNK_BYTES)
                self._check(digest, total, index, data, tree.proof(index))
                yield data

    def checked(self, digest: str, index: int) -> bytes:
        """Return one chunk of a complete blob, checked; may be called from several threads.

        Raises:
            StoreError: The blob or the chunk is not there, or is not what was stored.
        """
        try:
            return self.chunk(digest, index)[1]
        except PeerRefusedError:
            raise StoreError(f"blob {digest[:16]}… has no chunk {index} in the store") from None

    def byte_at(self, digest: str, offset: int) -> int:
        """Return one byte of a complete blob, without a check of its chunk: it was checked when it came."""
        with self._path(digest).open("rb", buffering=0) as file:
            file.seek(offset)
            return file.read(1)[0]

    def read(self, digest: str) -> bytes:
        """Return a whole complete blob (for small ones: keys, shares)."""
        return b"".join(self.chunks(digest))

    def remove(self, digest: str) -> None:
        """Delete a blob; one that is not there is no error."""
        self._trees.pop(digest, None)
        for path in (self._path(digest), self._leaves_path(digest)):
            path.unlink(missing_ok=True)

    def claim(self, digest: str) -> None:
        """Note that an event names a blob: it no longer counts against the one who sent it."""
        self._unclaimed.pop(digest, None)

    def sweep(self, keep: Collection[str]) -> None:
        """Delete every blob that is not to be kept, and every unfinished upload."""
        self._uploads.clear()
        self._unclaimed.clear()
        for path in self._incoming.iterdir():
            path.unlink()
        for path in self._root.glob("??/*.blob"):
            if path.stem not in keep:
                self.remove(path.stem)

    def _upload(self, owner: str, digest: str, total_bytes: int) -> _Upload:
        upload = self._uploads.get((digest, total_bytes)) or self._reopen(digest, total_bytes, owner=owner)
        if upload is not None:
            return upload
        pending = [*(other.owner for other in self._uploads.values()), *self._unclaimed.values()]
        if pending.count(owner) >= self._max_open_uploads:
            raise PeerRefusedError(Reason.TOO_MANY)
        part, have = self._incoming_paths(digest, total_bytes)
        for path, length in ((part, total_bytes), (have, 32 * chunk_count(total_bytes))):
            with path.open("wb") as file:
                file.truncate(length)
        upload = _Upload(part, have, total_bytes, [_MISSING] * chunk_count(total_bytes), owner)
        self._uploads[digest, total_bytes] = upload
        return upload

    def _reopen(self, digest: str, total_bytes: int, *, owner: str) -> _Upload | None:
        """Find an upload that an earlier process left, keeping only chunks whose bytes are really there."""
        part, have = self._incoming_paths(digest, total_bytes)
        count = chunk_count(total_bytes)
        try:
            recorded = have.read_bytes()
            if len(recorded) != 32 * count or part.stat().st_size != total_bytes:
                return None
        except FileNotFoundError:
            return None
        leaves = [recorded[32 * i : 32 * i + 32] for i in range(count)]
        with part.open("rb", buffering=0) as file:
            for index, leaf in enumerate(leaves):
                data = file.read(CHUNK_BYTES)
                if leaf != _MISSING and leaf_hash(data) != leaf:
                    leaves[index] = _MISSING
        upload = _Upload(part, have, total_bytes, leaves, owner)
        self._uploads[digest, total_bytes] = upload
        if upload.next_missing is None:
            self._finish(digest, upload)
            return None
        return upload

    def _finish(self, digest: str, upload: _Upload) -> None:
        if BlobTree(upload.leaves, upload.total_bytes).digest != digest:  # every chunk had a proof
            raise StoreError(f"blob {digest[:16]}… does not have its digest")
        with upload.part.open("rb") as file:
            os.fsync(file.fileno())
        self._install(digest, upload.part, upload.leaves)
        upload.have.unlink(missing_ok=True)
        self._uploads.pop((digest, upload.total_bytes), None)
        self._unclaimed[digest] = upload.owner

    def _install(self, digest: str, part: Path, leaves: list[bytes]) -> None:
        """Move a complete, synced file to its place; the leaf hashes first, so a blob never lacks them."""
        final = self._path(digest)
        final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        sidecar = self._leaves_path(digest)
        temporary = sidecar.with_suffix(".leaves.tmp")
        with temporary.open("wb") as file:
            file.write(b"".join(leaves))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(sidecar)
        part.replace(final)
        sync_folder(final.parent)
        sync_folder(self._root)

    def _tree(self, digest: str, total_bytes: int) -> BlobTree:
        tree = self._trees.get(digest)
        if tree is None:
            recorded = self._leaves_path(digest).read_bytes()
            leaves = [recorded[at : at + 32] for at in range(0, len(recorded), 32)]
            try:
                tree = BlobTree(leaves, total_bytes)
            except ValueError:
                raise StoreError(f"blob {digest[:16]}… has damaged leaf hashes") from None
            self._trees[digest] = tree
        return tree

    def _check(self, digest: str, total: int, index: int, data: bytes, proof: list[bytes]) -> None:
        try:
            verify_chunk(digest=digest, total_bytes=total, index=index, data=data, proof=proof)
        except ProofError:
            raise StoreError(f"blob {digest[:16]}… is damaged on disk at chunk {index}") from None

    def _path(self, digest: str) -> Path:
        return self._root / digest[:2] / f"{digest}.blob"

    def _leaves_path(self, digest: str) -> Path:
        return self._root / digest[:2] / f"{digest}.leaves"

    def _incoming_paths(self, digest: str, total_bytes: int) -> tuple[Path, Path]:
        stem = f"{digest}.{total_bytes}"
        return self._incoming / f"{stem}.part", self._incoming / f"{stem}.have"


def _write_at(path: Path, offset: int, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY)
    try:
        written = 0
        while written < len(data):
            written += os.pwrite(descriptor, data[written:], offset + written)
    finally:
        os.close(descriptor)
