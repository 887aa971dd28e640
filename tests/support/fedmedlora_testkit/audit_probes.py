"""Probes of Merkle proofs from our own trees, by class: what any verifier of RFC 6962 proofs must refuse.

A bent proof is dropped where the bend happens to give a good one again (index 0 of a tree of one leaf has
index xor 2 outside it, an empty proof of equal sizes is the good one): every probe but those of class "good"
must be refused.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, fields, replace
from typing import Any, Final

from fedmedlora_audit.merkle import EMPTY_ROOT, Tree, leaf_hash

SIZES: Final = (1, 2, 3, 7, 8)
JUNK: Final = hashlib.sha256(b"garbage").digest()
RANDOM: Final = hashlib.sha256(b"another root").digest()

PUBLISHED: Final[dict[str, Any]] = {
    "empty_root": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "leaves": [
        {"data": "", "hash": "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"},
        {
            "data": b"L123456".hex(),
            "hash": "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56",
        },
    ],
    "node": {
        "left": b"N123".hex(),
        "right": b"N456".hex(),
        "hash": "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb",
    },
    "tree": {
        "leaf_data": [
            "",
            "00",
            "10",
            "2021",
            "3031",
            "40414243",
            "5051525354555657",
            "606162636465666768696a6b6c6d6e6f",
        ],
        "root": "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    },
}
"""Known answers of RFC 6962 trees."""

BENDS: Final = frozenset(
    {
        "bit flipped",
        "garbage before",
        "garbage after",
        "root before",
        "root after",
        "truncated",
        "component inserted",
        "component removed",
        "component short",
    }
)
INCLUSION_CLASSES: Final = BENDS | {
    "good",
    "index + 1",
    "index - 1",
    "index xor 2",
    "size x 2",
    "size / 2",
    "size 0",
    "wrong leaf",
    "empty root",
    "no root",
    "random root",
    "empty proof",
}
CONSISTENCY_CLASSES: Final = BENDS | {
    "good",
    "old size + 1",
    "old size - 1",
    "old size xor 2",
    "new size x 2",
    "new size / 2",
    "old size 0",
    "both sizes 0",
    "old size above new size",
    "empty root",
    "random old root",
    "random new root",
    "roots swapped",
    "empty proof",
    "equal sizes with a proof",
    "equal sizes, other roots",
}


@dataclass(frozen=True, slots=True)
class _Probe:
    name: str
    proof: tuple[bytes, ...]

    def table(self) -> dict[str, Any]:
        """Return the probe as the vector file holds it."""
        found: dict[str, Any] = {"class": self.name, "accepted": self.name == "good"}
        for field in fields(self):
            if field.name != "name":
                found[field.name] = _plain(getattr(self, field.name))
        return found


@dataclass(frozen=True, slots=True)
class InclusionProbe(_Probe):
    """A leaf, and a proof of where it stands."""

    leaf: bytes
    index: int
    size: int
    root: bytes


@dataclass(frozen=True, slots=True)
class ConsistencyProbe(_Probe):
    """Two heads, and a proof that one continues the other."""

    old_size: int
    old_root: bytes
    new_size: int
    new_root: bytes


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    return [part.hex() for part in value] if isinstance(value, tuple) else value


def _bent(proof: tuple[bytes, ...], root: bytes) -> Iterator[tuple[str, tuple[bytes, ...]]]:
    """Yield a proof's bends by class."""
    for place, value in enumerate(proof):
        before, after = proof[:place], proof[place + 1 :]
        yield "bit flipped", (*before, bytes([value[0] ^ 1]) + value[1:], *after)
        yield "bit flipped", (*before, value[:-1] + bytes([value[-1] ^ 0x80]), *after)
        yield "component inserted", (*before, JUNK, *proof[place:])
        yield "component removed", (*before, *after)
        yield "component short", (*before, value[:-1], *after)
    yield "garbage before", (JUNK, *proof)
    yield "garbage after", (*proof, JUNK)
    yield "root before", (root, *proof)
    yield "root after", (*proof, root)
    if proof:
        yield "truncated", proof[:-1]
        yield "empty proof", ()


def _tree(size: int) -> Tree:
    return Tree.of_data(b"leaf %d" % number for number in range(size))


def inclusion_probes() -> Iterator[InclusionProbe]:
    """Yield every inclusion proof of some trees, and its bends."""
    for size in SIZES:
        tree = _tree(size)
        for index in range(size):
            proof = tuple(tree.inclusion_proof(index, size))
            good = InclusionProbe("good", proof, tree.leaf(index), index, size, tree.root())
            yield good
            for name, bent in _bent(proof, good.root):
                yield replace(good, name=name, proof=bent)
            yield from _inclusion_terms(good)


def _inclusion_terms(good: InclusionProbe) -> Iterator[InclusionProbe]:
    for name, index in (("+ 1", good.index + 1), ("- 1", good.index - 1), ("xor 2", good.index ^ 2)):
        yield replace(good, name=f"index {name}", index=index)
    for name, size in (("x 2", good.size * 2), ("/ 2", good.size // 2), ("0", 0)):
        yield replace(good, name=f"size {name}", size=size)
    yield replace(good, name="wrong leaf", leaf=leaf_hash(b"another leaf"))
    for name, root in (("empty", EMPTY_ROOT), ("no", b""), ("random", RANDOM)):
        yield replace(good, name=f"{name} root", root=root)


def consistency_probes() -> Iterator[ConsistencyProbe]:
    """Yield every consistency proof of some trees, and its bends."""
    for new in SIZES:
        tree = _tree(new)
        for old in range(1, new + 1):
            proof = tuple(tree.consistency_proof(old, new))
            good = ConsistencyProbe("good", proof, old, tree.root(old), new, tree.root())
            yield good
            for name, bent in _bent(proof, good.new_root):
                if (old, name) != (new, "empty proof"):
                    yield replace(good, name=name, proof=bent)
            yield from _consistency_terms(good)


def _consistency_terms(good: ConsistencyProbe) -> Iterator[ConsistencyProbe]:
    old, new = good.old_size, good.new_size
    for name, size in (("+ 1", old + 1), ("- 1", old - 1), ("xor 2", old ^ 2), ("0", 0)):
        if size != new or good.proof:
            yield replace(good, name=f"old size {name}", old_size=size)
    for name, size in (("x 2", new * 2), ("/ 2", new // 2)):
        yield replace(good, name=f"new size {name}", new_size=size)
    yield replace(good, name="both sizes 0", old_size=0, new_size=0)
    yield replace(good, name="old size above new size", old_size=new + 1)
    yield replace(good, name="empty root", old_root=EMPTY_ROOT)
    yield replace(good, name="random old root", old_root=RANDOM)
    yield replace(good, name="random new root", new_root=RANDOM)
    if old != new:
        yield replace(good, name="roots swapped", old_root=good.new_root, new_root=good.old_root)
        yield replace(good, name="equal sizes, other roots", new_size=old)
        yield replace(good, name="equal sizes with a proof", new_size=old, new_root=good.old_root)
    else:
        yield replace(good, name="equal sizes with a proof", proof=(JUNK,))
