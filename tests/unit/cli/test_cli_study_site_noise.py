"""`study new --site-epsilon`: noise fitted to a budget, its price in words, charters over budget refused."""

from __future__ import annotations

import pytest

from fedmedlora_cli.study_site_noise import (
    SiteBudget,
    check_site_noise_budget,
    site_budget_of,
    site_noise_facts,
    site_noise_lines,
    with_site_noise,
)
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.site_noise import sensitivity_of
from fedmedlora_core.study import Study
from fedmedlora_testkit.studies import changed, make_study


def study(n: int = 10, dimension: int = 5000, **overrides: object) -> Study:
    budget = SiteBudget(8.0, "1e-5", clip=2.0)
    return make_study(
        [f"site-{place}" for place in range(n)],
        dimension=dimension,
        overrides={"secure_aggregation__wire_bits": 32, **budget.overrides, **overrides},
    )


@pytest.mark.parametrize(("n", "epsilon"), [(3, 8.0), (10, 1.0), (10, 32.0), (20, 8.0)])
def test_the_fitted_noise_spends_the_budget_and_no_more(n: int, epsilon: float) -> None:
    # R4.14.6
    fitted = with_site_noise(study(n), SiteBudget(epsilon, "1e-5"))
    facts = site_noise_facts(fitted)
    assert facts is not None
    assert epsilon * 1000 - 1 <= facts["epsilon_milli"] <= epsilon * 1000
    assert facts["round_epsilon_milli"] < facts["epsilon_milli"]
    assert facts["sensitivity_quanta"] == sensitivity_of(fitted)
    check_site_noise_budget(fitted)


def test_rounding_is_a_small_part_of_the_noise_where_the_ring_has_room() -> None:
    fitted = with_site_noise(study(), SiteBudget(8.0, "1e-5"))
    assert sensitivity_of(fitted) > 64 * 70, "the square root of 5000 is 70.7"


def test_a_ring_too_narrow_for_the_noise_is_refused() -> None:
    # R4.14.2
    narrow = study(dimension=42_000_000, secure_aggregation__wire_bits=16, aggregation__weight_max=64)
    with pytest.raises(ConfigError, match="a ring of 16 bits is too narrow"):
        with_site_noise(narrow, SiteBudget(1.0, "1e-5"))


@pytest.mark.parametrize(
    ("epsilon", "delta"), [(33.0, "1e-5"), (0.0, "1e-5"), (8.0, "0.00001"), (8.0, "1e-0"), (-1.0, "1e-5")]
)
def test_a_budget_that_makes_no_sense_is_refused_in_a_line(epsilon: float, delta: str) -> None:
    with pytest.raises(ConfigError, match=r"between 0\.001 and 32"):
        with_site_noise(study(), SiteBudget(epsilon, delta))


def test_options_go_together() -> None:
    assert site_budget_of(None, "1e-5", None) is None
    with pytest.raises(ConfigError, match="belongs to --site-epsilon"):
        site_budget_of(None, "1e-5", 2.0)
    with pytest.raises(ConfigError, match="numbers above 0"):
        site_budget_of(float("nan"), "1e-5", None)
    budget = site_budget_of(8.0, "1e-6", 2.0)
    assert budget is not None
    assert budget.overrides["secure_aggregation__clip_norm_micro"] == 2_000_000


def test_a_charter_over_its_own_budget_is_refused_with_both_figures() -> None:
    # R4.14.6
    fitted = with_site_noise(study(), SiteBudget(8.0, "1e-5"))
    longer = changed(fitted, "training", rounds=fitted.training.rounds + 1)
    with pytest.raises(
        ConfigError, match=r"rounds cost a site epsilon 8\.\d+ at delta 1e-5; .* allows 8\.000"
    ):
        check_site_noise_budget(longer)


def test_the_lines_name_price_contributors_and_length_of_noise() -> None:
    fitted = with_site_noise(study(), SiteBudget(8.0, "1e-5"))
    lines = "\n".join(site_noise_lines(fitted))
    assert "epsilon 8.000 at delta 1e-5" in lines or "epsilon 7.999 at delta 1e-5" in lines
    assert "sized for 4 honest sites" in lines
    assert "times as long as the longest update" in lines
    assert site_noise_lines(make_study()) == []
    check_site_noise_budget(make_study())
