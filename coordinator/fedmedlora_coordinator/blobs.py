"""Payloads on disk by digest: uploads resume, every chunk is checked, also when read back (PROTOCOL §3.2).

Contract: a chunk is taken only with a proof that it is that chunk of that blob. `complete` is said only once
every chunk is on the disk. A chunk read back is hashed again: a damaged disk is an error, never a wrong sum.
An upload cut off by a kill goes on after its last good chunk.

What a site sends is sealed under a key of its own as it arrives, and shredded by destroying that key
(`sealing`); the coordinator's own blobs are public and lie as they are.

Layout: `<ab>/<digest>.sealed` with its wrapped key `<digest>.key`, or `<digest>.blob`, and `<digest>.leaves`
(32 bytes a chunk) beside it; unfinished uploads lie in `incoming/` as a sparse `.part`, its `.key`, and a
`.have` file with the leaf hash of each chunk held (zeros: missing).
"""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_audit.blob import BlobTree, Chunk, chunk_count, hash_chunks, verify_chunk
from fedmedlora_audit.errors import ProofError
from fedmedlora_audit.merkle import CHUNK_BYTES, leaf_hash
from fedmedlora_coordinator.blob_file import BlobFile, destroy, write_at, write_synced
from fedmedlora_coordinator.errors import PeerRefusedError, StoreError
from fedmedlora_coordinator.folder import sync_folder
from fedmedlora_coordinator.sealing import BlobSeal, StorageKey, plain_bytes
from fedmedlora_protos.wire import Reason

_MISSING = bytes(32)


@dataclass
class _Upload:
    """An unfinished upload; `leaves` holds zeros for each chunk that is missing."""

    part: BlobFile
    have: Path
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

    def __init__(
        self,
        root: Path,
        *,
        storage_key: bytes | None = None,
        max_blob_bytes: int = 1 << 40,
        max_open_uploads: int = 4,
    ) -> None:
        """Open the folder; nothing is read until it is asked for.

        Args:
            root: The folder; made when it does not exist.
            storage_key: 32 bytes over the keys of blobs. None leaves what sites send as it is: for tests.
            max_blob_bytes: Largest blob a site may send.
            max_open_uploads: Blobs of one site that are unfinished or named in no event yet.
        """
        self._root = root
        self._storage_key = None if storage_key is None else StorageKey(storage_key)
        self._incoming = root / "incoming"
        self._incoming.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._max_blob_bytes = max_blob_bytes
        self._max_open_uploads = max_open_uploads
        self._uploads: dict[tuple[str, int], _Upload] = {}
        self._trees: dict[str, BlobTree] = {}
        self._unclaimed: dict[str, str] = {}  # complete, but named in no event yet: digest -> owner

    def size(self, digest: str) -> int | None:
        """Return the size of a complete blob, or None; a sealed one without its key is none."""
        try:
            if self._key_path(digest).exists():
                return plain_bytes(self._path(digest, sealed=True).stat().st_size)
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
            upload.part.write(index, data)
            leaf = leaf_hash(data)
            write_at(upload.have, index * 32, leaf)
            upload.leaves[index] = leaf
        missing = upload.next_missing
        if missing is None:
            self._finish(digest, upload)
        return missing

    def put_bytes(self, data: bytes | memoryview) -> str:
        """Store a small blob of the coordinator's own; returns its digest once it is durable."""
        return self.put_chunks(bytes(data[at : at + CHUNK_BYTES]) for at in range(0, len(data), CHUNK_BYTES))

    def put_chunks(self, chunks: Iterable[Chunk], *, threads: int = 1) -> str:
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
            self._install(digest, part, leaves, wrapped=None)
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
        proof = self._tree(digest, total).proof(index)
        data = self._file(digest, total).read(index)
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
        tree, file = self._tree(digest, total), self._file(digest, total)
        for index in range(chunk_count(total)):
            data = file.read(index)
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

    def read(self, digest: str) -> bytes:
        """Return a whole complete blob (for small ones: keys, shares)."""
        return b"".join(self.chunks(digest))

    def remove(self, digest: str) -> None:
        """Shred a blob: its key first, then its bytes (R4.6.9); one that is not there is no error."""
        self._trees.pop(digest, None)
        final = self._key_path(digest)
        for key in (final, final.with_suffix(".key.tmp"), *self._incoming.glob(f"{digest}.*.key")):
            destroy(key)
        for path in (self._path(digest), self._path(digest, sealed=True), self._leaves_path(digest)):
            path.unlink(missing_ok=True)

    def claim(self, digest: str) -> None:
        """Note that an event names a blob: it no longer counts against the one who sent it."""
        self._unclaimed.pop(digest, None)

    def sweep(self, keep: Collection[str]) -> None:
        """Shred every blob that is not to be kept, and every unfinished upload."""
        self._uploads.clear()
        self._unclaimed.clear()
        for path in sorted(self._incoming.iterdir(), key=lambda path: path.suffix != ".key"):
            (destroy if path.suffix == ".key" else Path.unlink)(path)
        held = {path.name[:64] for path in self._root.glob("??/*") if path.suffix != ".leaves"}
        for digest in held.difference(keep):
            self.remove(digest)

    def _upload(self, owner: str, digest: str, total_bytes: int) -> _Upload:
        upload = self._uploads.get((digest, total_bytes)) or self._reopen(digest, total_bytes, owner=owner)
        if upload is not None:
            return upload
        pending = [*(other.owner for other in self._uploads.values()), *self._unclaimed.values()]
        if pending.count(owner) >= self._max_open_uploads:
            raise PeerRefusedError(Reason.TOO_MANY)
        part, have, key = self._incoming_paths(digest, total_bytes)
        seal = None
        if self._storage_key is not None:
            wrapped, seal = self._storage_key.new(digest=digest, total_bytes=total_bytes)
            write_synced(key, wrapped)
        count = chunk_count(total_bytes)
        upload = _Upload(BlobFile(part, total_bytes, seal), have, [_MISSING] * count, owner)
        upload.part.allocate()
        have.write_bytes(bytes(32 * count))
        self._uploads[digest, total_bytes] = upload
        return upload

    def _reopen(self, digest: str, total_bytes: int, *, owner: str) -> _Upload | None:
        """Find an upload that an earlier process left, keeping only chunks whose bytes are really there."""
        part, have, key = self._incoming_paths(digest, total_bytes)
        count = chunk_count(total_bytes)
        try:
            recorded = have.read_bytes()
            seal = self._unwrapped(key, digest, total_bytes)
        except (FileNotFoundError, StoreError):  # without its key an upload is worth nothing
            return None
        file = BlobFile(part, total_bytes, seal)
        if len(recorded) != 32 * count or not file.is_whole:
            return None
        leaves = [recorded[32 * i : 32 * i + 32] for i in range(count)]
        for index, leaf in enumerate(leaves):
            if leaf != _MISSING and not _holds(file, index, leaf):
                leaves[index] = _MISSING
        upload = _Upload(file, have, leaves, owner)
        self._uploads[digest, total_bytes] = upload
        if upload.next_missing is None:
            self._finish(digest, upload)
            return None
        return upload

    def _finish(self, digest: str, upload: _Upload) -> None:
        total_bytes = upload.part.total_bytes
        if BlobTree(upload.leaves, total_bytes).digest != digest:  # every chunk had a proof
            raise StoreError(f"blob {digest[:16]}… does not have its digest")
        upload.part.sync()
        key = self._incoming_paths(digest, total_bytes)[2]
        wrapped = None if self._storage_key is None else key.read_bytes()
        self._install(digest, upload.part.path, upload.leaves, wrapped=wrapped)
        upload.have.unlink(missing_ok=True)
        destroy(key)
        self._uploads.pop((digest, total_bytes), None)
        self._unclaimed[digest] = upload.owner

    def _install(self, digest: str, part: Path, leaves: list[bytes], *, wrapped: bytes | None) -> None:
        """Move a complete, synced file to its place; what a blob needs to be read goes there before it."""
        final = self._path(digest, sealed=wrapped is not None)
        final.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        beside = {self._leaves_path(digest): b"".join(leaves)}
        if wrapped is not None:
            beside[self._key_path(digest)] = wrapped
        for path, content in beside.items():
            temporary = path.with_suffix(f"{path.suffix}.tmp")
            write_synced(temporary, content)
            temporary.replace(path)
        part.replace(final)
        sync_folder(final.parent)
        sync_folder(self._root)

    def _file(self, digest: str, total_bytes: int) -> BlobFile:
        """Return a complete blob's file, ready to be read."""
        key = self._key_path(digest)
        if not key.exists():
            return BlobFile(self._path(digest), total_bytes, None)
        if self._storage_key is None:
            raise StoreError(f"blob {digest[:16]}… is sealed and there is no storage key")
        return BlobFile(
            self._path(digest, sealed=True), total_bytes, self._unwrapped(key, digest, total_bytes)
        )

    def _unwrapped(self, key: Path, digest: str, total_bytes: int) -> BlobSeal | None:
        if self._storage_key is None:
            return None
        return self._storage_key.unwrap(key.read_bytes(), digest=digest, total_bytes=total_bytes)

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

    # R3.2.1: a chunk proves its place before it touches the disk.
    def _check(self, digest: str, total: int, index: int, data: bytes, proof: list[bytes]) -> None:
        try:
            verify_chunk(digest=digest, total_bytes=total, index=index, data=data, proof=proof)
        except ProofError:
            raise StoreError(f"blob {digest[:16]}… is damaged on disk at chunk {index}") from None

    def _path(self, digest: str, *, sealed: bool = False) -> Path:
        return self._root / digest[:2] / f"{digest}.{'sealed' if sealed else 'blob'}"

    def _key_path(self, digest: str) -> Path:
        return self._root / digest[:2] / f"{digest}.key"

    def _leaves_path(self, digest: str) -> Path:
        return self._root / digest[:2] / f"{digest}.leaves"

    def _incoming_paths(self, digest: str, total_bytes: int) -> tuple[Path, Path, Path]:
        """Return the paths of an upload's bytes, of what is held of it, and of its wrapped key."""
        stem = f"{digest}.{total_bytes}"
        part, have, key = (self._incoming / f"{stem}.{suffix}" for suffix in ("part", "have", "key"))
        return part, have, key


def _holds(file: BlobFile, index: int, leaf: bytes) -> bool:
    """Tell whether a chunk's bytes are really on the disk; a crash may have torn them."""
    try:
        return leaf_hash(file.read(index)) == leaf
    except StoreError:
        return False
