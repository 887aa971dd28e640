"""The chain of the server's optimiser in the log: what a reviewer, who sees digests only, can judge."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import CharterError, LawError
from fedmedlora_core.server_optimiser import OptimiserState
from fedmedlora_testkit import audit_votes as votes
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import START, StudyLog, charter_table, digest_of
from fedmedlora_testkit.studies import make_study

ADAM = {"optimiser": "adam", "beta1_milli": 900, "beta2_milli": 990, "adaptivity_micro": 1000}
CHANGES: dict[str, Any] = {
    "aggregation": {"weight_max": 100, "server": ADAM},
    "adapter": {"initial_digest": START, "dimension": 12},
}


def publish(log: StudyLog, **changes: Any) -> bytes:
    """Draft the publication that is due, with lies."""
    data = log.published_data(**changes)
    return log.draft("coordinator", "aggregate.published", data, **log.blob("coordinator", "ring-sum"))


def responded(log: StudyLog) -> StudyLog:
    """Every survivor has opened its shares."""
    log.to_step("unmask")
    for site in log.session.u3:
        log.respond(site)
    return log


def test_the_first_state_is_the_one_that_the_charter_implies() -> None:
    # R4.9.3: audit computes it without numpy, core with; both must find the same.
    study = make_study(dimension=12, overrides={"aggregation__server": ADAM})
    server = study.aggregation.server
    assert server is not None
    terms = StudyLog(**CHANGES).terms
    assert terms.initial_state == OptimiserState.initial(server, 12).digest
    assert StudyLog().terms.initial_state is None


def test_a_run_with_an_optimiser_passes_and_the_state_goes_on(tmp_path: Path) -> None:
    log = StudyLog(**CHANGES).play(2)
    states = [closed.state for closed in log.state.closed_rounds]
    assert None not in states
    assert log.state.optimiser == states[-1] != states[0]
    assert Forger(log).judge(tmp_path / "bundle").verdict == "pass"


@pytest.mark.parametrize(
    "lie",
    [
        {"state_before": digest_of("elsewhere")},
        {"state_before": None},
        {"state": None},
        {"state": None, "state_before": None},
    ],
)
def test_a_state_out_of_nowhere_is_refused_by_the_law(lie: dict[str, Any]) -> None:
    # R4.9.4
    log = responded(StudyLog(**CHANGES).set_up())
    log.judge(publish(log))
    with pytest.raises(LawError) as caught:
        log.judge(publish(log, **lie))
    assert caught.value.check == "A2"


def test_a_state_without_an_optimiser_is_refused() -> None:
    log = responded(StudyLog().set_up())
    with pytest.raises(LawError, match="no optimiser"):
        log.judge(publish(log, state=digest_of("some")))


def test_an_acceptance_of_another_state_is_refused() -> None:
    # R4.9.4: an acceptance names the state, so those who accepted cannot have found two.
    log = StudyLog(**CHANGES).set_up().to_step("aggregate")
    note = log.draft("site-a", "aggregate.accepted", log.accepted_data(state=digest_of("mine")), round=1)
    with pytest.raises(LawError) as caught:
        log.judge(note)
    assert caught.value.check == "A2"


def test_an_aborted_round_leaves_the_state() -> None:
    log = StudyLog(**CHANGES).set_up().to_step("aggregate")
    before = log.state.optimiser
    log.refuse("site-d", "aggregate", "bad_aggregate", round=1)
    log.abort("disagreement")
    assert log.state.optimiser == before == log.terms.initial_state


@pytest.mark.parametrize(("against", "outcome"), [(4, "rolled_back"), (0, "closed")])
def test_a_round_that_is_rolled_back_leaves_the_state(against: int, outcome: str) -> None:
    # R4.9.4: what the voters refused is forgotten, the optimiser's part of it too.
    terms = {**charter_table()["secure_aggregation"], "vote": {"every_rounds": 1, "margin_milli": 20}}
    log = votes.counted(StudyLog(**CHANGES, secure_aggregation=terms).set_up(), against)
    published = votes.summed_of(log, log.number)
    votes.end(log)
    assert log.state.rounds[log.number].outcome == outcome
    left = log.terms.initial_state if outcome == "rolled_back" else published.state
    assert log.state.optimiser == left
    assert published.state_before == log.terms.initial_state != published.state


def test_a_reviewer_names_the_round_whose_state_does_not_go_on(tmp_path: Path) -> None:
    """The coordinator's whole strength: it logs what the law refuses, and signs everything anew."""
    log = responded(StudyLog(**CHANGES).set_up().play_round())
    lie = log.published_data(state_before=digest_of("elsewhere"))
    log.force("coordinator", "aggregate.published", lie, **log.blob("coordinator", "ring-sum"))
    verdict = Forger(log).judge(tmp_path / "bundle")
    assert verdict.checks["A2"].result == "fail"
    index = Forger(log).index("aggregate.published", which=1)
    assert index in {finding.index for finding in verdict.findings if finding.check == "A2"}


def test_a_charter_with_a_strange_optimiser_is_refused() -> None:
    with pytest.raises(CharterError, match="momentum"):
        StudyLog(**{**CHANGES, "aggregation": {"weight_max": 100, "server": {"optimiser": "yogi"}}})
    assert CharterTerms.from_json(StudyLog(**CHANGES).charter).initial_state
