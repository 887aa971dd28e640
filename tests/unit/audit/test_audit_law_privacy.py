"""The budget under the law: what is lawful, what a charter has to say, and what a verdict says of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import rfc8785

from fedmedlora_audit import accountant, privacy_plan
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import CharterError, LawError
from fedmedlora_audit.privacy_plan import PrivacyPlan
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_core.privacy_terms import ORDERS
from fedmedlora_testkit.audit_attacks.privacy import SITE, begin_private, cost, planned
from fedmedlora_testkit.audit_charges import PRIVACY, charge_of
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import START, StudyLog, charter_table
from fedmedlora_testkit.audit_zoo.private import LyingLog, honest
from fedmedlora_testkit.stage_site import staged_study
from fedmedlora_testkit.studies import make_study, with_privacy


def plan_of(log: StudyLog) -> PrivacyPlan:
    assert log.terms.privacy is not None
    return log.terms.privacy


def test_a_training_that_changed_is_charged_anew_and_both_count() -> None:
    # R4.13.7
    log = planned(StudyLog())
    log.charge(SITE)
    log.charge(SITE)
    assert log.state.spent[SITE].charges == {plan_of(log).charge: 2}
    assert log.state.spent[SITE].milli == cost(log, 2)
    log.ready(SITE)
    assert log.state.spent[SITE].milli == cost(log, 2), "it had charged before"


def test_a_charge_that_comes_after_its_round_is_logged_and_counts() -> None:
    """The site charged while the plan stood; meanwhile the round was aborted."""
    log = planned(StudyLog())
    log.abort()
    log.charge(SITE)
    log.charge(SITE)
    log.plan()
    log.accept_plan(SITE)
    assert charge_of(log.state, SITE).epsilon_milli == cost(log, 3)
    log.charge(SITE)
    with pytest.raises(LawError) as caught:
        log.charge("site-b")
    assert caught.value.check == "R1", "it has not accepted this plan"


def test_a_charge_that_comes_after_the_run_is_logged(tmp_path: Path) -> None:
    log = begin_private(StudyLog()).play_round()
    log.plan()
    log.accept_plan(SITE)
    log.abort()
    log.finish()
    log.charge(SITE)
    assert Forger(log).judge(tmp_path / "bundle").verdict == "pass"


def test_a_site_may_be_ready_without_a_charge_but_uploads_nothing() -> None:
    # R4.13.7
    log = planned(StudyLog())
    for site in log.sites:
        log.ready_uncharged(site)
    log.open_session()
    while log.session.step != "upload":
        log.answer_all(set())
        log.coordinate()
    with pytest.raises(LawError, match="site-a uploads without a charge"):
        log.upload(SITE)
    log.charge(SITE)
    log.upload(SITE)


def test_a_right_figure_after_one_that_was_too_high_is_no_second_finding(tmp_path: Path) -> None:
    log = LyingLog(lambda log, site: {"epsilon_milli": 2500} if (log.number, site) == (1, SITE) else {})
    verdict = log.play_round().play_round().sealed(tmp_path).judge()
    assert [finding.check for finding in verdict.findings] == ["D1"]


def test_the_budget_is_spent_to_the_last_thousandth_and_no_further() -> None:
    # R4.13.6
    exact = cost(planned(StudyLog()), 2)
    log = planned(StudyLog(), epsilon_milli=exact)
    log.charge(SITE)
    log.charge(SITE)
    for budget, covered in ((exact, 2), (exact - 1, 1), (cost(log, 1) - 1, 0), (exact + 1, 2)):
        plan = plan_of(StudyLog(privacy={**PRIVACY, "epsilon_milli": budget}))
        assert plan.rounds_within(3) == covered
        assert bool(plan.shortage(2)) == (covered < 2)


@pytest.mark.parametrize(
    ("epsilon", "right"),
    [
        (1.5, {1500, 1501}),
        (1.5 + 1.4e-6, {1500, 1501}),
        (1.5 + 1.7e-6, {1501}),
        (1.5 - 1.4e-6, {1500, 1501}),
        (1.5 - 1.7e-6, {1500}),
        (1.4995, {1500}),
        (float("inf"), set()),
    ],
)
def test_a_figure_agrees_within_a_millionth(
    epsilon: float, right: set[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = plan_of(StudyLog(privacy=PRIVACY))
    monkeypatch.setattr("fedmedlora_audit.privacy_plan._epsilon", lambda *_: epsilon)
    assert {milli for milli in range(1400, 1600) if plan.agrees(milli, {})} == right
    assert plan.overspends({}) == (epsilon > 3)
    assert (plan.figure_of({}) == "infinity") == (epsilon > 3)


def test_one_curve_is_computed_for_a_whole_log(tmp_path: Path) -> None:
    """Sites charge alike: the cost of accounting does not grow with sites or rounds."""
    made = Forger(begin_private(StudyLog()).play_round().play_round().finish())
    privacy_plan._epsilon.cache_clear()
    accountant._curve.cache_clear()
    assert made.judge(tmp_path / "bundle").verdict == "pass"
    assert accountant._curve.cache_info().misses == 1
    assert privacy_plan._epsilon.cache_info().misses == 3, (
        "one by number of charges: of the log, of the budget"
    )


def test_a_site_of_many_mechanisms_is_named_each_time_and_costs_few_curves(tmp_path: Path) -> None:
    """A hostile log is judged in the time of its events, not in that of all sums it could ask for."""
    log = planned(StudyLog())
    for noise in range(400, 460):
        data = charge_of(log.state, SITE, noise_milli=noise, epsilon_milli=9000)
        log.force(SITE, "dp.spent", data, round=1)
    privacy_plan._epsilon.cache_clear()
    accountant._curve.cache_clear()
    verdict = Forger(log).judge(tmp_path / "bundle")
    assert sum(finding.check == "D4" for finding in verdict.findings) == 60
    assert accountant._curve.cache_info().misses <= privacy_plan.MAX_KINDS + 1
    assert verdict.checks["D3"].result == "fail"


# -- what a verdict says


def test_a_budget_that_ends_before_the_rounds_do_is_said_and_no_finding(tmp_path: Path) -> None:
    log = LyingLog(honest, rounds=10, epsilon_milli=1900)
    verdict = log.play_round().sealed(tmp_path).judge()
    assert verdict.verdict == "pass"
    said = "The budget, epsilon 1.900, covers 2 of the charter's 10 rounds."
    assert verdict.checks["D3"].sentence == said
    assert verdict.checks["D1"].sentence.startswith("The privacy spent was recomputed")


def test_where_the_law_stops_the_budget_is_not_judged(tmp_path: Path) -> None:
    made = Forger(begin_private(StudyLog()).play_round())
    made.notes[60] = made.signer.sign("hello\n")
    checks = made.judge(tmp_path / "bundle").checks
    assert {checks[f"D{n}"].result for n in range(1, 6)} == {"not judged"}


def test_a_charter_that_cannot_be_read_leaves_the_budget_unjudged(tmp_path: Path) -> None:
    made = Forger(begin_private(StudyLog()).play_round())
    verdict = made.judge(tmp_path / "bundle", trust=made.trust)
    assert verdict.verdict == "pass"
    (tmp_path / "bundle" / "charter.json").write_bytes(b"{}")
    checks = verify_bundle(tmp_path / "bundle", made.trust).checks
    assert {checks[f"D{n}"].result for n in range(1, 6)} == {"not judged"}


# -- the charter


def private(**changes: Any) -> dict[str, Any]:
    return {"privacy": {**PRIVACY, **changes}}


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"privacy": {}}, "privacy.unit is a text"),
        ({"privacy": 8}, "charter.privacy is missing"),
        (private(unit="ward"), "privacy.unit is 'patient' or 'document'"),
        (private(delta="0.00001"), "privacy.delta is a text such as 1e-5"),
        (private(delta=1e-5), "privacy.delta is a text"),
        (private(epsilon_milli=0), "are at least 1"),
        (private(noise_milli=0), "are at least 1"),
        (private(noise_milli=1.5), "privacy.noise_milli is a whole number"),
        (private(sampling_micro=0), "lie between 1 and 1000000"),
        (private(sampling_micro=1_000_001), "lie between 1 and 1000000"),
        (private(steps=0), "lie between 1 and 1000000"),
        (private(orders=[]), "privacy.orders is a list of whole numbers"),
        (private(orders=[2, "3"]), "privacy.orders is a list of whole numbers"),
        (private(orders=[1, 2]), "privacy.orders rise from 2"),
        (private(orders=[3, 2]), "privacy.orders rise from 2"),
        (private(orders=[2, 2]), "privacy.orders rise from 2"),
        (private(orders=[2, 5000]), "privacy.orders rise from 2"),
    ],
)
def test_a_privacy_table_out_of_bounds_is_refused(changes: dict[str, Any], what: str) -> None:
    with pytest.raises(CharterError, match=what):
        CharterTerms.from_json(rfc8785.dumps(charter_table(**changes)))


@pytest.mark.parametrize(
    "released",
    [
        {"aggregation": {"weight_max": 100, "size_exponent_milli": 500}},
        {"aggregation": {"weight_max": 100, "tau_milli": 1000}},
        {"aggregation": {"weight_max": 100, "type_weights": {}}},
        {"secure_aggregation": {**charter_table()["secure_aggregation"], "vote": {"every_rounds": 1}}},
        {"adapter": {"initial_digest": START, "mode": "sa"}},
    ],
)
def test_a_charter_that_releases_more_than_it_charges_is_refused(released: dict[str, Any]) -> None:
    # R4.13.2
    assert CharterTerms.from_json(rfc8785.dumps(charter_table(**released))).privacy is None
    with pytest.raises(CharterError, match="without being charged") as caught:
        CharterTerms.from_json(rfc8785.dumps(charter_table(**released, **private())))
    assert caught.value.check == "D5"


def test_the_auditor_reads_what_a_study_says() -> None:
    study = with_privacy(staged_study())
    plan = CharterTerms.from_json(study.canonical_json()).privacy
    terms = study.privacy
    assert plan is not None and terms is not None
    assert (plan.unit, plan.delta, plan.epsilon_milli) == (terms.unit, terms.delta, terms.epsilon_milli)
    assert plan.charge == accountant.Mechanism(terms.noise_milli, terms.sampling_micro, terms.steps)
    assert plan.orders == terms.orders
    assert CharterTerms.from_json(staged_study().canonical_json()).privacy is None
    table = {name: value for name, value in PRIVACY.items() if name != "orders"}
    assert (with_privacy(make_study(), table).privacy or terms).orders == ORDERS
