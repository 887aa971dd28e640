"""Drop-outs at every step, down to T; below T the round ends, opens nothing, and the next one runs."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_audit.law import waiting
from fedmedlora_core.adapter import Adapter
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward

STEPS = ("train", "advertise", "share", "upload", "survivors", "unmask", "aggregate")
SESSION_STEPS = STEPS[1:6]


@pytest.fixture(autouse=True)
def _unarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def run_to(ward: Ward, step: str, round_number: int = 1) -> None:
    """Let everybody act until a step of a round awaits its answers."""

    def reached(_state: object) -> bool:
        now = waiting(ward.ledger.state)
        return now.round == round_number and now.step == step

    ward.run(reached)


def drop_at(ward: Ward, schedule: dict[str, list[str]]) -> None:
    """Let hospitals go away as each step begins, and play the study to its end."""
    for step in STEPS:
        if schedule.get(step):
            run_to(ward, step)
            for site in schedule[step]:
                ward.drop(site)
    ward.run()


def check_counted(ward: Ward, survivors: list[str]) -> None:
    """The released adapter is the weighted mean over exactly these."""
    session = ward.ledger.state.rounds[1].sessions[-1]
    assert sorted(session.u3) == sorted(survivors)
    released = Adapter.load(ward.folder.released)
    assert np.allclose(released.vector(), ward.expected_vector([survivors]), atol=2e-6)


@pytest.mark.slow
@settings(max_examples=12, deadline=None)
@given(st.data())
def test_any_schedule_of_drop_outs_down_to_the_threshold_gives_the_mean_of_the_rest(
    data: st.DataObject,
) -> None:
    # R5.2.3
    n = data.draw(st.sampled_from([4, 5, 7]), label="n")
    with tempfile.TemporaryDirectory() as folder:
        ward = Ward(Path(folder), n=n, rounds=1)
        sites = [hospital.site for hospital in ward.hospitals]
        spare = n - ward.terms.threshold
        lost = data.draw(st.permutations(sites))[: data.draw(st.integers(0, spare), label="lost")]
        schedule: dict[str, list[str]] = {}
        for site in lost:
            schedule.setdefault(data.draw(st.sampled_from(STEPS)), []).append(site)
        drop_at(ward, schedule)
        early = {site for step in STEPS[:4] for site in schedule.get(step, ())}
        check_counted(ward, [site for site in sites if site not in early])


@pytest.mark.parametrize(
    ("n", "schedule"),
    [
        (5, {"upload": ["site-e"]}),
        (7, {"share": ["site-b"], "unmask": ["site-f"]}),
        (7, {"upload": ["site-b", "site-f"]}),
        (10, {"advertise": ["site-a"], "upload": ["site-d"], "survivors": ["site-j"]}),
    ],
)
def test_several_drop_outs_at_different_steps_are_survived(
    tmp_path: Path, n: int, schedule: dict[str, list[str]]
) -> None:
    ward = Ward(tmp_path, n=n, rounds=1)
    drop_at(ward, schedule)
    early = {site for step in STEPS[:4] for site in schedule.get(step, ())}
    check_counted(ward, [h.site for h in ward.hospitals if h.site not in early])


@pytest.mark.parametrize("step", SESSION_STEPS)
def test_below_the_threshold_nothing_is_opened_and_the_next_round_runs(tmp_path: Path, step: str) -> None:
    # R5.2.3, R3.2.4: four sites, T = 3, two of them go away as the step begins
    ward = Ward(tmp_path, rounds=2)
    run_to(ward, step)
    for site in ("site-b", "site-d"):
        ward.drop(site)
    ward.run(lambda state: state.rounds[1].outcome == "aborted")
    aborted = ward.ledger.state.rounds[1]
    assert [e.event.reason for e in ward.ledger.entries if e.event.type == "round.aborted"] == [
        "below_threshold"
    ]
    for session in aborted.sessions:
        assert session.published is None
        assert len(session.responses) < ward.terms.threshold  # too few shares of every seed
        assert not [d for d in session.updates.values() if ward.blobs.size(d) is not None]
    for site in ("site-b", "site-d"):
        ward.come_back(site)
    ward.run()
    state = ward.ledger.state
    assert state.rounds[2].outcome == "closed"
    assert state.run_closed
    assert np.allclose(
        Adapter.load(ward.folder.released).vector(),
        ward.expected_vector([[], [h.site for h in ward.hospitals]]),
        atol=2e-6,
    )
