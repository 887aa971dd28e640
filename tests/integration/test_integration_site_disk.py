"""A site whose disk fails once at every durable write of a study: refused, or done and reported as an error.

The writes are those of an undisturbed study, so a write point that is added is tested without a word here.
One study takes a failure in each of its rounds; the last round has none and must be whole again. Where one
kind of write comes many times a round, each of them fails in one way, the two ways in turn.

What must hold, whatever failed: nothing leaves the site before it is on the disk (the guard at the site's
door, `ward_site`), no acknowledged event is lost, no sequence number has two versions, no head forks, one
base gets one consent, no secret is opened in two kinds, every round ends, and the study goes on.
"""

from __future__ import annotations

import itertools
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.event_data import SurvivorsAgreed, UnmaskResponse
from fedmedlora_audit.events import Event, parse_event
from fedmedlora_audit.law import Session, State
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.reports import export_bundle
from fedmedlora_site.errors import TrainingError
from fedmedlora_site.training import RehearsalTrainer, Report, TrainingJob, TrainingOutcome
from fedmedlora_testkit.disk import NOT_PERSISTED, PERSISTED, TORN, Disk, WritePoint
from fedmedlora_testkit.spending import overrides
from fedmedlora_testkit.ward_site import SiteWard

pytestmark = pytest.mark.slow

ROUNDS = 7  # of one study: a failure in each but the last
OFTEN = 2  # writes of one kind in a round, above which each fails in one way only
AFTER_THE_RUN = 1000
Failure = tuple[WritePoint, str]


class FailingTrainer(RehearsalTrainer):
    """A trainer that has no update in any round but the last."""

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        """Refuse."""
        if job.round < ROUNDS:
            raise TrainingError("training_failed", "the trainer died")
        return await super().train(job, report)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Disk]:
    """A disk without waiting for the platter: a process that dies loses nothing that it wrote."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield Disk(monkeypatch)


def phase_of(ward: SiteWard) -> Callable[[], int]:
    """0 before the first plan, then the round, then the end of the run."""

    def phase() -> int:
        state = ward.ledger.state
        return AFTER_THE_RUN if state.run_closed else len(state.rounds)

    return phase


def undisturbed(ward: SiteWard, disk: Disk) -> list[WritePoint]:
    """The writes of a study that nothing happens to."""
    disk.watch(ward.site_root, phase_of(ward))
    ward.run()
    assert ward.deaths == 0
    return disk.points


def failures_at(points: Sequence[WritePoint]) -> list[Failure]:
    """Two failures of each write, a third of each append; of frequent kinds one a write."""
    often = {what for what, count in Counter(point.what for point in points).items() if count > OFTEN}
    found: list[Failure] = []
    for point in points:
        ways = [NOT_PERSISTED, PERSISTED]
        if point.what.startswith("append"):
            ways.append(TORN)
        found += [(point, ways[point.nth % len(ways)])] if point.what in often else [(point, w) for w in ways]
    return found


def put_through(disk: Disk, make: Callable[[], SiteWard], failures: Sequence[Failure]) -> None:
    """Let every failure happen, a few in each round of as many studies as it takes."""
    queues: dict[str, list[Failure]] = {"begin": [], "end": [], "steps": [], "mirror": []}
    for failure in failures:
        point = failure[0]
        edge = {0: "begin", AFTER_THE_RUN: "end"}.get(point.phase)
        queues[edge or ("mirror" if "run/mirror/" in point.what else "steps")].append(failure)
    missed: Counter[Failure] = Counter()
    while any(queues.values()):
        taken = {
            WritePoint(number, failure[0].what, failure[0].nth): failure
            for number in range(1, ROUNDS)
            for failure in drawn(queues, missed)
        }
        taken |= {
            queues[edge][-1][0]: queues[edge].pop() for edge in ("begin", "end", "begin") if queues[edge]
        }
        ward = make()
        disk.watch(ward.site_root, phase_of(ward), {point: how for point, (_, how) in taken.items()})
        judge(ward, ward.run())
        for point in disk.plan:  # an earlier failure of the round left no write of the kind
            failure = taken[point]
            missed[failure] += 1
            assert missed[failure] < 4, f"{failure} never happens"
            edge = {0: "begin", AFTER_THE_RUN: "end"}.get(point.phase, "steps")
            queues[edge].append(failure)


def drawn(queues: Mapping[str, list[Failure]], missed: Mapping[Failure, int]) -> list[Failure]:
    """The failures of one round: of a step and two of the mirror; alone what did not happen beside others."""
    steps, mirror = queues["steps"], queues["mirror"]
    if steps and missed[steps[-1]]:
        return [steps.pop()]
    step = [steps.pop()] if steps and not missed[steps[-1]] else []
    return [*step, *(mirror.pop() for _ in range(min(2, len(mirror))))]


def judge(ward: SiteWard, state: State) -> None:
    """What must hold at the end of a study."""
    for number in range(1, ROUNDS + 1):
        found = state.rounds[number]
        assert found.outcome in ("closed", "aborted"), number  # an aborted one has its reason by the schema
    assert state.rounds[ROUNDS].outcome == "closed"
    last = state.rounds[ROUNDS].summed
    assert last is not None and ward.own in last.u3, "the site is not whole again in the last round"
    assert ward.rejections == []
    entries = ward.ledger.entries
    logged = {entry.note for entry in entries}
    outbox = ward.site_root / "run" / "outbox"
    kept = {path.name: path.read_bytes() for path in outbox.glob("*.note")}
    for note in ward.acknowledged:
        assert note in logged
        assert kept[f"{parse_event(note).event.seq:08d}.note"] == note
    assert set(kept.values()) <= logged
    for size, root in ward.cosigned.items():
        assert state.tree.root(size) == root, f"a head of size {size} was cosigned that is none of the log"
    own = [entry.event for entry in entries if entry.event.actor.id == ward.own]
    assert_one_consent_a_base(state, own)
    assert_one_kind_of_secret(state, own)
    bundle = ward.folder.root.parent / "bundle"
    export_bundle(ward.folder.root, bundle)
    trust = Trust.from_terms(ward.terms, genesis=entries[0].leaf)
    verdict = verify_bundle(bundle, trust, heads=ward.site_root.parent)
    assert verdict.verdict == "pass", {k: c for k, c in verdict.checks.items() if c.result == "fail"}


def assert_one_consent_a_base(state: State, own: Sequence[Event]) -> None:
    """G37: a second survivor set of one base only where the first can no longer be opened."""
    given: list[Session] = []
    for event in own:
        if isinstance(event.data, SurvivorsAgreed):
            session = state.sids[str(event.sid)]
            for earlier in given:
                same_sum = (earlier.base, earlier.purpose) == (session.base, session.purpose)
                if same_sum and set(earlier.u3) != set(session.u3):
                    dead = state.cannot_be_opened(earlier, before=event.saw.size)
                    assert dead, "two survivor sets of one base were consented to"
            given.append(session)


def assert_one_kind_of_secret(state: State, own: Sequence[Event]) -> None:
    """U2, R5.4.5: one answer a session, one kind of share of each site, one release of each update."""
    released: Counter[Any] = Counter()
    for event in own:
        if isinstance(event.data, UnmaskResponse):
            assert not set(event.data.self_of) & set(event.data.pair_of)
            session = state.sids[str(event.sid)]
            released[session.round, session.purpose] += 1
    assert all(count == 1 for count in released.values()), released


def writes_of(root: Path, disk: Disk, **terms: Any) -> list[WritePoint]:
    """The writes of an undisturbed study but those of its first round: the second one stands for all."""
    points = undisturbed(SiteWard(root, rounds=2, quorum=True, **terms), disk)
    return [point for point in points if point.phase != 1]


def wards(root: Path, **terms: Any) -> Callable[[], SiteWard]:
    """Make one ward after the other."""
    numbers = itertools.count(1)
    return lambda: SiteWard(root / f"study-{next(numbers)}", rounds=ROUNDS, quorum=True, **terms)


@pytest.mark.long
def test_a_disk_that_fails_at_any_write_costs_no_event_and_no_secret(tmp_path: Path, disk: Disk) -> None:
    points = writes_of(tmp_path / "undisturbed", disk)
    assert {point.what.split()[-1].split("/")[-1] for point in points} >= {
        "#.note", "#.receipt", "entries", "checkpoint", "cosigned", "witness.json", "markers.jsonl",
        "journal.jsonl", "clipping.jsonl", "update-#.sealed", "uploads", "adapters",
    }  # fmt: skip
    put_through(disk, wards(tmp_path), failures_at(points))


@pytest.mark.long
def test_a_disk_that_fails_at_any_write_of_a_vote_costs_no_vote_and_no_secret(
    tmp_path: Path, disk: Disk
) -> None:
    terms: dict[str, Any] = {"secure_aggregation__vote": {"every_rounds": 1}}
    without = set(writes_of(tmp_path / "without", disk))
    points = [point for point in writes_of(tmp_path / "undisturbed", disk, **terms) if point not in without]
    own = [point for point in points if "run/mirror/" not in point.what and ".receipt" not in point.what]
    assert any("vote-#.sealed" in point.what for point in own)
    put_through(disk, wards(tmp_path, **terms), failures_at(own))


def test_a_disk_that_fails_at_any_write_of_a_charge_loses_none_and_makes_none_twice(
    tmp_path: Path, disk: Disk
) -> None:
    """R4.13.5: trainings never begin without a durable charge (the guard at the site's door, `ward_site`).

    The log's law recomputes the figure of every charge, and the audit at the end judges D1 to D5.
    """
    terms: dict[str, Any] = overrides(rounds=3 * ROUNDS)
    points = writes_of(tmp_path / "undisturbed", disk, **terms)
    own = [point for point in points if "ledger" in point.what or "noise.key" in point.what]
    assert {point.what for point in own} == {
        "append ledger.jsonl", "write_atomic ledger.head", "create_private run/noise.key"
    }  # fmt: skip
    notes = [point for point in points if ".note" in point.what and point.nth <= 2]  # plan and charge
    put_through(disk, wards(tmp_path, **terms), failures_at([*own, *notes]))


def test_a_disk_that_fails_around_a_refusal_keeps_it_and_the_log_hears_of_it(
    tmp_path: Path, disk: Disk
) -> None:
    terms: dict[str, Any] = {"trainer": FailingTrainer}
    points = writes_of(tmp_path / "undisturbed", disk, **terms)
    own = [point for point in points if "journal" in point.what or ".note" in point.what]
    assert any("journal" in point.what and point.phase == 2 for point in own)
    put_through(disk, wards(tmp_path, **terms), failures_at(own))
