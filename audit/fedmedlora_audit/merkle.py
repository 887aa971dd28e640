"""RFC 6962 Merkle trees: hashes, roots, inclusion and consistency proofs (AUDIT "Tree").

Rules:
    * SHA-256; a leaf is ``H(0x00 | data)``, a node ``H(0x01 | left | right)``; the empty tree is ``H("")``.
    * A proof is accepted only at its exact length; nothing may precede or follow it.
    * A consistency proof from size 0 says nothing and is refused (callers handle an empty old tree).

What this does not do: know what a leaf is, or who signed a root.

Example:
    >>> tree = Tree()
    >>> _ = [tree.append(leaf_hash(data)) for data in (b"a", b"b", b"c")]
    >>> proof = tree.inclusion_proof(2, 3)
    >>> verify_inclusion(leaf=leaf_hash(b"c"), index=2, size=3, proof=proof, root=tree.root())
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final, Self

from fedmedlora_audit.errors import ProofError

HASH_BYTES: Final = 32
CHUNK_BYTES: Final = 1 << 20
"""Size of one leaf of a blob's tree (1 MiB)."""
EMPTY_ROOT: Final = hashlib.sha256(b"").digest()


def leaf_hash(data: bytes | bytearray | memoryview) -> bytes:
    """Hash the data of one leaf (RFC 6962 §2.1)."""
    leaf = hashlib.sha256(b"\x00")
    leaf.update(data)  # a chunk of a blob is not copied for its prefix
    return leaf.digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into their parent (RFC 6962 §2.1)."""
    return hashlib.sha256(b"\x01" + left + right).digest()


def tree_root(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root over leaf hashes; of none, the root of the empty tree."""
    tree = Tree()
    for leaf in leaf_hashes:
        tree.append(leaf)
    return tree.root()


class Tree:
    """An append-only Merkle tree that keeps every complete subtree.

    ``append`` costs O(1) hashes amortised, ``root`` O(log n) for any size so far, a proof O(log^2 n).
    """

    def __init__(self) -> None:
        """Start empty."""
        self._levels: list[list[bytes]] = [[]]  # _levels[k][i] covers leaves [i * 2**k, (i + 1) * 2**k)

    @classmethod
    def of_data(cls, datas: Iterable[bytes]) -> Self:
        """Return the tree over the data of these leaves."""
        tree = cls()
        for data in datas:
            tree.append(leaf_hash(data))
        return tree

    @property
    def size(self) -> int:
        """Number of leaves."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> int:
        """Add one leaf hash (32 bytes) and return its index."""
        if len(leaf) != HASH_BYTES:
            raise ValueError(f"a leaf hash has {HASH_BYTES} bytes, got {len(leaf)}")
        index = self.size
        self._levels[0].append(leaf)
        level = 0
        while len(self._levels[level]) % 2 == 0:
            parent = node_hash(self._levels[level][-2], self._levels[level][-1])
            level += 1
            if level == len(self._levels):
                self._levels.append([])
            self._levels[level].append(parent)
        return index

    def leaf(self, index: int) -> bytes:
        """Return the leaf hash at an index."""
        return self._levels[0][index]

    def complete(self, level: int) -> Sequence[bytes]:
        """Return the roots of all complete subtrees of 2**level leaves, in order (what hash tiles hold)."""
        return self._levels[level] if level < len(self._levels) else ()

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first ``size`` leaves (of all by default)."""
        size = self.size if size is None else size
        self._need(0 <= size <= self.size, f"no root at size {size}, the tree has {self.size} leaves")
        return self._range_root(0, size) if size else EMPTY_ROOT

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Prove that leaf ``index`` is in the tree of the first ``size`` leaves (RFC 6962 §2.1.1)."""
        self._need(0 <= index < size <= self.size, f"no leaf {index} in a tree of size {size}")
        path: list[bytes] = []
        start, end = 0, size
        while end - start > 1:
            middle = start + _split(end - start)
            if index < middle:
                path.append(self._range_root(middle, end))
                end = middle
            else:
                path.append(self._range_root(start, middle))
                start = middle
        return path[::-1]

    def consistency_proof(self, old: int, new: int) -> list[bytes]:
        """Prove that the tree of size ``old`` is a prefix of that of size ``new`` (RFC 6962 §2.1.2)."""
        self._need(0 < old <= new <= self.size, f"no consistency proof from size {old} to {new}")
        path: list[bytes] = []
        start, end = 0, new
        while end != old:
            middle = start + _split(end - start)
            if old <= middle:
                path.append(self._range_root(middle, end))
                end = middle
            else:
                path.append(self._range_root(start, middle))
                start = middle
        if start:  # a complete old tree is its own seed; the verifier holds it already
            path.append(self._range_root(start, old))
        return path[::-1]

    @staticmethod
    def _need(condition: bool, sentence: str) -> None:
        if not condition:
            raise ValueError(sentence)

    def _range_root(self, start: int, end: int) -> bytes:
        """Return the root of leaves [start, end); start is a multiple of the range's largest subtree."""
        peaks: list[bytes] = []
        while start < end:
            level = (end - start).bit_length() - 1
            peaks.append(self._levels[level][start >> level])
            start += 1 << level
        root = peaks.pop()
        while peaks:
            root = node_hash(peaks.pop(), root)
        return root


def verify_inclusion(*, leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that ``leaf`` is leaf number ``index`` of the tree with this size and root (RFC 9162 §2.1.3.2).

    Raises:
        ProofError: The proof does not lead from the leaf to the root (the prover's fault).
    """
    if not 0 <= index < size:
        raise ProofError(f"leaf index {index} is outside a tree of size {size}")
    _hashes_only([leaf, root, *proof])
    inner = (index ^ (size - 1)).bit_length()
    border = (index >> inner).bit_count()
    if len(proof) != inner + border:
        raise ProofError(f"an inclusion proof here has {inner + border} hashes, got {len(proof)}")
    computed = _climb(leaf, proof[:inner], index)
    for left in proof[inner:]:
        computed = node_hash(left, computed)
    if computed != root:
        raise ProofError(f"the inclusion proof of leaf {index} does not lead to the root of size {size}")


def verify_consistency(
    *, old_size: int, old_root: bytes, new_size: int, new_root: bytes, proof: Sequence[bytes]
) -> None:
    """Check that the old tree is a prefix of the new one (RFC 9162 §2.1.4.2).

    Raises:
        ProofError: The proof does not connect the two roots, or the old tree is empty.
    """
    if not 0 < old_size <= new_size:
        raise ProofError(f"no consistency proof leads from size {old_size} to size {new_size}")
    _hashes_only([old_root, new_root, *proof])
    if old_size == new_size:
        if proof or old_root != new_root:
            raise ProofError(f"two different trees of size {old_size}, or a proof where none is needed")
        return
    shift = (old_size & -old_size).bit_length() - 1
    inner = ((old_size - 1) ^ (new_size - 1)).bit_length() - shift
    border = ((old_size - 1) >> (inner + shift)).bit_count()
    start = 0 if old_size == 1 << shift else 1
    if len(proof) != start + inner + border:
        raise ProofError(f"a consistency proof here has {start + inner + border} hashes, got {len(proof)}")
    seed = proof[0] if start else old_root
    index = (old_size - 1) >> shift
    steps, lefts = proof[start : start + inner], proof[start + inner :]
    old_computed = _climb(seed, [step for bit, step in enumerate(steps) if index >> bit & 1], ~0)
    new_computed = _climb(seed, steps, index)
    for left in lefts:
        old_computed, new_computed = node_hash(left, old_computed), node_hash(left, new_computed)
    if old_computed != old_root or new_computed != new_root:
        raise ProofError(f"size {old_size} is not shown to be a prefix of size {new_size}")


def _split(count: int) -> int:
    """Return the largest power of two below ``count`` (count > 1)."""
    return 1 << (count - 1).bit_length() - 1


def _climb(seed: bytes, steps: Sequence[bytes], index: int) -> bytes:
    """Hash upwards; bit i of ``index`` says whether step i is the left sibling."""
    for bit, sibling in enumerate(steps):
        seed = node_hash(sibling, seed) if index >> bit & 1 else node_hash(seed, sibling)
    return seed


def _hashes_only(values: Sequence[bytes]) -> None:
    if any(len(value) != HASH_BYTES for value in values):
        raise ProofError(f"every hash of a proof has {HASH_BYTES} bytes")
