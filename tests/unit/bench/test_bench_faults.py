"""The parts of the fault simulation on their own: schedules as data, time, disks, and what is derivable."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_bench.faults.derivation import Derived, Knowledge, derivable
from fedmedlora_bench.faults.disk import Disk
from fedmedlora_bench.faults.hosts import Host, Killed
from fedmedlora_bench.faults.inputs import Inputs
from fedmedlora_bench.faults.run import keep_failures, load_schedules
from fedmedlora_bench.faults.schedule import Schedule, draw
from fedmedlora_bench.faults.virtual_time import START_SECONDS, StuckError, VirtualLoop
from fedmedlora_core.errors import ConfigError
from fedmedlora_crypto.secagg import MASKED_SUITE, Party, SessionTerms
from fedmedlora_crypto.secagg.reference import reference_view
from fedmedlora_site.durable import append, write_atomic


def test_a_schedule_follows_from_its_seed_and_survives_a_file(tmp_path: Path) -> None:
    drawn = [draw(seed) for seed in range(50)]
    assert drawn == [draw(seed) for seed in range(50)]
    assert {o.what for s in drawn for o in s.operations} >= {"kill", "power-cut", "cut", "disk-full"}
    keep_failures(tmp_path / "kept.json", drawn)
    keep_failures(tmp_path / "kept.json", drawn[:3])
    assert load_schedules(tmp_path / "kept.json") == drawn


@pytest.mark.parametrize(
    "change", [{"seed": "x"}, {"setup": {"hospitals": 4}}, {"operations": [{"what": "rain"}]}]
)
def test_a_malformed_schedule_is_refused(change: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match="malformed"):
        Schedule.from_json({**draw(1).to_json(), **change})


def test_hours_pass_at_once_and_threads_run_in_one_order() -> None:
    async def scene() -> list[str]:
        said = []

        async def wait(seconds: float, word: str) -> None:
            await asyncio.sleep(seconds)
            said.append(await asyncio.to_thread(lambda: word))

        await asyncio.gather(wait(7200, "late"), wait(1, "early"))
        return said

    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        assert runner.run(scene()) == ["early", "late"]
        assert runner.get_loop().time() - START_SECONDS == pytest.approx(7200, abs=1)


def test_waiting_for_nobody_is_noticed() -> None:
    async def scene() -> None:
        await asyncio.get_running_loop().create_future()

    with asyncio.Runner(loop_factory=VirtualLoop) as runner, pytest.raises(StuckError):
        runner.run(scene())


def on_disk(root: Path, work: object, *, kill_at: int = 0, full: bool = False, lose: bool = False) -> Host:
    """Let a simulated process work on a disk; returns its host."""
    host = Host("site-a", root)

    def struck(host: Host) -> None:
        if host.accesses == kill_at:
            host.die(0.0, "kill")

    async def run() -> None:
        host.begin()
        host.full_until = 1e9 if full else 0.0

        async def process() -> None:
            work()  # type: ignore[operator]

        task = host.spawn(process())
        await asyncio.wait({task})
        if not task.cancelled() and task.exception() is not None:
            raise task.exception() or AssertionError
        if lose:
            disk.lose(host)

    disk = Disk(struck, lambda: 0.0)
    with disk.mounted():
        asyncio.run(run())
    return host


def test_a_power_cut_takes_what_was_not_synced_and_nothing_else(tmp_path: Path) -> None:
    def work() -> None:
        write_atomic(tmp_path / "whole", b"durable")
        append(tmp_path / "log", b"one\n")
        (tmp_path / "loose").write_bytes(b"never synced")
        descriptor = os.open(tmp_path / "log", os.O_WRONLY | os.O_APPEND)
        os.write(descriptor, b"two\n")
        os.close(descriptor)

    on_disk(tmp_path, work, lose=True)
    assert (tmp_path / "whole").read_bytes() == b"durable"
    assert (tmp_path / "log").read_bytes() == b"one\n"
    assert not (tmp_path / "loose").exists()


def test_a_renaming_counts_once_its_folder_is_synced(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"old")

    def work() -> None:
        temporary = tmp_path / "temporary"
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"new")
        os.fsync(descriptor)
        os.close(descriptor)
        temporary.replace(tmp_path / "name")

    on_disk(tmp_path, work, lose=True)
    assert (tmp_path / "name").read_bytes() == b"old"


def test_a_full_disk_says_so_and_a_kill_tears_the_write(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="space") as caught:
        on_disk(tmp_path, lambda: write_atomic(tmp_path / "file", b"x"), full=True)
    assert caught.value.errno == errno.ENOSPC
    with pytest.raises(Killed):
        on_disk(tmp_path, lambda: append(tmp_path / "log", b"12345678"), kill_at=2)
    assert (tmp_path / "log").read_bytes() == b"1234"


def sums(openings: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> list[Derived]:
    """Sums of one family: each of these survivors, opened by these; returns what is derivable from them."""
    inputs, families, uploads = Inputs(), {}, {}
    payloads: dict[str, tuple[int, bytes]] = {}
    terms = SessionTerms(bytes(32), 4, 3, 1, MASKED_SUITE)
    vectors = np.random.default_rng(1).integers(0, 1 << 20, (5, 8), dtype=np.uint32)
    for number, (survivors, openers) in enumerate(openings, start=1):
        terms = SessionTerms(bytes([number]) * 32, 4, 3, 1, MASKED_SUITE)
        sid = terms.sid.hex()
        families[sid] = ("base", "update")
        parties = {i: Party(terms, i) for i in range(1, 5)}
        keys = {i: party.advertise() for i, party in parties.items()}
        view = reference_view(terms.sid, keys)
        shares = {i: party.share(keys, view) for i, party in parties.items()}
        with inputs.watched():
            for i, party in parties.items():
                party.fix(shares)
                if i in survivors:
                    party.mask(vectors[i].copy())
                    uploads[sid, i] = f"upload {sid} {i}"
        held = {f"shares {sid} {i}": (i, data) for i, data in shares.items()}
        held |= {f"upload {sid} {i}": (i, b"") for i in survivors}
        for i in openers:
            parties[i].agree(survivors)
            held[f"opened {sid} {i}"] = (i, parties[i].open(survivors, survivors))
        payloads |= held
    return list(derivable(Knowledge(terms, payloads, families), inputs.masked, uploads, bits=32))


def test_one_sum_gives_nobody_away_and_the_difference_of_two_does() -> None:
    everybody, three = (1, 2, 3, 4), (1, 2, 3)
    assert sums([(everybody, everybody)]) == []
    assert sums([(everybody, ()), (three, three)]) == []
    found = sums([(everybody, everybody), (three, three)])
    assert {each.site for each in found} >= {4}
    assert all(each.equal for each in found)


def test_shares_of_colluders_count_as_opened() -> None:
    """Two of T = 3 openings, and a colluder's own shares: the sum of all four is open."""
    everybody = (1, 2, 3, 4)
    found = sums([(everybody, (1, 2)), ((1, 2, 3), (1, 2, 3))])
    assert {each.colluders for each in found if each.site == 4} == {(3,)}
