"""One real site in a vote: it measures, votes once, counts again, and refuses what it cannot trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit import law
from fedmedlora_core.vote import encode_vote, vote_length
from fedmedlora_site import mirror as mirror_module
from fedmedlora_site.errors import TrainingError
from fedmedlora_site.evaluation import EvaluationJob, EvaluationOutcome
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.markers import Consent, Markers
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_site.training import RehearsalTrainer
from fedmedlora_site.vote_steps import VoteSteps
from fedmedlora_testkit import audit_votes as votes
from fedmedlora_testkit.stage import Stage, VectorOf, play, reasons
from fedmedlora_testkit.stage_site import OTHERS, OWN

VOTING: dict[str, Any] = {"secure_aggregation__vote": {"every_rounds": 1, "margin_milli": 20}}


class Measuring(RehearsalTrainer):
    """A trainer that says which losses it measured, and counts how often it was asked."""

    def __init__(self, before: float, after: float) -> None:
        self.losses = EvaluationOutcome(before, after)
        self.asked: list[EvaluationJob] = []

    async def evaluate(self, job: EvaluationJob) -> EvaluationOutcome:
        """Say the losses."""
        self.asked.append(job)
        return self.losses


def others(*against: str) -> VectorOf:
    """The votes of the sites that the test plays."""

    def vote(place: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        return encode_vote(OTHERS[place] in against, slot=100 + place, n=4)

    return vote


async def to_the_vote(stage: Stage, trainer: RehearsalTrainer | None = None) -> None:
    """Play a round up to an aggregate that everybody has accepted."""
    await stage.stop()
    stage.start(trainer)
    await stage.begin("unmasked")
    stage.publish(stage.ring_sum())
    session = stage.log.session
    for site in session.u3:
        if site != OWN:
            stage.log.accept(site)
    stage.say()
    await stage.until(lambda: OWN in session.accepted)


async def opened_votes(stage: Stage, *against: str, gone: tuple[str, ...] = ()) -> None:
    """Play a vote up to the opening."""
    await stage.advertised(vote=True)
    await stage.shared()
    await stage.uploaded(gone, others(*against))
    await stage.agreed()
    await stage.unmasked()


async def counted(stage: Stage, against: int) -> None:
    """Publish a count; the other voters check it."""
    votes.count(stage.log, against)
    for site in stage.log.session.u3:
        if site != OWN:
            votes.check(stage.log, site)
    stage.say()


async def ended(stage: Stage) -> None:
    session = stage.log.session
    await stage.until(lambda: OWN in session.accepted)
    votes.end(stage.log)
    stage.say()


@pytest.mark.parametrize(("after", "expected"), [(0.51, 2), (0.53, 3), (float("inf"), 3)])
def test_a_site_votes_by_its_own_held_out_losses(tmp_path: Path, after: float, expected: int) -> None:
    trainer = Measuring(0.5, after)

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage, trainer)
        await opened_votes(stage, "site-b", "site-c")
        await counted(stage, expected)
        await ended(stage)

    stage = play(tmp_path, scene, **VOTING)
    assert reasons(stage) == []
    assert stage.log.state.rounds[1].outcome == ("rolled_back" if expected == 3 else "closed")
    (job,) = trainer.asked
    assert job.before != job.after


def test_after_a_roll_back_the_old_adapter_stays_and_the_refused_one_goes(tmp_path: Path) -> None:
    async def scene(stage: Stage) -> None:
        await to_the_vote(stage, Measuring(0.5, 0.9))
        await opened_votes(stage, *OTHERS)
        await counted(stage, 4)
        await ended(stage)
        await stage.trained()  # the next round, from the same base

    stage = play(tmp_path, scene, **VOTING)
    held = Holdings.open(stage.root)
    refused = votes.summed_of(stage.log, 1).next_base
    assert stage.log.state.rounds[2].base == stage.log.terms.initial_adapter
    assert held.bases.holds(stage.log.terms.initial_adapter)
    assert not held.bases.holds(refused)


def test_a_wrong_count_is_refused_by_name(tmp_path: Path) -> None:
    """R4.7.5: three of four are against; the coordinator says one."""

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage, Measuring(0.5, 0.9))
        await opened_votes(stage, "site-b", "site-c")
        await counted(stage, 1)
        await stage.own("step.refused")

    stage = play(tmp_path, scene, **VOTING)
    assert reasons(stage) == [("count", "wrong_count")]
    assert stage.log.session.disputed


def test_without_the_recount_the_wrong_count_is_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def believe(self: VoteSteps, session: law.Session) -> int:
        assert session.counted is not None
        return session.counted.against

    monkeypatch.setattr(VoteSteps, "_recounted", believe)

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage, Measuring(0.5, 0.9))
        await opened_votes(stage, "site-b", "site-c")
        await counted(stage, 1)
        await ended(stage)

    stage = play(tmp_path, scene, **VOTING)
    assert reasons(stage) == []
    assert stage.log.state.rounds[1].outcome == "closed", "against three of four votes"


def test_votes_that_are_not_one_each_are_not_counted(tmp_path: Path) -> None:
    def forged(place: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        vector = others()(place)
        if place == 0:
            vector[7], vector[8] = 2, np.uint32(2**32 - 2)
        return vector

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage, Measuring(0.5, 0.5))
        await stage.advertised(vote=True)
        await stage.shared()
        await stage.uploaded((), forged)
        await stage.agreed()
        await stage.unmasked()
        await counted(stage, 0)
        await stage.own("step.refused")

    assert reasons(play(tmp_path, scene, **VOTING)) == [("count", "wrong_count")]


def test_a_site_whose_losses_cannot_be_measured_does_not_vote(tmp_path: Path) -> None:
    class Broken(RehearsalTrainer):
        async def evaluate(self, job: EvaluationJob) -> EvaluationOutcome:
            raise TrainingError("evaluation_failed", "no held-out notes")

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage, Broken())
        await stage.advertised(vote=True, wait=False)
        await stage.own("step.refused")

    assert reasons(play(tmp_path, scene, **VOTING)) == [("advertise", "evaluation_failed")]


def test_an_adapter_is_voted_on_once_whatever_the_log(tmp_path: Path) -> None:
    """R4.7.8: the markers know that a vote on this adapter was opened before, in another round or study."""

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage)
        base = votes.summed_of(stage.log, 1).next_base
        await stage.stop()
        Markers(stage.root / "markers.jsonl").mark_released("9" * 64, update=f"vote/{base}")
        stage.start()
        await stage.advertised(vote=True, wait=False)
        await stage.own("step.refused")

    assert reasons(play(tmp_path, scene, **VOTING)) == [("advertise", "spent")]


async def vote_of_other_voters(stage: Stage) -> None:
    await to_the_vote(stage)
    base = votes.summed_of(stage.log, 1).next_base
    await stage.stop()
    earlier = Consent("9" * 64, base, ("site-a", "site-b", "site-c"), "score")
    Markers(stage.root / "markers.jsonl").mark_consented(earlier)
    stage.start()
    await stage.advertised(vote=True)
    await stage.shared()
    await stage.uploaded((), others())
    stage.log.coordinate()
    stage.say()
    await stage.until(
        lambda: OWN in stage.log.session.agreed or any(e.type == "step.refused" for e in stage.heard)
    )


def test_a_second_voter_set_for_one_adapter_is_refused(tmp_path: Path) -> None:
    assert reasons(play(tmp_path, vote_of_other_voters, **VOTING)) == [("survivors", "consent_spent")]


def test_without_the_markers_the_second_voter_set_gets_its_count(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partner: with site-d in the second count only, the two counts differ by its vote."""
    monkeypatch.setattr(SessionSteps, "_need_consent", lambda *_: None)
    stage = play(tmp_path, vote_of_other_voters, **VOTING)
    assert reasons(stage) == []
    assert set(stage.log.session.u3) == {OWN, *OTHERS}


def test_consents_to_updates_and_to_votes_do_not_meet(tmp_path: Path) -> None:
    """After a closed vote the next round sums updates from the very adapter that was voted on."""

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage, Measuring(0.5, 0.5))
        await opened_votes(stage, gone=("site-d",))
        await counted(stage, 0)
        await ended(stage)
        await stage.trained()
        await stage.advertised()
        await stage.shared()
        await stage.uploaded()
        await stage.agreed()

    stage = play(tmp_path, scene, **VOTING)
    assert reasons(stage) == []


def test_a_restarted_site_casts_the_same_vote_without_measuring_again(tmp_path: Path) -> None:
    trainer = Measuring(0.5, 0.9)

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage, trainer)
        await stage.advertised(vote=True)
        await stage.stop()
        stage.start(trainer)
        await stage.own("attempt.erased")
        await opened_votes(stage, "site-b", "site-c")
        await counted(stage, 3)
        await ended(stage)

    stage = play(tmp_path, scene, **VOTING)
    assert len(trainer.asked) == 1
    assert stage.log.state.rounds[1].outcome == "rolled_back"


@pytest.mark.parametrize("lie", ["round", "base"])
def test_with_another_law_the_site_still_votes_only_on_what_it_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """Defence in depth (R4.7.2): the law of this site is switched off, its own comparison refuses."""
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    every: dict[str, Any] = {"secure_aggregation__vote": {"every_rounds": 2}} if lie == "round" else VOTING

    async def scene(stage: Stage) -> None:
        await to_the_vote(stage)
        changes = {"base": "f" * 64} if lie == "base" else {}
        data = votes.opening_data(stage.log, **changes)
        stage.log.force("coordinator", "session.opened", data, round=1)
        stage.say()
        await stage.until(lambda: any(event.type == "step.refused" for event in stage.heard))

    expected = "wrong_charter" if lie == "round" else "wrong_base"
    stage = play(tmp_path, scene, **every)
    assert reasons(stage) == [("advertise", expected)]
    assert vote_length(4) * 4 <= 1 << 20
    assert not any(isinstance(e.data, of.VotesCounted) for e in stage.heard)
