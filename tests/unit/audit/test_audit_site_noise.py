"""What noise inside the masks costs, by our accountant, by another one, and by hand; and check D6."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import CharterError
from fedmedlora_audit.site_noise import ORDERS, SiteNoise, noise_finder
from fedmedlora_audit.site_noise_review import opened_rounds
from fedmedlora_core.discrete_gaussian import DISTANCE as CORE_DISTANCE
from fedmedlora_core.privacy_terms import ORDERS as CORE_ORDERS
from fedmedlora_core.site_noise import sensitivity_of
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog, charter_table
from fedmedlora_testkit.audit_zoo.noise import noisy_sections
from fedmedlora_testkit.studies import make_study


def noise_of(**changes: Any) -> SiteNoise:
    found = SiteNoise.from_charter(charter_table(4, **noisy_sections(**changes)))
    assert found is not None
    return found


def test_the_constants_follow_from_the_charter() -> None:
    # R4.14.3, R4.14.6
    noise = noise_of()
    assert noise.sensitivity == math.ceil(2 * 1024 * 1.000001) + 100
    assert (noise.contributors, noise.members, noise.values, noise.rounds) == (2, 4, 10_000, 3)
    assert noise.rho == pytest.approx(noise.sensitivity**2 / (2 * 2 * 1800**2))
    assert SiteNoise.from_charter(charter_table(4)) is None


def test_both_libraries_compute_one_sensitivity() -> None:
    for bits, scale, clip, dimension in [(10, 64, 2_000_000, 600), (20, 7, 1, 1), (3, 64, 333_333, 9999)]:
        study = make_study(
            dimension=dimension,
            overrides={
                "aggregation__size_exponent_milli": 0,
                "aggregation__weight_max": 64,
                "aggregation__weight_scale": scale,
                "secure_aggregation__clip_norm_micro": clip,
                "secure_aggregation__wire_bits": 32,
                "site_noise__delta": "1e-5",
                "site_noise__epsilon_milli": 8000,
                "site_noise__noise_milli": 4000,
                "site_noise__value_bits": bits,
            },
        )
        noise = SiteNoise.from_charter(study.model_dump(mode="json", by_alias=True))
        assert noise is not None
        assert noise.sensitivity == sensitivity_of(study)


def test_both_libraries_mean_one_distance_and_the_same_orders() -> None:
    from fedmedlora_audit import site_noise

    assert site_noise.DISTANCE == CORE_DISTANCE
    assert ORDERS == CORE_ORDERS


@pytest.mark.parametrize("rounds", [1, 3, 50])
@pytest.mark.parametrize("noise_milli", [900_000, 1_800_000, 20_000_000])
def test_epsilon_is_the_one_of_dp_accounting(rounds: int, noise_milli: int) -> None:
    # R4.14.6
    dp_event = pytest.importorskip("dp_accounting.dp_event")
    rdp = pytest.importorskip("dp_accounting.rdp")
    noise = noise_of(rounds=rounds, noise_milli=noise_milli, epsilon_milli=32_000)
    multiplier = math.sqrt(noise.contributors) * noise_milli / 1000 / noise.sensitivity
    for event in (
        dp_event.ZCDpEvent(noise.rho),
        dp_event.GaussianDpEvent(multiplier),
    ):
        accountant = rdp.RdpAccountant(list(ORDERS))
        accountant.compose(event, rounds)
        assert noise.epsilon(rounds) == pytest.approx(accountant.get_epsilon(1e-5), rel=1e-6)


def test_too_little_noise_costs_more_than_a_gaussian_would() -> None:
    """Below 4 quanta a sum of discrete Gaussians is none: tau of the theorem is not nothing any more."""
    noise = replace(noise_of(), noise_milli=1000, sensitivity=1, contributors=5, values=42_000_000)
    assert noise.rho > 100 * (1 / (2 * 5))
    enough = replace(noise, noise_milli=4000)
    assert enough.rho == pytest.approx(1 / (2 * 5 * 16), rel=1e-12)


def test_wrong_ways_to_count_give_less_and_would_be_seen() -> None:
    noise = noise_of()
    right = noise.cost_milli(3)
    assert right is not None
    wrong = {
        "one round for all": noise.cost_milli(1),
        "all members honest": replace(noise, contributors=4).cost_milli(3),
        "T instead of T - c": replace(noise, contributors=3).cost_milli(3),
        "no rounding": replace(noise, sensitivity=2048).cost_milli(3),
    }
    assert all(cost is not None and cost < right for cost in wrong.values())
    assert 3 * noise.epsilon(1) > noise.epsilon(3), "rounds add as Renyi divergence, not as epsilon"


def test_what_the_sampler_is_off_by_is_charged_to_delta() -> None:
    # R4.14.4, R4.14.6
    noise = noise_of()
    assert 1e-5 - noise.left_delta > 0 or noise.left_delta == 1e-5, "far below a float's step at epsilon 8"
    large = replace(noise, values=42_000_000, members=1000, rounds=100, epsilon_milli=32_000)
    assert large.left_delta < 0
    assert large.cost_milli(1) is None
    assert replace(large, epsilon_milli=8000).left_delta > 0.99e-5


def test_another_update_instead_of_none_costs_more() -> None:
    noise = noise_of()
    zeroed, replaced = noise.cost_milli(3), noise.replaced_milli(3)
    assert zeroed is not None and replaced is not None
    assert 2 * zeroed < replaced < 4 * zeroed
    assert replace(noise, noise_milli=100_000).replaced_milli(3) is None


def test_a_charter_over_its_own_budget_is_refused() -> None:
    # R4.14.6
    noise_of().need_budget()
    with pytest.raises(CharterError, match=r"3 of 3 rounds cost a site epsilon .* allows 5\.000") as caught:
        noise_of(epsilon_milli=5000).need_budget()
    assert caught.value.check == "D6"


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"noise_milli": 3999}, "noise_milli"),
        ({"delta": "2"}, "delta"),
        ({"value_bits": 31}, "no ring holds"),
        ({"epsilon_milli": True}, "epsilon_milli"),
    ],
)
def test_a_charter_with_wrong_numbers_is_no_charter(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(CharterError, match=sentence):
        noise_of(**changes)


@pytest.mark.parametrize(
    ("section", "values", "sentence"),
    [
        ("secure_aggregation", {"mode": "none"}, "needs masks"),
        ("secure_aggregation", {"vote": {"every_rounds": 1}}, "no vote"),
        ("aggregation", {"tau_milli": 1000}, "constants"),
        ("aggregation", {"type_weights": "mentions"}, "constants"),
        ("aggregation", {"weight_scale": None}, "weight_scale"),
        ("adapter", {"dimension": 0}, "dimension"),
    ],
)
def test_a_charter_whose_noise_would_not_protect_is_none(
    section: str, values: dict[str, Any], sentence: str
) -> None:
    # R4.14.1
    table = charter_table(4, **noisy_sections())
    table[section] = {**table[section], **values}
    with pytest.raises(CharterError, match=sentence):
        SiteNoise.from_charter(table)


def test_the_noise_found_is_the_least_that_is_enough() -> None:
    table = charter_table(4, **noisy_sections())
    find = noise_finder(table, epsilon_milli=8000, delta="1e-5")
    noise = noise_of()
    found = find(noise.sensitivity)
    assert replace(noise, noise_milli=found).is_within(3)
    assert not replace(noise, noise_milli=found - 1).is_within(3)
    assert find(1) == 4000


# -- D6


def test_the_spending_is_recomputed_from_the_rounds_of_the_log(tmp_path: Path) -> None:
    # R4.14.7
    made = Forger(StudyLog(**noisy_sections()).play(2, {"upload": ["site-d"]}))
    verdict = made.judge(tmp_path / "bundle")
    assert verdict.verdict == "pass"
    check = verdict.checks["D6"]
    assert (check.result, check.count) == ("pass", 2)
    cost = noise_of().cost_milli(2)
    assert cost is not None
    assert check.sentence.startswith(f"2 of 3 rounds cost a site epsilon {cost / 1000:.3f} at delta 1e-5")


def test_a_round_whose_opening_was_asked_for_counts_though_it_was_aborted() -> None:
    # R4.14.7
    log = StudyLog(**noisy_sections()).set_up().play_round()
    assert opened_rounds(log.state) == 1
    log.to_step("survivors")
    assert opened_rounds(log.state) == 1, "a list of survivors opens nothing"
    log.answer_all(set())
    log.coordinate()
    assert opened_rounds(log.state) == 2
    log.abort()
    log.to_step("share")
    log.abort()
    assert opened_rounds(log.state) == 2
    assert [current.outcome for current in log.state.rounds.values()] == ["closed", "aborted", "aborted"]


def test_a_study_without_noise_passes_on_nothing(tmp_path: Path) -> None:
    check = Forger(StudyLog().set_up()).judge(tmp_path / "bundle").checks["D6"]
    assert (check.result, check.count) == ("pass", 0)
    assert CharterTerms.from_json(StudyLog().charter).site_noise is None


def test_an_overspent_charter_is_found_by_its_log(tmp_path: Path) -> None:
    log = StudyLog(**noisy_sections(epsilon_milli=5000)).play(2)
    verdict = Forger(log).judge(tmp_path / "bundle")
    assert [finding.check for finding in verdict.findings] == ["D6"]
