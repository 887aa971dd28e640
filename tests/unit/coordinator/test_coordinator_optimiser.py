"""The coordinator's optimiser: what it publishes, and that a restart anywhere leads to the same state."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.model import ClosedSum, GlobalModel
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward

ADAM = {"optimiser": "adam", "beta1_milli": 900, "beta2_milli": 990, "adaptivity_micro": 1000}


def ward(root: Path) -> Ward:
    made = Ward(root, rounds=2, aggregation__server=ADAM, aggregation__server_learning_rate_milli=10)
    made.store.close()
    return made


def test_every_round_publishes_the_state_that_the_next_one_starts_from(tmp_path: Path) -> None:
    # R4.9.4
    made = ward(tmp_path)
    made.start()
    state = made.run()
    published = [current.sessions[-1].published for current in state.rounds.values()]
    chain = [(p.state_before, p.state) for p in published if p is not None]
    assert [before for before, _ in chain] == [made.terms.initial_state, chain[0][1]]
    assert len({digest for pair in chain for digest in pair}) == 3
    assert state.optimiser == chain[-1][1]


def test_a_coordinator_killed_at_writes_all_over_a_study_ends_with_the_same_state(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # R4.9.5: every eighth write, before and after it is durable; the whole grid is the integration test's.
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    FlakyStore.arm(None)
    reference = ward(tmp_path / "reference")
    reference.start()
    end = reference.run()
    writes = FlakyStore.appends
    try:
        for after in (False, True):
            made = ward(tmp_path / str(after))
            FlakyStore.arm(1, after=after, every=8)
            made.start()
            state = made.run()
            assert FlakyStore.disarm() >= set(range(1, writes + 1, 8)), "the kills did not happen"
            assert (state.base, state.optimiser) == (end.base, end.optimiser)
            made.store.close()
    finally:
        FlakyStore.arm(None)


def test_a_replay_that_leads_to_another_state_is_refused(tmp_path: Path) -> None:
    made = ward(tmp_path)
    made.start()
    state = made.run()
    (first, _) = state.closed_rounds
    packing = made.study.packing(1)
    total = packing.read(made.blobs.chunks(first.ring), out=np.empty(packing.count, dtype=np.uint32))
    model = GlobalModel(made.study, made.initial)
    with pytest.raises(StoreError, match="does not lead"):
        model.replay([ClosedSum(1, total.copy(), 4, first.next_base, "0" * 64)])
    model.replay([ClosedSum(1, total, 4, first.next_base, first.state)])
    assert model.digest == first.next_base
