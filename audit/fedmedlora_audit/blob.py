"""Digests of bulk data: the RFC 6962 tree over chunks of 1 MiB (AUDIT "Blobs").

A blob of any size is named by one digest, sent in chunks below every message limit, and each chunk is
checked on arrival against that digest - so an upload resumes after the last good chunk, and a wrong chunk is
refused at once. A proof does not bind the size (a tree of 5 leaves proves its first leaf like one of 6), so
the size is signed beside the digest, as the ``objects`` of an event do, and whoever has all chunks compares
the digest of all leaves once more.

Rules:
    * Every chunk has exactly 1 MiB except the last, which has between 1 byte and 1 MiB.
    * The empty blob has no chunk; its digest is the root of the empty tree.
    * Digests travel as 64 lower-case hex characters.

What this does not do: read or write files; hand in a readable object or bytes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, Protocol

from fedmedlora_audit.errors import ProofError
from fedmedlora_audit.merkle import CHUNK_BYTES, Tree, leaf_hash, verify_inclusion

BLOB_ALG: Final = "rfc6962-1mib"
Chunk = bytes | bytearray | memoryview


class Readable(Protocol):
    """Anything with ``read(size) -> bytes``, such as a file opened in binary mode."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, none at the end."""


def blob_leaves(source: bytes | bytearray | memoryview | Readable) -> list[bytes]:
    """Return the leaf hash of every chunk, in order; memory stays at one chunk for a readable."""
    return [leaf_hash(chunk) for chunk in _chunks(source)]


def blob_digest(source: bytes | bytearray | memoryview | Readable) -> str:
    """Return the digest of a blob as 64 hex characters."""
    tree = Tree()
    for chunk in _chunks(source):
        tree.append(leaf_hash(chunk))
    return tree.root().hex()


def hash_chunks(chunks: Iterable[Chunk], *, sink: Callable[[Chunk], object], threads: int = 1) -> list[bytes]:
    """Hash the chunks of a blob while they are handed on; memory stays at a few chunks.

    Args:
        chunks: 1 MiB each but the last; none changes before this returns.
        sink: Takes every chunk in order, such as the ``write`` of a file.
        threads: Threads that hash beside the caller's; 1 hashes in the caller's.

    Returns:
        The leaf hash of every chunk, in order; they do not depend on the number of threads.

    Raises:
        ValueError: A chunk before the last is not 1 MiB long, or one is empty (the caller's mistake).
    """
    if threads <= 1:
        leaves = []
        for chunk in _whole_chunks(chunks):
            sink(chunk)
            leaves.append(leaf_hash(chunk))
        return leaves
    leaves, running = [], deque[Future[bytes]]()
    with ThreadPoolExecutor(threads) as pool:
        for chunk in _whole_chunks(chunks):
            running.append(pool.submit(leaf_hash, chunk))
            sink(chunk)
            if len(running) > 2 * threads:
                leaves.append(running.popleft().result())
        leaves += [done.result() for done in running]
    return leaves


def _whole_chunks(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    """Pass chunks on while they make a blob."""
    length = CHUNK_BYTES
    for chunk in chunks:
        if length != CHUNK_BYTES or not 0 < len(chunk) <= CHUNK_BYTES:
            raise ValueError("every chunk of a blob but the last has 1 MiB")
        length = len(chunk)
        yield chunk


def chunk_count(total_bytes: int) -> int:
    """Return the number of chunks of a blob of this size."""
    return -(-total_bytes // CHUNK_BYTES)


class BlobTree:
    """The tree of one blob, for whoever serves its chunks with proofs."""

    def __init__(self, leaves: Sequence[bytes], total_bytes: int) -> None:
        """Build from the leaf hashes that `blob_leaves` gave and the blob's size in bytes."""
        if total_bytes < 0 or len(leaves) != chunk_count(total_bytes):
            raise ValueError(f"{total_bytes} bytes do not make {len(leaves)} chunks")
        self._tree = Tree()
        for leaf in leaves:
            self._tree.append(leaf)
        self.total_bytes = total_bytes

    @property
    def digest(self) -> str:
        """The blob's digest, 64 hex characters."""
        return self._tree.root().hex()

    def proof(self, index: int) -> list[bytes]:
        """Return the inclusion proof of one chunk."""
        return self._tree.inclusion_proof(index, self._tree.size)


def verify_chunk(*, digest: str, total_bytes: int, index: int, data: bytes, proof: Sequence[bytes]) -> None:
    """Check one chunk against the digest and size of its blob.

    Raises:
        ProofError: The chunk has a wrong length, or is not that chunk of that blob (the sender's fault).
    """
    count = chunk_count(total_bytes)
    if not 0 <= index < count:
        raise ProofError(f"chunk {index} is outside a blob of {count} chunks")
    expected = min(CHUNK_BYTES, total_bytes - index * CHUNK_BYTES)
    if len(data) != expected:
        raise ProofError(f"chunk {index} has {len(data)} bytes, expected {expected}")
    verify_inclusion(leaf=leaf_hash(data), index=index, size=count, proof=proof, root=_root(digest))


def _root(digest: str) -> bytes:
    try:
        return bytes.fromhex(digest)
    except ValueError:
        raise ProofError("a blob digest is 64 hex characters") from None


def _chunks(source: bytes | bytearray | memoryview | Readable) -> Iterator[bytes]:
    if isinstance(source, bytes | bytearray | memoryview):
        view = memoryview(source).cast("B")
        for start in range(0, len(view), CHUNK_BYTES):
            yield bytes(view[start : start + CHUNK_BYTES])
        return
    while chunk := _read_full(source):
        yield chunk
        if len(chunk) < CHUNK_BYTES:
            return


def _read_full(source: Readable) -> bytes:
    """Read one whole chunk even from a source that returns short reads (a pipe, an unbuffered file)."""
    parts: list[bytes] = []
    missing = CHUNK_BYTES
    while missing and (part := source.read(missing)):
        parts.append(part)
        missing -= len(part)
    return b"".join(parts)
