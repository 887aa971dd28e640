"""`study new --dp-epsilon` and `site ledger`: what people and scripts are told of a privacy budget."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from fedmedlora_audit.note import ALG_COSIGNATURE, NoteSigner
from fedmedlora_cli.app import build_app
from fedmedlora_cli.demo.options import DemoOptions
from fedmedlora_cli.study_privacy import DEFAULTS, NO_OPTIONS, plan_epsilon, with_privacy
from fedmedlora_coordinator import setup
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.privacy_terms import PrivacyTerms
from fedmedlora_core.profile import Profile
from fedmedlora_core.study import Study
from fedmedlora_site.ledger import Ledger
from fedmedlora_site.pins import Card
from fedmedlora_testkit.spending import by_hand, charge, overrides
from fedmedlora_testkit.stage_site import make_site, staged_study


def private(profile: Profile, **options: Any) -> Profile:
    return with_privacy(profile, **{**NO_OPTIONS, **options})


def terms_of(profile: Profile) -> PrivacyTerms:
    assert profile.privacy is not None
    return PrivacyTerms.model_validate(profile.privacy.model_dump(exclude_none=True))


def test_the_noise_is_the_least_for_all_planned_rounds_together() -> None:
    profile = private(Profile.load("tiny"), epsilon=8.0)
    terms, rounds = terms_of(profile), profile.training.rounds
    assert rounds > 10
    assert 7.9 < plan_epsilon(terms, rounds) <= 8.0
    less = terms.model_copy(update={"noise_milli": terms.noise_milli - 1})
    assert plan_epsilon(less, rounds) > 8.0
    # By another accountant; and a single round's noise would have been far too little.
    charges = [
        charge(n, noise_milli=terms.noise_milli, sampling_micro=50_000, steps=50)
        for n in range(1, rounds + 1)
    ]
    assert by_hand(charges, delta=1e-5) == pytest.approx(plan_epsilon(terms, rounds), rel=1e-9)
    one = private(Profile.load("tiny").override(training__rounds=1), epsilon=8.0)
    assert plan_epsilon(terms_of(one), rounds) > 2 * 8.0


def test_weights_become_constants_and_the_rest_is_as_given() -> None:
    profile = private(
        Profile.load("tiny"),
        epsilon=2.0,
        delta="1e-6",
        unit="document",
        rate=0.01,
        steps=7,
        clip=0.5,
        batch_units=4,
    )
    assert (profile.aggregation.size_exponent_milli, profile.aggregation.tau_milli) == (0, 0)
    terms = terms_of(profile)
    assert (terms.epsilon_milli, terms.delta, terms.unit) == (2000, "1e-6", "document")
    assert (terms.sampling_micro, terms.steps, terms.clip_micro, terms.batch_units) == (10_000, 7, 500_000, 4)


def test_a_profile_without_the_table_stays_as_it_is() -> None:
    profile = Profile.load("tiny")
    assert private(profile) == profile


def test_a_profiles_own_noise_is_kept_unless_what_it_was_made_for_changes() -> None:
    table = {f"privacy__{name}": value for name, value in DEFAULTS.items()}
    profile = Profile.load("tiny").override(**table, privacy__epsilon_milli=8000, privacy__noise_milli=4321)
    assert terms_of(private(profile)).noise_milli == 4321
    assert terms_of(private(profile, clip=2.0)).noise_milli == 4321
    assert terms_of(private(profile, epsilon=4.0)).noise_milli != 4321
    open_noise = Profile.load("tiny").override(**table, privacy__epsilon_milli=8000)
    assert terms_of(private(open_noise)) == terms_of(private(Profile.load("tiny"), epsilon=8.0))


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"delta": "1e-6"}, "--dp options need --dp-epsilon"),
        ({"epsilon": 0.0}, "--dp-epsilon: expected a number of at least 0.001"),
        ({"epsilon": -1.0}, "--dp-epsilon"),
        ({"epsilon": float("nan")}, "--dp-epsilon"),
        ({"epsilon": 8.0, "rate": 1.5}, "privacy.sampling_micro"),
        ({"epsilon": 8.0, "delta": "0.1"}, "privacy.delta"),
        ({"epsilon": 8.0, "unit": "visit"}, "privacy.unit"),
        ({"epsilon": 0.001, "rate": 1.0, "steps": 1_000_000}, "no noise is enough"),
    ],
)
def test_bad_options_are_refused_in_one_line(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as caught:
        private(Profile.load("tiny"), **options)
    assert "\n" not in str(caught.value)


def test_weights_by_loss_are_refused() -> None:
    profile = Profile.load("tiny").override(aggregation__rule="fedmedlora+", aggregation__tau_milli=1000)
    with pytest.raises(ConfigError, match=r"leave 'fedmedlora\+' out"):
        private(profile, epsilon=8.0)


def run(*arguments: str) -> Any:
    return CliRunner().invoke(build_app([arguments[0]]), list(arguments))


def test_study_new_writes_the_table_and_check_says_what_it_costs(tmp_path: Path) -> None:
    setup.init(tmp_path / "centre", name="new.example", address="h:1", enrolment_address="h:2")
    cards = ["--coordinator-card", str(tmp_path / "centre" / "card.toml")]
    for site in ("site-a", "site-b", "site-c"):
        event, witness = NoteSigner.generate(site), NoteSigner.generate(site, algorithm=ALG_COSIGNATURE)
        Card(id=site, event_vkey=event.vkey, witness_vkey=witness.vkey).write(tmp_path / f"{site}.toml")
        cards += ["--member", str(tmp_path / f"{site}.toml")]
    package = tmp_path / "study"
    done = run("study", "new", "--out", str(package), "--id", "ward", *cards, "--dp-epsilon", "8")
    assert done.exit_code == 0, done.output
    said = " ".join(done.output.split())
    assert "differential privacy by patient: 15 round(s) cost epsilon 7.99" in said
    study = Study.load(package)
    assert study.privacy is not None and study.privacy.epsilon_milli == 8000
    assert run("study", "check", str(package), "--json", str(tmp_path / "facts.json")).exit_code == 0
    facts = json.loads((tmp_path / "facts.json").read_text())["privacy"]
    assert facts["noise_milli"] == study.privacy.noise_milli
    assert 7900 < facts["planned_epsilon_milli"] <= 8000


def test_a_private_demo_has_no_votes(tmp_path: Path) -> None:
    assert DemoOptions(out=tmp_path, dp_epsilon=8.0).rounds_between_votes == 0
    assert DemoOptions(out=tmp_path).rounds_between_votes > 0
    with pytest.raises(ConfigError, match="a vote's losses would be released"):
        DemoOptions(out=tmp_path, dp_epsilon=8.0, vote_every=1)


# -- site ledger


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A site with a budget of 6 and an earlier study in its ledger."""
    root = make_site(tmp_path, staged_study(**overrides(rounds=4)))
    (root / "policy.toml").write_text("[privacy]\nepsilon_milli = 6000\n")
    spend(root, charge(1, study="earlier"), charge(2, study="earlier"))
    return root


def spend(root: Path, *charges: Any) -> None:
    with Ledger(root / "ledger.jsonl", root / "ledger.head").writing() as writer:
        for row in charges:
            writer.add(row)


def shown(root: Path, *more: str) -> str:
    done = run("site", "ledger", "--dir", str(root), "--no-tight", *more)
    assert done.exit_code == 0, done.output
    return str(done.output)


def test_budget_spent_left_and_the_next_round_are_shown(site: Path, tmp_path: Path) -> None:
    shown(site, "--json", str(tmp_path / "ledger.json"))
    found = json.loads((tmp_path / "ledger.json").read_text())
    spent = by_hand([charge(1), charge(2)], delta=1e-5)
    budget, following = found["budget"], found["next"]
    assert budget["spent_milli"] == pytest.approx(1000 * spent, abs=1)
    assert (budget["epsilon_milli"], budget["left_milli"]) == (6000, 6000 - budget["spent_milli"])
    assert [(row["study"], row["rounds"]) for row in found["studies"]] == [("earlier", 2)]
    assert (following["spent_milli"], following["rounds_left"], following["refused"]) == (0, 4, None)
    terms = staged_study(**overrides(rounds=4)).privacy
    assert terms is not None
    one = charge(1, noise_milli=terms.noise_milli, sampling_micro=terms.sampling_micro, steps=terms.steps)
    assert following["costs_milli"] == pytest.approx(1000 * by_hand([one], delta=1e-5), abs=1)
    together = by_hand([charge(1), charge(2), one], delta=1e-5)
    assert following["costs_of_budget_milli"] == pytest.approx(1000 * (together - spent), abs=2)
    text = shown(site)
    assert f"spent: epsilon {budget['spent_milli'] / 1000:.3f}, by patient, at delta 1e-5" in text
    assert f"budget: epsilon 6.000, left {budget['left_milli'] / 1000:.3f}" in text
    assert "earlier" in text and "4 planned round(s) left" in text


def test_a_next_round_that_would_be_refused_is_said(site: Path) -> None:
    spend(site, charge(3, study="earlier", noise_milli=600, steps=500))
    assert "it would be refused: this site's budget is epsilon 6.000" in " ".join(shown(site).split())


def test_mixed_units_have_no_figure(site: Path) -> None:
    spend(site, charge(3, study="earlier", unit="document"))
    assert "no figure by patient: the ledger holds charges by another unit" in " ".join(shown(site).split())


def test_without_budget_and_privacy_the_ledger_is_shown_all_the_same(tmp_path: Path) -> None:
    root = make_site(tmp_path, staged_study())
    text = " ".join(shown(root).split())
    assert "spent: epsilon 0.000" in text and "budget: none" in text
    assert "no study with differential privacy is accepted here" in text


def test_the_tight_figure_stands_beside_and_below(site: Path, tmp_path: Path) -> None:
    done = run("site", "ledger", "--dir", str(site), "--json", str(tmp_path / "ledger.json"))
    assert done.exit_code == 0, done.output
    budget = json.loads((tmp_path / "ledger.json").read_text())["budget"]
    assert 0 < 1000 * budget["spent_tight"] < budget["spent_milli"]
