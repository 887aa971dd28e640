"""One real site in summed validation counts: it counts once, sums again, and refuses what it cannot trust."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit import law
from fedmedlora_audit.law import Session
from fedmedlora_audit.validation_data import TypeCounts, ValidationCounted
from fedmedlora_core.scores import MatchScore
from fedmedlora_core.scores.counts import Counts
from fedmedlora_core.study import Study
from fedmedlora_core.validation_counts import COUNT_MAX, CountLayout, ValidationCounts
from fedmedlora_site import mirror as mirror_module
from fedmedlora_site.errors import TrainingError
from fedmedlora_site.evaluation import CountingJob, counts_line, counts_of_line
from fedmedlora_site.markers import Consent, Markers
from fedmedlora_site.session_steps import SessionSteps
from fedmedlora_site.training import RehearsalTrainer
from fedmedlora_site.validation_steps import ValidationSteps, annotated_only
from fedmedlora_testkit import audit_counts
from fedmedlora_testkit import audit_votes as votes
from fedmedlora_testkit.stage import Stage, VectorOf, play, reasons
from fedmedlora_testkit.stage_site import OTHERS, OWN, SITES, staged_study
from fedmedlora_testkit.studies import make_study

COUNTING: dict[str, Any] = {"secure_aggregation__validation": {"every_rounds": 1}}


def found(study: Any, tp: int = 5, fp: int = 2, fn: int = 1) -> ValidationCounts:
    """The same counts for every type."""
    labels = (*study.labels.entities, *study.labels.modifiers)
    score = MatchScore({label: Counts(tp, fp, fn) for label in labels})
    return ValidationCounts(score, score)


class Counting(RehearsalTrainer):
    """A trainer that says what it found, and keeps what it was asked."""

    def __init__(self, tp: int = 5) -> None:
        self.tp = tp
        self.asked: list[CountingJob] = []

    async def count(self, job: CountingJob) -> ValidationCounts:
        """Say the counts."""
        self.asked.append(job)
        return found(make_study(), self.tp)


def others(stage: Stage, tp: int = 7) -> VectorOf:
    """The counts of the sites that the test plays."""

    def counts(_place: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        return CountLayout.of(stage.study, stage.log.session.ready).encode(found(stage.study, tp))

    return counts


async def to_the_counts(stage: Stage, trainer: RehearsalTrainer | None = None) -> None:
    """Play a round up to an aggregate that everybody has accepted."""
    await stage.stop()
    stage.start(trainer)
    await stage.begin("unmasked")
    stage.publish(stage.ring_sum())
    session = stage.log.session
    for site in OTHERS:
        stage.log.accept(site)
    stage.say()
    await stage.until(lambda: OWN in session.accepted)


async def opened(stage: Stage) -> None:
    """Play the counts up to the opening."""
    await stage.advertised(counts=True)
    await stage.shared()
    await stage.uploaded((), others(stage))
    await stage.agreed()
    await stage.unmasked()


def tally(stage: Stage, tp: int) -> None:
    """Publish counts with so many found rightly of each type; the others check them."""
    layout = CountLayout.of(stage.study)
    row = TypeCounts(tp=tp, fp=8, fn=4)
    data = ValidationCounted(
        sid=stage.log.session.sid,
        sites=4,
        entities=(row,) * len(layout.entities),
        relations=(row,) * len(layout.relations),
    )
    stage.log.say("coordinator", "validation.counted", data, round=stage.log.number)
    for site in OTHERS:
        audit_counts.check(stage.log, site)
    stage.say()


async def ended(stage: Stage) -> None:
    """Wait for the site's check, and close the round."""
    session = stage.log.session
    await stage.until(lambda: OWN in session.accepted)
    audit_counts.close(stage.log)
    stage.say()


def test_a_site_adds_its_own_counts_and_finds_the_published_sum(tmp_path: Path) -> None:
    """R4.15.2: counted once, with the new adapter, before any key of the session."""
    trainer = Counting(tp=5)

    async def scene(stage: Stage) -> None:
        await to_the_counts(stage, trainer)
        await opened(stage)
        tally(stage, 5 + 3 * 7)
        await ended(stage)
        kept = stage.root / "run" / "updates"
        await stage.until(lambda: not list(kept.glob("counts-*")))  # nothing of it outlives the round

    stage = play(tmp_path, scene, **COUNTING)
    assert reasons(stage) == []
    (job,) = trainer.asked
    assert votes.summed_of(stage.log, 1).next_base[:16] in job.adapter


def test_wrong_counts_are_refused_by_name(tmp_path: Path) -> None:
    """R4.15.6."""

    async def scene(stage: Stage) -> None:
        await to_the_counts(stage, Counting(tp=5))
        await opened(stage)
        tally(stage, 30)
        await stage.own("step.refused")

    stage = play(tmp_path, scene, **COUNTING)
    assert reasons(stage) == [("tally", "wrong_count")]
    assert stage.log.session.disputed


def test_without_summing_again_wrong_counts_are_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def believe(self: ValidationSteps, session: Session) -> ValidationCounted | None:
        return session.tallied

    monkeypatch.setattr(ValidationSteps, "_summed", believe)

    async def scene(stage: Stage) -> None:
        await to_the_counts(stage, Counting(tp=5))
        await opened(stage)
        tally(stage, 30)
        await ended(stage)

    stage = play(tmp_path, scene, **COUNTING)
    assert reasons(stage) == []
    assert stage.log.state.rounds[1].outcome == "closed"


async def counts_of_other_sites(stage: Stage) -> None:
    """An earlier round, or log, of this charter had counts of three sites agreed to; now there are four."""
    await to_the_counts(stage, Counting())
    await stage.stop()
    earlier = Consent("9" * 64, stage.log.terms.digest, SITES[:3], "statistics")
    Markers(stage.root / "markers.jsonl").mark_consented(earlier)
    stage.start(Counting())
    await stage.advertised(counts=True)
    await stage.shared()
    await stage.uploaded((), others(stage))
    stage.log.coordinate()
    stage.say()
    await stage.until(
        lambda: OWN in stage.log.session.agreed or any(e.type == "step.refused" for e in stage.heard)
    )


def test_a_second_set_of_sites_is_refused_in_a_later_round(tmp_path: Path) -> None:
    """R4.15.5: though the adapter, and so the base, is another one."""
    assert reasons(play(tmp_path, counts_of_other_sites, **COUNTING)) == [("survivors", "consent_spent")]


def test_without_the_record_the_second_set_gets_its_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partner: with site-d in the second sum only, the two differ by its notes."""
    monkeypatch.setattr(SessionSteps, "_need_consent", lambda *_: None)
    stage = play(tmp_path, counts_of_other_sites, **COUNTING)
    assert reasons(stage) == []
    assert set(stage.log.session.u3) == set(SITES)


def uneven() -> Study:
    """A study in which three of the four sites annotate its first type."""
    study = staged_study(**COUNTING)
    few = study.labels.entities[0]
    members = tuple(
        m.model_copy(update={"annotated": tuple(a for a in m.annotated if m.id != "site-d" or a != few)})
        for m in study.members
    )
    return study.model_copy(update={"members": members})


async def counts_of_two_annotators(stage: Stage) -> None:
    """The coordinator fixes survivors without site-b: two of them annotate the first type."""
    await to_the_counts(stage, Counting())
    await stage.advertised(counts=True)
    await stage.shared()
    await stage.uploaded(("site-b",), others(stage))
    stage.log.force("coordinator", "survivors.fixed", stage.log.u3_data(), round=1)
    stage.say()
    await stage.until(
        lambda: OWN in stage.log.session.agreed or any(e.type == "step.refused" for e in stage.heard)
    )


def test_survivors_too_few_of_whom_annotate_a_type_are_refused_without_the_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R4.15.4, by the site itself: the law of its mirror is switched off."""
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    stage = play(tmp_path, counts_of_two_annotators, study=uneven())
    assert reasons(stage) == [("survivors", "short_survivors")]


def test_without_the_check_of_the_layout_a_type_of_two_annotators_is_agreed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    monkeypatch.setattr(SessionSteps, "_need_counted", lambda *_: None)
    stage = play(tmp_path, counts_of_two_annotators, study=uneven())
    assert reasons(stage) == []
    assert OWN in stage.log.session.agreed


def test_counts_of_an_adapter_are_opened_once_whatever_the_log(tmp_path: Path) -> None:
    """R4.15.5."""

    async def scene(stage: Stage) -> None:
        await to_the_counts(stage, Counting())
        base = votes.summed_of(stage.log, 1).next_base
        await stage.stop()
        Markers(stage.root / "markers.jsonl").mark_released("9" * 64, update=f"counts/{base}")
        stage.start(Counting())
        await stage.advertised(counts=True, wait=False)
        await stage.own("step.refused")

    assert reasons(play(tmp_path, scene, **COUNTING)) == [("advertise", "spent")]


def test_a_restarted_site_adds_the_same_counts_without_counting_again(tmp_path: Path) -> None:
    trainer = Counting(tp=5)

    async def scene(stage: Stage) -> None:
        await to_the_counts(stage, trainer)
        await stage.advertised(counts=True)
        await stage.stop()
        stage.start(trainer)
        await stage.own("attempt.erased")
        await opened(stage)
        tally(stage, 5 + 3 * 7)
        await ended(stage)

    stage = play(tmp_path, scene, **COUNTING)
    assert (len(trainer.asked), reasons(stage)) == (1, [])


@pytest.mark.parametrize("failure", ["broken", "too many"])
def test_a_site_that_cannot_count_says_so_and_sends_nothing(tmp_path: Path, failure: str) -> None:
    """R4.15.3: a count that does not fit is refused, never cut."""

    class Failing(Counting):
        async def count(self, job: CountingJob) -> ValidationCounts:
            if failure == "broken":
                raise TrainingError("evaluation_failed", "no held-out notes")
            return found(make_study(), COUNT_MAX + 1)

    async def scene(stage: Stage) -> None:
        await to_the_counts(stage, Failing())
        await stage.advertised(counts=True, wait=False)
        await stage.own("step.refused")

    assert reasons(play(tmp_path, scene, **COUNTING)) == [("advertise", "evaluation_failed")]


@pytest.mark.parametrize("lie", ["round", "base"])
def test_with_another_law_the_site_still_counts_only_what_it_checked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lie: str
) -> None:
    """Defence in depth (R4.15.1): the law of this site is switched off, its own comparison refuses."""
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    every = {"secure_aggregation__validation": {"every_rounds": 2}} if lie == "round" else COUNTING

    async def scene(stage: Stage) -> None:
        await to_the_counts(stage)
        data = audit_counts.opening_data(stage.log, **({"base": "f" * 64} if lie == "base" else {}))
        stage.log.force("coordinator", "session.opened", data, round=1)
        stage.say()
        await stage.until(lambda: any(event.type == "step.refused" for event in stage.heard))

    expected = "wrong_charter" if lie == "round" else "wrong_base"
    assert reasons(play(tmp_path, scene, **every)) == [("advertise", expected)]


def test_a_site_adds_only_types_that_the_charter_has_it_annotate() -> None:
    """R4.15.3: else a sum over T annotating sites would hold others' false finds."""
    labels = (*make_study().labels.entities, *make_study().labels.modifiers)
    study = make_study(annotated={OWN: labels[1:]})
    own = annotated_only(found(study), study, OWN)
    assert labels[0] not in own.entities.per_type
    assert set(own.entities.per_type) == set(labels[1:])
    assert set(annotated_only(found(study), study, "site-b").entities.per_type) == set(labels)


def test_counts_cross_the_line_between_trainer_and_agent_unchanged() -> None:
    counts = found(make_study())
    assert counts_of_line(counts_line(counts)) == counts
    broken: list[dict[str, Any]] = [{}, {"entities": []}, {"entities": {"drug": [1, 2]}, "relations": {}}]
    for bad in broken:
        with pytest.raises(TrainingError):
            counts_of_line(bad)
