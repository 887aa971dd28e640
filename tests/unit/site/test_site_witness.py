"""A site as a witness: one history, durable before it is said, and nothing smaller afterwards."""

from pathlib import Path

import pytest

from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.cosignature import open_line
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_site import witness as module
from fedmedlora_site.errors import FolderError, ForkError
from fedmedlora_site.witness import Witness

ORIGIN = "log.example"
LOG = NoteSigner.from_seed(ORIGIN, b"l" * 32)
SIGNER = NoteSigner.from_seed("site-a", b"w" * 32, algorithm=ALG_COSIGNATURE)


def tree_of(count: int, salt: bytes = b"") -> Tree:
    return Tree.of_data([salt + bytes([index]) for index in range(count)])


def head_of(tree: Tree, origin: str = ORIGIN) -> bytes:
    return sign_checkpoint(Checkpoint(origin, tree.size, tree.root()), LOG)


class Clock:
    def __init__(self) -> None:
        self.time = 1000

    def __call__(self) -> int:
        return self.time


def opened(path: Path, clock: Clock | None = None) -> Witness:
    return Witness(path, lambda size: SIGNER, ORIGIN, clock or Clock())


def test_a_cosignature_waits_until_it_is_acknowledged_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "run" / "witness.json"
    first = opened(path)
    first.sign(head_of(tree_of(3)))
    again = opened(path)
    assert again.size == 3
    assert again.unsent == first.unsent
    ((note, line),) = again.unsent
    assert open_line(line, SIGNER.verifier, Checkpoint(ORIGIN, 3, tree_of(3).root())) == 1000
    assert note == head_of(tree_of(3))
    again.acknowledged(again.unsent[0])
    assert again.unsent == ()


def test_the_promise_is_durable_before_the_line_can_leave(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R5.6.4
    witness = opened(tmp_path / "witness.json")

    def full(path: Path, data: bytes) -> None:
        raise OSError(28, "no space left")

    monkeypatch.setattr(module, "write_atomic", full)
    with pytest.raises(OSError, match="no space"):
        witness.sign(head_of(tree_of(3)))
    assert opened(tmp_path / "witness.json").size == 0


def test_two_roots_of_one_size_are_never_signed(tmp_path: Path) -> None:
    # R5.6.4
    witness = opened(tmp_path / "witness.json")
    witness.sign(head_of(tree_of(3)))
    witness.sign(head_of(tree_of(3)))  # the same head again is nothing new
    assert len(witness.unsent) == 1
    with pytest.raises(ForkError, match="another head of size 3"):
        witness.sign(head_of(tree_of(3, b"other")))
    assert len(witness.unsent) == 1


def test_a_smaller_head_is_not_signed_any_more(tmp_path: Path) -> None:
    witness = opened(tmp_path / "witness.json")
    witness.sign(head_of(tree_of(5)))
    witness.sign(head_of(tree_of(4)))
    witness.sign(head_of(tree_of(9), "other.example"))
    assert (witness.size, len(witness.unsent)) == (5, 1)


def test_a_mirror_fetched_anew_has_to_be_the_history_that_was_cosigned(tmp_path: Path) -> None:
    opened(tmp_path / "witness.json").sign(head_of(tree_of(5)))
    witness = opened(tmp_path / "witness.json")
    witness.compare(tree_of(4, b"other"))  # too short to tell
    with pytest.raises(ForkError, match="another than the one cosigned at size 5"):
        witness.compare(tree_of(6, b"other"))
    opened(tmp_path / "witness.json").compare(tree_of(6))


def test_a_clock_that_was_set_back_does_not_date_a_head_before_the_last_one(tmp_path: Path) -> None:
    clock = Clock()
    witness = opened(tmp_path / "witness.json", clock)
    witness.sign(head_of(tree_of(1)))
    clock.time = 10
    witness.sign(head_of(tree_of(2)))
    times = [
        open_line(line, SIGNER.verifier, Checkpoint(ORIGIN, size, tree_of(size).root()))
        for size, (_, line) in enumerate(witness.unsent, start=1)
    ]
    assert times == [1000, 1000]


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"schema": "other"}', b"\xff"])
def test_a_damaged_file_stops_the_site(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "witness.json"
    path.write_bytes(content)
    with pytest.raises(FolderError, match="damaged or of another log"):
        opened(path)
