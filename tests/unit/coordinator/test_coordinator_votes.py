"""Votes at the coordinator: what a majority does, who may be missing, and what one liar cannot do."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit.event_data import StepRefused, UnmaskResponse, VotesCounted
from fedmedlora_audit.events import Event, Object
from fedmedlora_audit.law import State
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.recounted_payloads import RecountedPayloads
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.vote import slots_of
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward

ALL = ["site-a", "site-b", "site-c", "site-d"]
STEPS = ["advertise", "share", "upload", "survivors", "unmask", "count"]


@pytest.fixture(autouse=True)
def _unarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kill planned, and no waiting for the disk: a killed process loses nothing that it wrote."""
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def voting(root: Path, *, rounds: int = 2, every_rounds: int = 1) -> Ward:
    """A ward whose charter asks for votes."""
    return Ward(root, rounds=rounds, secure_aggregation__vote={"every_rounds": every_rounds})


def turn_against(ward: Ward, *sites: str) -> None:
    for site in sites:
        ward.hospital(site).against = True


def outcomes(ward: Ward) -> list[str | None]:
    rounds = ward.ledger.state.rounds
    return [rounds[number].outcome for number in sorted(rounds)]


def counts(ward: Ward) -> list[tuple[int, int]]:
    """(voters, against) of every count in the log."""
    found = [entry.event.data for entry in ward.ledger.entries if entry.event.type == "votes.counted"]
    return [(data.voters, data.against) for data in found if isinstance(data, VotesCounted)]


def in_vote(step: str) -> Callable[[State], bool]:
    """The vote of a round has come to a step."""

    def reached(state: State) -> bool:
        session = state.session
        return session is not None and session.purpose == "score" and session.step == step

    return reached


def test_a_new_adapter_that_nobody_finds_worse_is_taken(tmp_path: Path) -> None:
    ward = voting(tmp_path)
    ward.run()
    assert outcomes(ward) == ["closed", "closed"]
    assert counts(ward) == [(4, 0), (4, 0)]
    without = Ward(tmp_path / "without")
    without.run()
    assert ward.model.digest == without.model.digest, "a vote changes nothing in the adapter"


def test_a_majority_against_rolls_the_round_back_and_the_adapter_stays(tmp_path: Path) -> None:
    """R4.7.7: the next round starts from the old adapter."""
    ward = voting(tmp_path, rounds=2)
    turn_against(ward, "site-a", "site-b", "site-c")
    ward.run(lambda state: len(state.rounds) == 2)
    assert outcomes(ward)[0] == "rolled_back"
    assert counts(ward) == [(4, 3)]
    assert ward.model.digest == ward.ledger.state.base == ward.terms.initial_adapter
    for hospital in ward.hospitals:
        hospital.against = False
    ward.run()
    assert outcomes(ward) == ["rolled_back", "closed"], "the same survivors may go on from the same base"
    second = next(s for s in ward.ledger.state.sids.values() if (s.round, s.purpose) == (2, "update"))
    assert second.base == ward.terms.initial_adapter
    assert Adapter.load(ward.folder.released).digest == ward.ledger.state.base


def test_a_tie_is_no_majority(tmp_path: Path) -> None:
    ward = voting(tmp_path, rounds=1)
    turn_against(ward, "site-a", "site-b")
    ward.run()
    assert (outcomes(ward), counts(ward)) == (["closed"], [(4, 2)])


def test_without_the_vote_the_same_adapter_is_taken(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    turn_against(ward, *ALL)
    ward.run()
    assert outcomes(ward) == ["closed"]


def test_votes_are_taken_only_in_the_charters_rounds(tmp_path: Path) -> None:
    """R4.7.1."""
    ward = voting(tmp_path, rounds=3, every_rounds=2)
    ward.run()
    votes = [s.round for s in ward.ledger.state.sids.values() if s.purpose == "score"]
    assert votes == [2]
    assert outcomes(ward) == ["closed"] * 3


@pytest.mark.parametrize("step", STEPS)
def test_a_site_that_dies_in_the_vote_is_a_drop_out(tmp_path: Path, step: str) -> None:
    ward = voting(tmp_path, rounds=1)
    ward.run(in_vote(step))
    ward.drop("site-c")
    ward.run()
    voters = 4 if step in ("survivors", "unmask", "count") else 3
    assert (outcomes(ward), counts(ward)) == (["closed"], [(voters, 0)])


def test_a_site_that_restarts_in_the_vote_is_given_another_attempt(tmp_path: Path) -> None:
    ward = voting(tmp_path, rounds=1)
    ward.run(in_vote("upload"))
    for site in ("site-c", "site-d"):
        ward.hospital(site).restart()
    ward.run()
    attempts = [s.attempt for s in ward.ledger.state.sids.values() if s.purpose == "score"]
    assert (attempts, outcomes(ward), counts(ward)) == ([1, 2], ["closed"], [(4, 0)])


def test_a_vote_that_cannot_be_taken_aborts_the_round(tmp_path: Path) -> None:
    ward = voting(tmp_path, rounds=2)
    ward.run(in_vote("share"))
    ward.drop("site-c")
    ward.drop("site-d")
    ward.run(lambda state: state.rounds[1].outcome is not None)
    for site in ("site-c", "site-d"):
        ward.come_back(site)
    ward.run()
    assert outcomes(ward) == ["aborted", "closed"]
    first = next(e.event for e in ward.ledger.entries if e.event.type == "round.aborted")
    assert first.reason == "below_threshold"


def test_after_a_roll_back_another_survivor_set_is_refused(tmp_path: Path) -> None:
    """G14: with one site fewer from the same base, the difference of the sums would be its update."""
    ward = voting(tmp_path, rounds=2)
    turn_against(ward, *ALL)
    ward.run(lambda state: len(state.rounds) == 2)
    ward.drop("site-d")
    ward.run()
    assert outcomes(ward) == ["rolled_back", "aborted"]


def test_a_survivor_that_disputes_during_the_vote_stops_the_round(tmp_path: Path) -> None:
    ward = voting(tmp_path, rounds=1)
    ward.hospital("site-d").refuses.add("aggregate")
    ward.run(in_vote("share"))
    sid = next(s.sid for s in ward.ledger.state.sids.values() if s.purpose == "update")
    refusal = StepRefused(step="aggregate", reason="bad_aggregate", sid=sid)
    ward.submit(ward.hospital("site-d"), "step.refused", refusal, 1)
    ward.run()
    assert outcomes(ward) == ["aborted"]
    aborted = next(e.event for e in ward.ledger.entries if e.event.type == "round.aborted")
    assert aborted.reason == "disagreement"


def test_a_voter_that_finds_another_count_stops_the_round(tmp_path: Path) -> None:
    ward = voting(tmp_path, rounds=1)
    ward.hospital("site-d").refuses.add("count")
    ward.run(in_vote("count"))
    vote = ward.ledger.state.session
    assert vote is not None
    refusal = StepRefused(step="count", reason="wrong_count", sid=vote.sid)
    ward.submit(ward.hospital("site-d"), "step.refused", refusal, 1)
    ward.run()
    aborted = next(e.event for e in ward.ledger.entries if e.event.type == "round.aborted")
    assert aborted.reason == "disagreement"
    assert ward.model.digest == ward.terms.initial_adapter


def test_members_see_the_payloads_of_a_vote_once_it_is_counted(tmp_path: Path) -> None:
    ward = voting(tmp_path, rounds=1)
    ward.run(in_vote("unmask"))
    vote = ward.ledger.state.session
    assert vote is not None
    assert not any(ward.payloads.is_public(digest) for digest in vote.u3.values())
    ward.run(in_vote("count"))
    shown = [*vote.u3.values(), *vote.responses.values()]
    assert all(ward.payloads.is_public(digest) for digest in shown)
    update = next(s for s in ward.ledger.state.sids.values() if s.purpose == "update")
    assert not any(ward.payloads._recounted.is_shown(digest) for digest in update.u3.values())
    ward.run()
    assert all(ward.blobs.size(digest) is None for digest in shown), "swept when the round is over"


@pytest.mark.parametrize("checked", [True, False])
def test_a_voter_cannot_have_anothers_update_shown_as_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, checked: bool
) -> None:
    """It names another site's masked update as its opened shares; without the check all may read it.

    The refusal of R3.2.7 is off, as in a log that was written before there was one.
    """
    monkeypatch.setattr(Payloads, "_recurs", lambda self, role: True)
    if not checked:
        shown = RecountedPayloads.is_shown

        def anything(self: RecountedPayloads, digest: str) -> bool:
            self._first = {d: sid for sid, found in self._payloads.items() for d in found}
            return shown(self, digest)

        def everything(self: RecountedPayloads, event: Event) -> None:
            learn(self, event)
            if event.type == "unmask.response" and event.sid in self._payloads:
                self._payloads[event.sid] |= {item.digest for item in event.objects}

        learn = RecountedPayloads.learn
        monkeypatch.setattr(RecountedPayloads, "learn", everything)
        monkeypatch.setattr(RecountedPayloads, "is_shown", anything)
    ward = voting(tmp_path, rounds=1)
    thief = ward.hospital("site-b")
    ward.run(in_vote("unmask"))
    vote, update = ward.ledger.state.session, ward.ledger.state.rounds[1].summed
    assert vote is not None and vote.request is not None and update is not None
    stolen = update.u3["site-a"]
    item = Object(role="opened-shares", digest=stolen, bytes=ward.model.sizes()[0].ring)
    data = UnmaskResponse(sid=vote.sid, self_of=vote.request.self_of, pair_of=vote.request.pair_of)
    ward.hand_in(thief, ward.note(thief, "unmask.response", data, 1, objects=[item]))
    ward.run(in_vote("count"))
    assert counts(ward) == [(4, 0)], "its shares are passed over"
    assert ward.payloads._recounted.is_shown(stolen) is not checked


def test_votes_without_masks_are_counted_the_same(tmp_path: Path) -> None:
    ward = Ward(
        tmp_path,
        rounds=1,
        secure_aggregation__mode="none",
        secure_aggregation__vote={"every_rounds": 1},
    )
    turn_against(ward, "site-a", "site-b", "site-d")
    ward.run()
    assert (outcomes(ward), counts(ward)) == (["rolled_back"], [(4, 3)])


# -- a liar among the voters


def lie(ward: Ward, site: str, vote: Callable[[np.ndarray], np.ndarray]) -> None:
    """Let one hospital write something else than its vote."""
    hospital = ward.hospital(site)
    honest = hospital.vote
    hospital.vote = lambda study: vote(honest(study))  # type: ignore[method-assign]


def take_votes_away(vector: np.ndarray) -> np.ndarray:
    """Three votes against less, in the liar's own slot: nobody would be against."""
    slots = slots_of(4)
    vector[:] = 0
    vector[17] = np.uint32(2**32 - 2)
    vector[slots + 17] = 3
    return vector


def test_a_liar_that_takes_others_votes_away_is_found(tmp_path: Path) -> None:
    ward = voting(tmp_path, rounds=1)
    turn_against(ward, "site-a", "site-b", "site-c")
    lie(ward, "site-d", take_votes_away)
    ward.run()
    assert (outcomes(ward), counts(ward)) == (["aborted"], [])
    aborted = next(e.event for e in ward.ledger.entries if e.event.type == "round.aborted")
    assert aborted.reason == "bad_votes"
    assert ward.model.digest == ward.terms.initial_adapter


def test_without_the_slots_a_liar_decides_the_vote_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One number per vote, as in a plain masked count: the sum of the first half is all there is to see."""

    def plain(total: np.ndarray, *, voters: int, n: int) -> int:
        against = int(total[: slots_of(n)].astype(np.uint32).sum(dtype=np.uint32))
        return against if against <= voters else 0

    monkeypatch.setattr("fedmedlora_coordinator.vote.count_votes", plain)
    ward = voting(tmp_path, rounds=1)
    turn_against(ward, "site-a", "site-b", "site-c")
    lie(ward, "site-d", take_votes_away)
    ward.run()
    assert (outcomes(ward), counts(ward)) == (["closed"], [(4, 1)]), "three of four were against"


@pytest.mark.parametrize("change", ["two votes", "none", "too much", "noise"])
def test_a_vote_that_is_not_one_vote_is_found(tmp_path: Path, change: str) -> None:
    def spoilt(vector: np.ndarray) -> np.ndarray:
        if change == "two votes":
            vector[5] = 1
        elif change == "none":
            vector[:] = 0
        elif change == "too much":
            vector[:] = 0
            vector[3], vector[4] = 6, np.uint32(2**32 - 5)
        else:
            vector[:] = np.random.default_rng(1).integers(0, 2**32, vector.shape, dtype=np.uint32)
        return vector

    ward = voting(tmp_path, rounds=1)
    lie(ward, "site-b", spoilt)
    ward.run()
    assert outcomes(ward) == ["aborted"]
