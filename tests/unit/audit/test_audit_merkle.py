"""The tree against the RFC's recursive definitions, published constants, and probes of every proof."""

import hashlib
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_audit.errors import ProofError
from fedmedlora_audit.merkle import (
    EMPTY_ROOT,
    Tree,
    leaf_hash,
    node_hash,
    tree_root,
    verify_consistency,
    verify_inclusion,
)

LEAVES = [leaf_hash(bytes([number])) for number in range(40)]
TREE = Tree()
for _leaf in LEAVES:
    TREE.append(_leaf)


def split(count: int) -> int:
    power = 1
    while power * 2 < count:
        power *= 2
    return power


def recursive_root(leaves: list[bytes]) -> bytes:
    """RFC 6962 §2.1, word for word."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return leaves[0]
    k = split(len(leaves))
    return node_hash(recursive_root(leaves[:k]), recursive_root(leaves[k:]))


def recursive_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """RFC 6962 §2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(len(leaves))
    if index < k:
        return [*recursive_path(index, leaves[:k]), recursive_root(leaves[k:])]
    return [*recursive_path(index - k, leaves[k:]), recursive_root(leaves[:k])]


def recursive_consistency(old: int, leaves: list[bytes], *, whole: bool = True) -> list[bytes]:
    """RFC 6962 §2.1.2."""
    if old == len(leaves):
        return [] if whole else [recursive_root(leaves)]
    k = split(len(leaves))
    if old <= k:
        return [*recursive_consistency(old, leaves[:k], whole=whole), recursive_root(leaves[k:])]
    return [*recursive_consistency(old - k, leaves[k:], whole=False), recursive_root(leaves[:k])]


def test_constants_published() -> None:
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert leaf_hash(b"").hex() == "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"
    assert leaf_hash(b"L123456").hex() == "395aa064aa4c29f7010acfe3f25db9485bbd4b91897b6ad7ad547639252b4d56"
    assert (
        node_hash(b"N123", b"N456").hex()
        == "aa217fe888e47007fa15edab33c2b492a722cb106c64667fc2b044444de66bbb"
    )


def test_root_eight_leaves_published() -> None:
    datas = [
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    ]
    root = tree_root(leaf_hash(bytes.fromhex(data)) for data in datas)
    assert root.hex() == "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"


def test_root_every_size_equals_the_definition() -> None:
    for size in range(len(LEAVES) + 1):
        assert TREE.root(size) == recursive_root(LEAVES[:size])


def test_proofs_every_pair_equal_the_definition_and_verify() -> None:
    for size in range(1, len(LEAVES) + 1):
        root = TREE.root(size)
        for index in range(size):
            path = TREE.inclusion_proof(index, size)
            assert path == recursive_path(index, LEAVES[:size])
            verify_inclusion(leaf=LEAVES[index], index=index, size=size, proof=path, root=root)
        for old in range(1, size + 1):
            proof = TREE.consistency_proof(old, size)
            assert proof == recursive_consistency(old, LEAVES[:size])
            verify_consistency(
                old_size=old, old_root=TREE.root(old), new_size=size, new_root=root, proof=proof
            )


def flipped(proof: list[bytes]) -> Iterator[list[bytes]]:
    """Every proof that differs by one bit of one hash, one hash more or one hash less."""
    junk = leaf_hash(b"junk")
    for place, value in enumerate(proof):
        yield [*proof[:place], bytes([value[0] ^ 1]) + value[1:], *proof[place + 1 :]]
        yield [*proof[:place], *proof[place + 1 :]]
        yield proof[:place]
    for place in range(len(proof) + 1):
        for extra in (junk, b"", TREE.root()):
            yield [*proof[:place], extra, *proof[place:]]


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 31, 32, 40])
def test_inclusion_probes_all_refused(size: int) -> None:
    root = TREE.root(size)
    for index in range(size):
        good = TREE.inclusion_proof(index, size)
        leaf = LEAVES[index]
        probes: list[tuple[bytes, int, int, list[bytes], bytes]] = [
            (leaf, other, size, good, root)
            for other in (index + 1, index - 1, index ^ 2, -1)
            if other != index
        ]
        probes += [(leaf, index, other, good, root) for other in (size * 2, size // 2) if other != size]
        probes += [(leaf, index, size, proof, root) for proof in flipped(good)]
        probes += [
            (leaf_hash(b"other"), index, size, good, root),
            (leaf, index, size, good, b""),
            (leaf, index, size, good, EMPTY_ROOT),
            (leaf, index, size, good, leaf_hash(b"random root")),
        ]
        for probe_leaf, probe_index, probe_size, proof, probe_root in probes:
            with pytest.raises(ProofError):
                verify_inclusion(
                    leaf=probe_leaf, index=probe_index, size=probe_size, proof=proof, root=probe_root
                )


@pytest.mark.parametrize("new", [1, 2, 3, 7, 8, 9, 31, 32, 40])
def test_consistency_probes_all_refused(new: int) -> None:
    new_root = TREE.root(new)
    for old in range(1, new + 1):
        old_root, good = TREE.root(old), TREE.consistency_proof(old, new)
        probes: list[tuple[int, bytes, int, bytes, list[bytes]]] = [
            (old, old_root, new, new_root, proof) for proof in flipped(good)
        ]
        probes += [
            (0, EMPTY_ROOT, new, new_root, []),
            (0, EMPTY_ROOT, new, new_root, good),
            (old, b"", new, new_root, good),
            (old, leaf_hash(b"random"), new, new_root, good),
            (old, old_root, new, leaf_hash(b"random"), good),
            (new + 1, old_root, new, new_root, good),
            (old + 1, old_root, new, new_root, good),
            (old, old_root, new * 2, new_root, good),
        ]
        if old != new:
            probes += [(old, new_root, new, old_root, good), (old, old_root, new, new_root, [])]
            probes += [(old, old_root, old, new_root, good)]
        for old_size, probe_old, new_size, probe_new, proof in probes:
            with pytest.raises(ProofError):
                verify_consistency(
                    old_size=old_size, old_root=probe_old, new_size=new_size, new_root=probe_new, proof=proof
                )


@given(st.integers(1, 300), st.data())
def test_proofs_any_size_verify_and_wrong_leaf_refused(size: int, data: st.DataObject) -> None:
    tree = Tree()
    for number in range(size):
        tree.append(leaf_hash(number.to_bytes(2, "big")))
    index = data.draw(st.integers(0, size - 1))
    old = data.draw(st.integers(1, size))
    path = tree.inclusion_proof(index, size)
    verify_inclusion(leaf=tree.leaf(index), index=index, size=size, proof=path, root=tree.root())
    with pytest.raises(ProofError):
        verify_inclusion(leaf=leaf_hash(b"no"), index=index, size=size, proof=path, root=tree.root())
    verify_consistency(
        old_size=old,
        old_root=tree.root(old),
        new_size=size,
        new_root=tree.root(),
        proof=tree.consistency_proof(old, size),
    )


def test_tree_misuse_raises() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        Tree().append(b"short")
    for misuse in (
        lambda: TREE.root(41),
        lambda: TREE.inclusion_proof(5, 5),
        lambda: TREE.consistency_proof(0, 5),
        lambda: TREE.consistency_proof(6, 5),
    ):
        with pytest.raises(ValueError, match=r"no "):
            misuse()
