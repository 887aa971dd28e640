"""The privacy ledger: nothing that was written is lost, changed or forgotten without being noticed."""

from __future__ import annotations

import json
import multiprocessing
import stat
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_site import ledger as module
from fedmedlora_site.durable import append, write_atomic
from fedmedlora_site.errors import FolderError
from fedmedlora_site.ledger import Charge, Ledger
from fedmedlora_testkit.spending import charge, write_with_another


def make(root: Path, count: int = 0) -> Ledger:
    ledger = Ledger(root / "ledger.jsonl", root / "ledger.head")
    for number in range(1, count + 1):
        write(ledger, number)
    return ledger


def write(ledger: Ledger, number: int) -> None:
    with ledger.writing() as writer:
        writer.add(charge(number))


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("three")
    make(root, 3)
    return root


def test_charges_survive_a_restart_in_their_order(tmp_path: Path) -> None:
    # R4.13.5
    make(tmp_path, 3)
    assert make(tmp_path).charges() == (charge(1), charge(2), charge(3))
    assert stat.S_IMODE((tmp_path / "ledger.jsonl").stat().st_mode) == 0o600


def test_no_ledger_yet_holds_nothing(tmp_path: Path) -> None:
    assert make(tmp_path).charges() == ()


def test_a_line_holds_integers_digests_and_names_only(tmp_path: Path) -> None:
    make(tmp_path, 1)
    fields = json.loads((tmp_path / "ledger.jsonl").read_text())
    assert set(fields) == {*Charge.model_fields, "prev", "hash"}
    assert not any(isinstance(value, float) for value in fields.values())


@settings(deadline=None, max_examples=30)
@given(cut=st.integers(min_value=1, max_value=400))
def test_a_torn_last_line_is_dropped_and_the_chain_goes_on(
    tmp_path_factory: pytest.TempPathFactory, cut: int
) -> None:
    root = tmp_path_factory.mktemp("ledger")
    ledger, path = make(root, 1), root / "ledger.jsonl"
    whole = len(path.read_bytes())
    head = (root / "ledger.head").read_bytes()
    write(ledger, 2)
    (root / "ledger.head").write_bytes(head)  # a crash in the append: no later head was written
    data = path.read_bytes()
    path.write_bytes(data[: max(whole, len(data) - cut)])
    assert make(root).charges() == (charge(1),)
    write(make(root), 3)
    assert make(root).charges() == (charge(1), charge(3))


@settings(deadline=None)
@given(place=st.integers(min_value=0), bit=st.integers(min_value=0, max_value=7))
def test_every_flipped_bit_stops_the_site(three: Path, place: int, bit: int) -> None:
    path = three / "ledger.jsonl"
    whole = path.read_bytes()
    data = bytearray(whole)
    data[place % len(data)] ^= 1 << bit
    path.write_bytes(data)
    try:
        with pytest.raises(FolderError):
            make(three).charges()
    finally:
        path.write_bytes(whole)


@pytest.mark.parametrize(
    "change",
    [
        lambda lines: lines[1:],
        lambda lines: [lines[0], lines[2]],
        lambda lines: [lines[1], lines[0], lines[2]],
        lambda lines: [*lines, lines[2]],
        lambda lines: lines[:2],
        lambda lines: [],
        lambda lines: [lines[0], b"{}", lines[2]],
        lambda lines: [lines[0], b"[" * 100_000, lines[2]],
    ],
)
def test_a_line_left_out_moved_repeated_or_cut_off_stops_the_site(tmp_path: Path, change: object) -> None:
    make(tmp_path, 3)
    path = tmp_path / "ledger.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    path.write_bytes(b"".join(line + b"\n" for line in change(lines)))  # type: ignore[operator]
    with pytest.raises(FolderError):
        make(tmp_path).charges()
    with pytest.raises(FolderError), make(tmp_path).writing():
        raise AssertionError("not reached")


def test_an_older_copy_of_the_ledger_is_refused(tmp_path: Path) -> None:
    ledger, path = make(tmp_path, 2), tmp_path / "ledger.jsonl"
    old = path.read_bytes()
    write(ledger, 3)
    path.write_bytes(old)
    with pytest.raises(FolderError, match=r"holds 2 charge\(s\), and not the 3"):
        make(tmp_path).charges()


def test_a_disk_that_is_not_mounted_is_not_an_empty_ledger(tmp_path: Path) -> None:
    shared = tmp_path / "disk"
    shared.mkdir()
    here, there = (Ledger(shared / "ledger.jsonl", tmp_path / f"{name}.head") for name in "ab")
    write(here, 1)
    assert there.charges() == (charge(1),)
    shared.rename(tmp_path / "gone")
    for ledger in (here, there):
        with pytest.raises(FolderError, match="is the disk there"):
            ledger.charges()
        with pytest.raises(FolderError, match="is its disk there"), ledger.writing():
            raise AssertionError("not reached")
    shared.mkdir()  # the mount point without its disk
    with pytest.raises(FolderError, match="not the 1"):
        here.charges()


def test_a_ledger_that_is_no_file_is_said(tmp_path: Path) -> None:
    (tmp_path / "ledger.jsonl").mkdir()
    with pytest.raises(FolderError, match=r"ledger\.jsonl: cannot be read"):
        make(tmp_path).charges()


def test_a_damaged_head_is_said(tmp_path: Path) -> None:
    make(tmp_path, 1)
    (tmp_path / "ledger.head").write_bytes(b"{}")
    with pytest.raises(FolderError, match=r"ledger\.head: damaged"):
        make(tmp_path).charges()


def test_a_charge_whose_write_reported_an_error_is_written_again_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = make(tmp_path, 1)

    def persisted_but_error(path: Path, data: bytes) -> None:
        append(path, data)
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(module, "append", persisted_but_error)
    with pytest.raises(OSError, match="Input"):
        write(ledger, 2)
    monkeypatch.undo()
    written: list[bytes] = []

    def watched(path: Path, data: bytes) -> None:
        written.append(data)
        write_atomic(path, data)

    monkeypatch.setattr(module, "write_atomic", watched)
    with make(tmp_path).writing() as writer:
        assert writer.charges == (charge(1), charge(2))
        writer.renew()
    assert written[0] == (tmp_path / "ledger.jsonl").read_bytes()
    assert make(tmp_path).charges() == (charge(1), charge(2))


def test_two_folders_write_one_ledger_and_no_charge_is_lost(tmp_path: Path) -> None:
    """Two processes at once; without the lock their chains fork and the ledger cannot be read."""
    context = multiprocessing.get_context("spawn")
    both = context.Barrier(2)
    processes = [
        context.Process(target=write_with_another, args=(str(tmp_path), first, both)) for first in (100, 200)
    ]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
        assert process.exitcode == 0
    found = Ledger(tmp_path / "ledger.jsonl", tmp_path / "any.head").charges()
    assert sorted(c.round for c in found) == [*range(100, 120), *range(200, 220)]


def test_a_lock_is_given_back_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), make(tmp_path).writing():
        raise RuntimeError
    before = len(list(Path("/proc/self/fd").iterdir()))
    write(make(tmp_path), 1)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_ledger_behind_a_link_is_refused(tmp_path: Path) -> None:
    """Writing it again would put a copy in the link's place, and each of two files would count a part."""
    shared = tmp_path / "shared"
    shared.mkdir()
    make(shared, 1)
    (tmp_path / "ledger.jsonl").symlink_to(shared / "ledger.jsonl")
    with pytest.raises(FolderError, match="is a link"):
        make(tmp_path).charges()
    with pytest.raises(FolderError, match="is a link"):
        write(make(tmp_path), 2)
    assert len(make(shared).charges()) == 1
