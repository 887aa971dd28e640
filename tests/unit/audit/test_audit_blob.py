"""Blob digests: chunks of 1 MiB, each provable on its own."""

import io

import pytest

from fedmedlora_audit.blob import BlobTree, blob_digest, blob_leaves, chunk_count, verify_chunk
from fedmedlora_audit.errors import ProofError
from fedmedlora_audit.merkle import CHUNK_BYTES, EMPTY_ROOT, leaf_hash, node_hash


class Trickle(io.BytesIO):
    """A source that returns short reads, as pipes do."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 300_000))


def test_digest_known_shapes() -> None:
    assert blob_digest(b"") == EMPTY_ROOT.hex()
    assert blob_digest(b"abc") == leaf_hash(b"abc").hex()
    data = bytes(CHUNK_BYTES) + b"x"
    assert blob_digest(data) == node_hash(leaf_hash(bytes(CHUNK_BYTES)), leaf_hash(b"x")).hex()


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, 3 * CHUNK_BYTES])
def test_digest_same_from_bytes_file_and_short_reads(size: int) -> None:
    data = bytes(index % 251 for index in range(1024)) * (size // 1024 + 1)
    data = data[:size]
    assert blob_digest(data) == blob_digest(io.BytesIO(data)) == blob_digest(Trickle(data))
    assert blob_leaves(memoryview(data)) == blob_leaves(io.BytesIO(data))
    assert len(blob_leaves(data)) == chunk_count(size)


def test_verify_chunk_good_accepted_and_every_defect_refused() -> None:
    data = b"".join(bytes([n]) * CHUNK_BYTES for n in range(4)) + b"tail"
    tree = BlobTree(blob_leaves(data), len(data))
    chunks = [data[start : start + CHUNK_BYTES] for start in range(0, len(data), CHUNK_BYTES)]
    for index, chunk in enumerate(chunks):
        proof = tree.proof(index)
        verify_chunk(digest=tree.digest, total_bytes=len(data), index=index, data=chunk, proof=proof)
        for digest, total, place, payload, path in (
            (tree.digest, len(data), index, chunk[:-1] + b"!", proof),
            (tree.digest, len(data), index, chunk[:-1], proof),
            (tree.digest, len(data), index, chunk + b"!", proof),
            (tree.digest, len(data), (index + 1) % 5, chunk, proof),
            (tree.digest, len(data), 5, chunk, proof),
            (tree.digest, len(data), index, chunk, proof[:-1]),
            ("zz", len(data), index, chunk, proof),
            (leaf_hash(b"").hex(), len(data), index, chunk, proof),
        ):
            with pytest.raises(ProofError):
                verify_chunk(digest=digest, total_bytes=total, index=place, data=payload, proof=path)


def test_verify_chunk_wrong_size_some_chunk_cannot_be_shown() -> None:
    data = bytes(2 * CHUNK_BYTES)
    tree = BlobTree(blob_leaves(data), len(data))

    def shown(index: int, total: int) -> bool:
        piece = bytes(min(CHUNK_BYTES, total - index * CHUNK_BYTES))
        for proof in (tree.proof(0), tree.proof(1), []):
            try:
                verify_chunk(digest=tree.digest, total_bytes=total, index=index, data=piece, proof=proof)
            except ProofError:
                continue
            return True
        return False

    assert all(shown(index, len(data)) for index in range(2))
    for total in (len(data) + 1, len(data) - 1, len(data) + CHUNK_BYTES):
        assert not all(shown(index, total) for index in range(chunk_count(total)))


def test_blob_tree_wrong_count_raises() -> None:
    with pytest.raises(ValueError, match="chunks"):
        BlobTree([leaf_hash(b"a")], CHUNK_BYTES + 1)
