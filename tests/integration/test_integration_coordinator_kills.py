"""A coordinator killed at every single durable write of a study, before and after it is durable.

A study is killed at several writes, far enough apart that it has recovered and moved on; with a study for
each distance from the start, every write has its turn.
"""

from __future__ import annotations

import datetime as dt
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmedlora_core.adapter import Adapter
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.places import KINDS, make_place, running_places
from fedmedlora_testkit.postgres import PostgresServer, needs_postgres
from fedmedlora_testkit.ward import Ward

pytestmark = pytest.mark.slow

APART = 10
"""Durable writes from one kill to the next: an even number, so that a study's kills are of one parity."""


@pytest.fixture(autouse=True)
def _unarmed(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """No kill planned, and no waiting for the disk: a killed process loses nothing that it wrote."""
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    FlakyStore.arm(None)  # other tests of this process must not meet it


def voting(root: Path, *, against: bool) -> Ward:
    """A ward with one round, whose adapter is voted on."""
    ward = Ward(root, rounds=1, secure_aggregation__vote={"every_rounds": 1})
    for hospital in ward.hospitals:
        hospital.against = against
    return ward


def fault_free(ward: Ward) -> tuple[int, str]:
    """Number of durable writes of a study without faults, and the base it ends with."""
    ward.store.close()
    FlakyStore.arm(None)
    ward.start()
    ward.run()
    return FlakyStore.appends, ward.ledger.state.base


@pytest.mark.parametrize("after", [False, True], ids=["not-persisted", "persisted"])
def test_a_coordinator_killed_at_any_write_ends_with_the_identical_adapter(
    tmp_path: Path, after: bool
) -> None:
    writes, base = fault_free(Ward(tmp_path / "reference", rounds=1))
    assert writes > 40
    killed: set[int] = set()
    for first in range(1, APART + 1):
        ward = Ward(tmp_path / f"{after}-{first}", rounds=1)
        FlakyStore.arm(first, after=after, every=APART)
        state = ward.run()
        deaths = FlakyStore.disarm()
        assert len(deaths) >= writes // APART, "the kills did not happen"
        killed |= deaths
        assert state.base == base
        assert Adapter.load(ward.folder.released).digest == base
        ward.store.close()
    assert killed >= set(range(1, writes + 1))


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from running_places()


@needs_postgres
@pytest.mark.parametrize("after", [False, True], ids=["not-persisted", "persisted"])
def test_on_postgresql_a_killed_coordinator_ends_with_the_same_adapter_as_on_sqlite(
    tmp_path: Path, request: pytest.FixtureRequest, after: bool
) -> None:
    """The writes are the same on every store; so a few of them tell whether the store is."""
    writes, base = fault_free(Ward(tmp_path / "reference", rounds=1))
    for number in (1, writes // 2, writes):
        folder = tmp_path / str(number)
        ward = Ward(folder, rounds=1, store_url=make_place("postgres", folder, request).url)
        FlakyStore.arm(number, after=after)
        state = ward.run()
        assert FlakyStore.die_at is None, "the kill did not happen"
        assert state.base == base
        ward.store.close()
        assert not ward.folder.store.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_clock_that_jumps_back_a_day_changes_no_result(
    tmp_path: Path, request: pytest.FixtureRequest, kind: str
) -> None:
    """Times of events are the coordinator's word; what orders the log are its numbers."""
    _, base = fault_free(Ward(tmp_path / "reference", rounds=1))
    ward = Ward(tmp_path / "ward", rounds=1, store_url=make_place(kind, tmp_path, request).url)
    ward.run(lambda state: ward.ledger.size > 40)
    last = ward.ledger.entries[-1].event.time
    now = ward.clock.now
    ward.clock.now = lambda: now() - dt.timedelta(days=1)  # type: ignore[method-assign]
    ward.start()  # the process restarts under the other clock
    ward.run()
    assert ward.ledger.entries[-1].event.time < last
    assert ward.ledger.state.base == base
    ward.start()  # and what it wrote is read again
    assert ward.ledger.state.run_closed
    ward.store.close()


@pytest.mark.parametrize("after", [False, True], ids=["not-persisted", "persisted"])
def test_a_coordinator_killed_at_any_write_of_a_vote_ends_the_round_the_same(
    tmp_path: Path, after: bool
) -> None:
    """R4.7.6: every write from the opening of the vote on, of votes for and, every other time, against."""
    ends = {
        against: fault_free(voting(tmp_path / f"reference-{against}", against=against))
        for against in (False, True)
    }
    before_the_vote, _ = fault_free(Ward(tmp_path / "without", rounds=1))
    writes = max(found for found, _ in ends.values())
    killed: set[int] = set()
    opening = before_the_vote - 6
    for number in range(opening, opening + APART):
        against = (number % 2 == 1) is after
        ward = voting(tmp_path / f"{number}", against=against)
        FlakyStore.arm(number, after=after, every=APART)
        state = ward.run()
        deaths = FlakyStore.disarm()
        assert deaths, "the kills did not happen"
        killed |= deaths
        assert state.rounds[1].outcome == ("rolled_back" if against else "closed")
        assert state.base == ends[against][1] == ward.model.digest
        assert (state.base == ward.terms.initial_adapter) is against
        ward.store.close()
    assert killed >= set(range(opening, writes - 2))
