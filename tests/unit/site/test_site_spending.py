"""The charge before a private training: its order, its budget, and what is charged once and never lost."""

from __future__ import annotations

import asyncio
import json
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.event_data import DpSpent
from fedmedlora_core.codec import EXTRAS
from fedmedlora_core.errors import PolicyRefusal
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.records import write_notes
from fedmedlora_core.study import Study
from fedmedlora_crypto.xof import Keystream
from fedmedlora_site.acceptance import accept
from fedmedlora_site.config import PrivacySection, SiteConfig
from fedmedlora_site.errors import FolderError
from fedmedlora_site.holdings import Holdings
from fedmedlora_site.journal import Journal
from fedmedlora_site.ledger import Charge, Ledger
from fedmedlora_site.round_steps import RoundSteps
from fedmedlora_site.training import RehearsalTrainer, Report, TrainingJob, TrainingOutcome
from fedmedlora_site.update import encode_update
from fedmedlora_testkit.rehearsal import plain_notes
from fedmedlora_testkit.spending import by_hand, charge, overrides
from fedmedlora_testkit.stage import Stage, play, reasons
from fedmedlora_testkit.stage_site import ADAPTER, OWN, make_site, staged_study

PRIVATE = overrides(rounds=4)
"""Just enough for the four rounds of a stage."""


def charges_of(root: Path) -> tuple[Charge, ...]:
    return Ledger(root / "ledger.jsonl", root / "ledger.head").charges()


def told(stage: Stage) -> list[DpSpent]:
    return [event.data for event in stage.heard if isinstance(event.data, DpSpent)]


def change_notes(root: Path, count: int = 9) -> None:
    write_notes(root / "data" / "notes.jsonl", plain_notes(OWN, count))


class WatchedTrainer(RehearsalTrainer):
    """Notes what stood where when each training began."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.seen: list[tuple[int, int]] = []  # charges in the ledger, events in the log
        self.keys: list[bytes] = []

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        own = [e for e in self.stage.log.entries if (e.event.type, e.event.actor.id) == ("dp.spent", OWN)]
        self.seen.append((len(charges_of(self.stage.root)), len(own)))
        key = Path(job.noise_key)
        assert stat.S_IMODE(key.stat().st_mode) == 0o600
        self.keys.append(key.read_bytes())
        return await super().train(job, report)


def test_the_charge_is_durable_then_logged_and_then_the_training_begins(tmp_path: Path) -> None:
    # R4.13.5, R4.13.7
    found: list[WatchedTrainer] = []

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        found.append(WatchedTrainer(stage))
        stage.start(found[0])
        await stage.round()
        await stage.round()
        stage.finish()
        assert await stage.ended() is None

    stage = play(tmp_path, scene, **PRIVATE)
    (trainer,) = found
    assert trainer.seen == [(1, 1), (2, 2)]
    assert len(set(trainer.keys)) == 2 and {len(key) for key in trainer.keys} == {32}
    assert not (stage.root / "run" / "noise.key").exists()
    charges = charges_of(stage.root)
    assert [data.epsilon_milli for data in told(stage)] == [
        int(np.ceil(1000 * by_hand(charges[:count], delta=1e-5))) for count in (1, 2)
    ]
    text = (stage.root / "ledger.jsonl").read_text()
    held = Holdings.open(stage.root)
    assert held.spending is not None
    digest = held.spending.job(1, ADAPTER.digest).hex()
    assert digest not in text, "who guesses the notes could confirm the guess"
    assert held.keys.noise_key(bytes.fromhex(digest)) == trainer.keys[0]  # R4.13.4


class EndlessTrainer(RehearsalTrainer):
    """Trains until it is stopped."""

    def __init__(self) -> None:
        self.jobs: list[TrainingJob] = []

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        self.jobs.append(job)
        await asyncio.get_running_loop().create_future()
        raise AssertionError("not reached")


@pytest.mark.parametrize("changed", [False, True])
def test_a_killed_training_stays_spent_and_only_another_one_is_charged(tmp_path: Path, changed: bool) -> None:
    # R4.13.5
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        endless = EndlessTrainer()
        stage.start(endless)
        stage.log.plan()
        stage.say()
        await stage.until(lambda: bool(endless.jobs))
        await stage.stop()
        if changed:
            change_notes(stage.root)
        stage.start()
        await stage.own("update.ready")

    stage = play(tmp_path, scene, **PRIVATE)
    charges = charges_of(stage.root)
    assert [c.round for c in charges] == [1, 1] if changed else [1]
    assert len(told(stage)) == len(charges) == len({c.job for c in charges})


class Killed(BaseException):
    """The agent was killed (a BaseException: nothing may handle it)."""


def test_a_charge_that_was_never_told_is_told_by_the_next_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed between ledger and event: the log lacks nothing that the ledger holds."""

    async def killed(steps: RoundSteps) -> bool:
        if charges_of(tmp_path / OWN):
            raise Killed
        return False

    async def scene(stage: Stage) -> None:
        await stage.opened()
        monkeypatch.setattr(RoundSteps, "tell_charge", killed)
        stage.log.plan()
        stage.say()
        assert isinstance(await stage.ended(), Killed)
        monkeypatch.undo()
        assert not any(event.type == "dp.spent" for event in stage.heard)
        stage.start()
        await stage.own("update.ready")

    stage = play(tmp_path, scene, **PRIVATE)
    assert len(charges_of(stage.root)) == len(told(stage)) == 1


def test_a_round_beyond_the_budget_is_refused_before_it_trains(tmp_path: Path) -> None:
    """R4.13.6: the site's own budget over all studies; another one has spent of it meanwhile."""

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        await stage.stop()
        policy(stage.root, "epsilon_milli = 5000")
        other = charge(1, study="other", noise_milli=700, sampling_micro=50_000, steps=400)
        with Ledger(stage.root / "ledger.jsonl", stage.root / "ledger.head").writing() as writer:
            writer.add(other)
        stage.start()
        stage.log.plan()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene, **PRIVATE)
    assert reasons(stage) == [("plan", "over_budget")]
    (refusal,) = Journal(stage.root / "run" / "journal.jsonl").refusals
    assert "this site's budget is epsilon 5.000 at delta 1e-5; " in refusal.sentence
    spent = int(np.ceil(1000 * by_hand(charges_of(stage.root), delta=1e-5)))
    assert f"{spent / 1000:.3f} is spent and round 2 costs " in refusal.sentence
    assert len(charges_of(stage.root)) == 2


def test_room_that_is_taken_between_plan_and_training_is_refused_too(tmp_path: Path) -> None:
    other = charge(1, study="other", noise_milli=700, sampling_micro=50_000, steps=400)

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        policy(stage.root, "epsilon_milli = 5000")
        stage.start()
        stage.wire.held_back.add("plan.accepted")
        stage.log.plan()
        stage.say()
        await stage.until(lambda: "plan.accepted" in stage.wire.on_their_way)
        with Ledger(stage.root / "ledger.jsonl", tmp_path / "other.head").writing() as writer:
            writer.add(other)
        stage.wire.held_back.clear()
        await stage.own("step.refused")

    stage = play(tmp_path, scene, **PRIVATE)
    assert reasons(stage) == [("train", "over_budget")]
    assert charges_of(stage.root) == (other,)
    assert not any(event.type in ("update.ready", "dp.spent") for event in stage.heard)


@pytest.mark.parametrize("defect", ["no patient", "processes"])
def test_what_cannot_be_trained_is_not_charged(tmp_path: Path, defect: str) -> None:
    # R4.13.3
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        if defect == "no patient":
            notes = [replace(note, patient_id=None) for note in plain_notes(OWN)]
            write_notes(stage.root / "data" / "notes.jsonl", notes)
        else:
            config = SiteConfig.load(stage.root / "site.toml")
            trainer = config.trainer.model_copy(update={"processes": 2})
            config.model_copy(update={"trainer": trainer}).write(stage.root / "site.toml")
        stage.start()
        stage.log.plan()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene, **PRIVATE)
    assert reasons(stage) == [("train", "training_failed")]
    assert charges_of(stage.root) == () and told(stage) == []


class MeddlingTrainer(RehearsalTrainer):
    """While it trains somebody imports other notes."""

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        outcome = await super().train(job, report)
        change_notes(Path(job.notes).parents[1])
        return outcome


def test_notes_that_change_during_the_training_send_nothing(tmp_path: Path) -> None:
    """What was trained is not what was charged: its noise could be drawn again for other notes."""

    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.stop()
        stage.start(MeddlingTrainer())
        stage.log.plan()
        stage.say()
        await stage.own("step.refused")

    stage = play(tmp_path, scene, **PRIVATE)
    assert reasons(stage) == [("train", "training_failed")]
    assert Holdings.open(stage.root).vault.names() == []
    assert len(charges_of(stage.root)) == 1


@pytest.mark.parametrize("left", [0, 1])
def test_a_ledger_that_lacks_what_was_signed_stops_the_site(tmp_path: Path, left: int) -> None:
    async def scene(stage: Stage) -> None:
        await stage.opened()
        await stage.round()
        await stage.round()

    stage = play(tmp_path, scene, **PRIVATE)
    lines = (stage.root / "ledger.jsonl").read_bytes().splitlines(keepends=True)
    (stage.root / "ledger.jsonl").write_bytes(b"".join(lines[:left]))
    with pytest.raises(FolderError, match="older copy"):
        Holdings.open(stage.root)
    (stage.root / "ledger.head").unlink()  # and nobody remembers how long it was
    with pytest.raises(FolderError, match=f"does not hold charge {left + 1} of this study"):
        Holdings.open(stage.root)


# -- what is encoded


def outcome_of(study: Study, n_notes: int, loss: float, scale: float) -> TrainingOutcome:
    delta = np.full(study.adapter.dimension, scale, dtype=np.float32)
    return TrainingOutcome(delta, n_notes, loss, mentions={"problem": n_notes})


def encoded(study: Study, outcome: TrainingOutcome) -> tuple[Any, int]:
    rule = GlobalStep(study, ADAPTER)
    return encode_update(
        study,
        rule,
        outcome,
        Keystream(bytes(32)),
        site=OWN,
        round_number=1,
        base="0" * 64,
        noise_key=lambda digest: digest,
    )


def test_nothing_beside_the_update_follows_from_the_notes() -> None:
    """R4.13.2; without the table the same two trainings differ in weight and clipped share."""
    clipped = 100.0  # all values beyond the clip
    private, plain = staged_study(**PRIVATE), staged_study()
    for study, same in ((private, True), (plain, False)):
        tails = set()
        for outcome in (outcome_of(study, 3, 0.2, 0.0), outcome_of(study, 3000, 4.0, clipped)):
            vector, permille = encoded(study, outcome)
            assert permille == (1000 if outcome.n_notes == 3000 else 0)  # stays here
            tails.add(tuple(int(word) for word in vector[-1 - EXTRAS :]))
        assert (len(tails) == 1) == same
        if same:
            assert tails.pop()[1:] == (0,) * EXTRAS


def test_a_loss_without_a_number_is_no_reason_under_the_table() -> None:
    study = staged_study(**PRIVATE)
    whole, _ = encoded(study, outcome_of(study, 3, 0.2, 0.01))
    broken, _ = encoded(study, replace(outcome_of(study, 3, 0.2, 0.01), loss=float("nan")))
    assert whole.tobytes() == broken.tobytes()


# -- acceptance


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site of a study with privacy, accepted once and with nothing spent."""
    return make_site(tmp_path, staged_study(**PRIVATE))


def policy(root: Path, text: str) -> None:
    (root / "policy.toml").write_text(f"[privacy]\n{text}\n")


def accepted(root: Path) -> Study:
    return accept(root, root.parent / "package")


def test_a_plan_that_fits_is_accepted(site: Path) -> None:
    policy(site, "epsilon_milli = 4000\nrequired = true")
    assert accepted(site).privacy is not None


def test_a_plan_that_cannot_fit_with_what_is_spent_is_refused_with_the_figures(site: Path) -> None:
    policy(site, "epsilon_milli = 4500")
    accepted(site)
    with Ledger(site / "ledger.jsonl", site / "ledger.head").writing() as writer:
        writer.add(charge(1, study="earlier", noise_milli=900, sampling_micro=50_000, steps=200))
    spent = by_hand(charges_of(site), delta=1e-5)
    with pytest.raises(
        PolicyRefusal, match=rf"{int(np.ceil(1000 * spent)) / 1000:.3f} is spent and the plan of 4"
    ):
        accepted(site)
    policy(site, "")  # without a budget of its own the study's holds, and that is not touched
    accepted(site)


def test_a_study_whose_own_rounds_pass_its_own_budget_is_refused(tmp_path: Path) -> None:
    more = {**overrides(rounds=3), "training__rounds": 4}
    with pytest.raises(PolicyRefusal, match=r"the study's budget is epsilon 4\.000 .* the plan of 4 round"):
        make_site(tmp_path, staged_study(**more))


def test_charges_by_another_unit_are_not_converted(site: Path) -> None:
    """A document's guarantee says nothing of a patient: a ledger with both has no figure."""
    with Ledger(site / "ledger.jsonl", site / "ledger.head").writing() as writer:
        writer.add(charge(1, unit="document"))
    accepted(site)  # without a budget nothing has to be added up
    policy(site, "epsilon_milli = 100000")
    with pytest.raises(PolicyRefusal, match="by patient, and the ledger holds charges by document"):
        accepted(site)


def test_folders_that_name_one_ledger_count_together(tmp_path: Path) -> None:
    study = staged_study(**PRIVATE)
    roots = []
    for name in ("one", "two"):
        root = make_site(tmp_path / name, study)
        config = SiteConfig.load(root / "site.toml")
        shared = PrivacySection(ledger="../../hospital.jsonl")
        config.model_copy(update={"privacy": shared}).write(root / "site.toml")
        policy(root, "epsilon_milli = 4500")
        roots.append(root)
    one, two = roots
    spending = Holdings.open(one).spending
    assert spending is not None and spending.charge(1, ADAPTER.digest)[1]
    found = Ledger(tmp_path / "hospital.jsonl", two / "ledger.head").charges()
    assert [c.round for c in found] == [1]
    assert not (one / "ledger.jsonl").exists()
    again = Holdings.open(two).spending
    assert again is not None and again.charge(1, ADAPTER.digest)[1], "another secret, another training"
    assert len(json.loads((two / "ledger.head").read_text())) == 2
