"""Summed validation counts at the coordinator: what is published, who may be missing, what is released."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.event_data import ModelReleased, StepRefused
from fedmedlora_audit.law import State
from fedmedlora_audit.law.validation_rules import chosen_round, counted_over, score
from fedmedlora_audit.validation_data import TypeCounts, ValidationCounted
from fedmedlora_coordinator import conductor as conductor_module
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.study import Study
from fedmedlora_core.validation_counts import CountLayout, ValidationCounts
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward

ALL = ["site-a", "site-b", "site-c", "site-d"]
STEPS = ["advertise", "share", "upload", "survivors", "unmask", "tally"]
SECRET_STEPS = STEPS[:3]


@pytest.fixture(autouse=True)
def _unarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kill planned, and no waiting for the disk: a killed process loses nothing that it wrote."""
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def counting(
    root: Path, *, rounds: int = 2, every_rounds: int = 1, choose: str = "best", **overrides: Any
) -> Ward:
    """A ward whose charter asks for validation counts."""
    table = {"every_rounds": every_rounds, "choose": choose}
    return Ward(root, rounds=rounds, **{"secure_aggregation__validation": table, **overrides})


def let_find(ward: Ward, *found: int) -> None:
    """Let every hospital find so many of its ten mentions in round 1, 2 and so on."""
    for hospital in ward.hospitals:
        hospital.finds = dict(enumerate(found, start=1))


def outcomes(ward: Ward) -> list[str | None]:
    rounds = ward.ledger.state.rounds
    return [rounds[number].outcome for number in sorted(rounds)]


def published(ward: Ward) -> dict[int, ValidationCounted]:
    """The counts in the log, by round."""
    found = {}
    for entry in ward.ledger.entries:
        if entry.event.type == "validation.counted" and isinstance(entry.event.data, ValidationCounted):
            found[int(entry.event.round or 0)] = entry.event.data
    return found


def released(ward: Ward) -> ModelReleased:
    return next(e.event.data for e in ward.ledger.entries if isinstance(e.event.data, ModelReleased))


def in_counts(step: str, number: int = 1) -> Callable[[State], bool]:
    """The counts of a round have come to a step."""

    def reached(state: State) -> bool:
        session = state.session
        return (
            session is not None
            and (session.purpose, session.round) == ("statistics", number)
            and session.step == step
        )

    return reached


def summed(ward: Ward, number: int, sites: list[str]) -> ValidationCounts:
    """The counts of hospitals added up plainly."""
    total = ward.hospital(sites[0]).counts(ward.study, number)
    for site in sites[1:]:
        total = total + ward.hospital(site).counts(ward.study, number)
    return total


def test_the_log_holds_the_exact_sums_by_type_and_nothing_of_one_site(tmp_path: Path) -> None:
    """R4.15.3, R4.15.6."""
    ward = counting(tmp_path, rounds=1)
    for hospital in ward.hospitals:
        hospital.finds = {1: hospital.number}
    ward.run()
    data = published(ward)[1]
    expected, layout = summed(ward, 1, ALL), CountLayout.of(ward.study)
    assert len(layout.entities) > 1 and len(layout.relations) > 1
    for rows, labels, score_ in (
        (data.entities, layout.entities, expected.entities),
        (data.relations, layout.relations, expected.relations),
    ):
        found = [(row.tp, row.fp, row.fn) for row in rows]
        assert found == [(c.tp, c.fp, c.fn) for c in (score_.per_type[label] for label in labels)]
    assert (data.sites, outcomes(ward)) == (4, ["closed"])
    assert [row.tp for row in data.entities] == [1 + 2 + 3 + 4] * len(data.entities)


def test_the_adapter_of_the_best_round_is_released_and_named(tmp_path: Path) -> None:
    """R4.15.8: rebuilt from the stored sums, though two rounds came after it."""
    ward = counting(tmp_path, rounds=4)
    let_find(ward, 4, 8, 8, 6)
    ward.run()
    state = ward.ledger.state
    second = state.closed_rounds[1]
    assert released(ward) == ModelReleased(adapter=second.next_base, round=2, rounds=4), (
        "the earlier of equal ones"
    )
    assert Adapter.load(ward.folder.released).digest == second.next_base == state.released != state.base
    assert '"round": 2' in (ward.folder.released / "release.json").read_text()
    assert ward.model.digest == state.base


def test_with_last_the_sums_are_for_reading_only(tmp_path: Path) -> None:
    ward = counting(tmp_path, choose="last")
    let_find(ward, 8, 4)
    ward.run()
    assert set(published(ward)) == {1, 2}
    assert released(ward) == ModelReleased(adapter=ward.ledger.state.base, rounds=2)


def test_counts_are_summed_in_the_charters_rounds_and_in_the_last(tmp_path: Path) -> None:
    """R4.15.1."""
    ward = counting(tmp_path, rounds=3, every_rounds=2)
    ward.run()
    assert sorted(published(ward)) == [2, 3]
    assert outcomes(ward) == ["closed"] * 3


def test_counts_come_after_the_vote_and_not_after_a_refused_one(tmp_path: Path) -> None:
    ward = counting(tmp_path, rounds=2, secure_aggregation__vote={"every_rounds": 1})
    for site in ALL[:3]:
        ward.hospital(site).against = True
    ward.run(lambda state: len(state.rounds) == 2)
    for hospital in ward.hospitals:
        hospital.against = False
    ward.run()
    assert outcomes(ward) == ["rolled_back", "closed"]
    purposes = [(s.round, s.purpose) for s in ward.ledger.state.sids.values()]
    assert purposes == [(1, "update"), (1, "score"), (2, "update"), (2, "score"), (2, "statistics")]
    assert released(ward).round == 2


@pytest.mark.parametrize("step", STEPS)
def test_a_site_that_dies_in_the_first_counts_is_a_drop_out(tmp_path: Path, step: str) -> None:
    ward = counting(tmp_path, rounds=1)
    ward.run(in_counts(step))
    ward.drop("site-c")
    ward.run()
    sites = [s for s in ALL if s != "site-c"] if step in SECRET_STEPS else ALL
    data = published(ward)[1]
    assert (outcomes(ward), data.sites) == (["closed"], len(sites))
    assert data.entities[0].tp == summed(ward, 1, sites).entities.per_type[ward.study.labels.entities[0]].tp
    assert released(ward).round == 1


@pytest.mark.parametrize("step", STEPS[:4])
def test_a_site_that_restarts_in_the_counts_is_given_another_attempt(tmp_path: Path, step: str) -> None:
    ward = counting(tmp_path, rounds=1)
    ward.run(in_counts(step))
    for site in ("site-c", "site-d"):
        ward.hospital(site).restart()
    ward.run()
    attempts = [s.attempt for s in ward.ledger.state.sids.values() if s.purpose == "statistics"]
    assert attempts == ([1] if step == "advertise" else [1, 2])
    assert (outcomes(ward), published(ward)[1].sites) == (["closed"], 4)


def test_once_counted_over_four_sites_three_are_never_counted(tmp_path: Path) -> None:
    """R4.15.5: the difference would be the fourth one's notes. The rounds close without counts."""
    ward = counting(tmp_path, rounds=3)
    ward.run(in_counts("share", 2))
    ward.drop("site-c")
    ward.run()
    assert outcomes(ward) == ["closed"] * 3
    assert sorted(published(ward)) == [1]
    assert counted_over(ward.ledger.state) == frozenset(ALL)
    # R4.15.7, R4.15.8: the last round has no counts, so nothing is chosen.
    assert chosen_round(ward.ledger.state) is None
    assert released(ward) == ModelReleased(adapter=ward.ledger.state.base, rounds=3)


def test_without_the_rule_the_difference_of_two_sums_is_one_sites_notes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The partner: every check on the set of sites is taken out, and the log tells site-c's mentions."""
    from fedmedlora_audit.law import RULES, session_rules, validation_rules

    def any_sites(state: State) -> None:
        return None

    monkeypatch.setattr(validation_rules, "counted_over", any_sites)
    kept = tuple(r for r in RULES["survivors.fixed"] if r is not session_rules.no_subtraction)
    monkeypatch.setitem(RULES, "survivors.fixed", kept)
    agreed = tuple(r for r in RULES["survivors.agreed"] if r is not session_rules.one_survivor_set_per_base)
    monkeypatch.setitem(RULES, "survivors.agreed", agreed)
    ward = counting(tmp_path, rounds=2)
    ward.run(in_counts("share", 2))
    ward.drop("site-c")
    ward.run()
    first, second = (published(ward)[number].entities[0] for number in (1, 2))
    assert (first.tp + first.fn) - (second.tp + second.fn) == 10, "what site-c has of this type"


def test_a_site_that_comes_back_is_counted_again(tmp_path: Path) -> None:
    ward = counting(tmp_path, rounds=3)
    let_find(ward, 4, 9, 6)
    ward.run(in_counts("share", 2))
    ward.drop("site-c")
    ward.run(lambda state: state.rounds[2].outcome is not None)
    ward.come_back("site-c")
    ward.run()
    assert sorted(published(ward)) == [1, 3]
    assert released(ward).round == 3, "round 2 was better, and nobody could count it"


def test_a_type_that_too_few_survivors_annotate_leaves_the_sum(tmp_path: Path) -> None:
    """R4.15.4: three sites annotate the type; without one of them it has no place in the next attempt."""
    ward = Ward(tmp_path, rounds=1, secure_aggregation__validation={"every_rounds": 1})
    labels = (*ward.study.labels.entities, *ward.study.labels.modifiers)
    few = labels[0]
    annotated = {"site-d": tuple(label for label in labels if label != few)}
    ward = Ward(
        tmp_path / "uneven",
        rounds=1,
        annotated=annotated,
        secure_aggregation__validation={"every_rounds": 1},
    )
    whole = len(CountLayout.of(ward.study).entities)
    ward.run(in_counts("upload"))
    ward.drop("site-c")
    ward.run()
    attempts = [s.attempt for s in ward.ledger.state.sids.values() if s.purpose == "statistics"]
    data = published(ward)[1]
    assert (attempts, data.sites, len(data.entities)) == ([1, 2], 3, whole - 1)
    assert outcomes(ward) == ["closed"]


def lie(ward: Ward, site: str, spoil: Callable[[np.ndarray], None]) -> None:
    """Let one hospital write something else than its counts."""
    hospital = ward.hospital(site)
    honest = hospital.counted

    def spoilt(study: Study, round_number: int, layout: CountLayout) -> np.ndarray:
        vector = honest(study, round_number, layout)
        spoil(vector)
        return vector

    hospital.counted = spoilt  # type: ignore[method-assign]


def test_counts_that_no_sites_can_have_cost_the_counts_and_not_the_round(tmp_path: Path) -> None:
    """R4.15.3, R4.15.7: a negative count is a very large one in the ring."""
    ward = counting(tmp_path, rounds=2)

    def negative(vector: np.ndarray) -> None:
        vector[0] = np.uint32(2**32 - 30)

    lie(ward, "site-b", negative)
    ward.run()
    assert (outcomes(ward), published(ward)) == (["closed", "closed"], {})
    assert released(ward).round is None


def test_a_site_that_finds_other_counts_stops_the_round(tmp_path: Path) -> None:
    """R4.15.6."""
    ward = counting(tmp_path, rounds=1)
    ward.hospital("site-d").refuses.add("tally")
    ward.run(in_counts("tally"))
    session = ward.ledger.state.session
    assert session is not None
    refusal = StepRefused(step="tally", reason="wrong_count", sid=session.sid)
    ward.submit(ward.hospital("site-d"), "step.refused", refusal, 1)
    ward.run()
    aborted = next(e.event for e in ward.ledger.entries if e.event.type == "round.aborted")
    assert aborted.reason == "disagreement"


def test_counts_that_too_few_have_checked_choose_nothing(tmp_path: Path) -> None:
    ward = counting(tmp_path, rounds=2)
    let_find(ward, 9, 4)
    ward.run(in_counts("tally", 2))
    for site in ("site-c", "site-d"):
        ward.drop(site)
    ward.run(lambda state: state.rounds[2].outcome is not None)
    assert outcomes(ward) == ["closed", "closed"]
    assert len(ward.ledger.state.rounds[2].counts.accepted) == 2  # type: ignore[union-attr]
    ward.run()
    assert released(ward).round is None


def test_the_evidence_of_counts_is_shown_when_they_are_published_and_gone_after_the_round(
    tmp_path: Path,
) -> None:
    ward = counting(tmp_path, rounds=1)
    ward.run(in_counts("unmask"))
    session = ward.ledger.state.session
    assert session is not None
    assert not any(ward.payloads.is_public(digest) for digest in session.u3.values())
    ward.run(in_counts("tally"))
    shown = [*session.u3.values(), *session.responses.values()]
    assert all(ward.payloads.is_public(digest) for digest in shown)
    ward.run()
    assert all(ward.blobs.size(digest) is None for digest in shown)


@pytest.mark.parametrize("after", [False, True])
def test_a_coordinator_killed_anywhere_in_the_counts_ends_with_the_same_release(
    tmp_path: Path, after: bool
) -> None:
    """Writes from the opening of the counts to the release, every fourth one, far apart in one study."""
    quiet = counting(tmp_path / "quiet", rounds=2)
    let_find(quiet, 8, 4)
    quiet.run()
    end = released(quiet)
    ward = counting(tmp_path / "count", rounds=2)
    let_find(ward, 8, 4)
    ward.run(in_counts("advertise", 2))
    FlakyStore.arm(10**9)
    ward.run()
    writes = FlakyStore.appends
    for place in (1, 5):
        ward = counting(tmp_path / f"{after}-{place}", rounds=2)
        let_find(ward, 8, 4)
        ward.run(in_counts("advertise", 2))
        FlakyStore.arm(place, after=after, every=8)
        ward.run()
        assert FlakyStore.disarm() >= set(range(place, writes + 1, 8)), "the kills did not happen"
        assert (released(ward).round, released(ward).rounds) == (end.round, end.rounds) == (1, 2)
        assert Adapter.load(ward.folder.released).digest == released(ward).adapter
        assert published(ward)[2].entities == published(quiet)[2].entities


def test_a_coordinator_that_releases_another_round_is_refused_by_the_law(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedmedlora_coordinator import steps
    from fedmedlora_coordinator.errors import ForbiddenError

    monkeypatch.setattr(conductor_module, "chosen_round", lambda state: None)
    monkeypatch.setattr(steps, "chosen_round", lambda state: None)
    ward = counting(tmp_path)
    let_find(ward, 8, 4)
    with pytest.raises(ForbiddenError) as caught:
        ward.run()
    assert caught.value.check == "M1"


@pytest.mark.parametrize(
    ("entities", "relations", "expected"),
    [([(8, 2, 2)], [], 0.8), ([(8, 2, 2)], [(0, 1, 1)], 0.4), ([], [], 0.0), ([(0, 0, 0)], [(1, 0, 0)], 1.0)],
)
def test_the_law_compares_rounds_by_the_cores_score(
    entities: list[tuple[int, int, int]], relations: list[tuple[int, int, int]], expected: float
) -> None:
    def rows(found: list[tuple[int, int, int]]) -> tuple[TypeCounts, ...]:
        return tuple(TypeCounts(tp=tp, fp=fp, fn=fn) for tp, fp, fn in found)

    data = ValidationCounted(sid="0" * 64, sites=4, entities=rows(entities), relations=rows(relations))
    layout = CountLayout(tuple(map(str, range(len(entities)))), tuple(map(str, range(len(relations)))), 4)
    vector = np.array([v for row in (*entities, *relations) for v in row], dtype=np.uint32)
    own = layout.decode(vector, voters=1)
    assert score(data) == own.exact_f1
    assert float(score(data)) == pytest.approx(expected)
