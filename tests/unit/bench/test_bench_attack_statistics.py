"""The statistics behind `bench attacks`, each against cases whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_audit.accountant import Mechanism, epsilon_of
from fedmedlora_bench.attacks.epsilon_bound import best_bound, lower_bound, p_value
from fedmedlora_bench.attacks.figures import audit_row, membership_rows
from fedmedlora_bench.attacks.ranking import (
    auc,
    bootstrap,
    chance_exposure,
    exposure,
    mean_interval,
    recall_at_precision,
    true_positives_at,
)
from fedmedlora_core.privacy_terms import ORDERS

SCORES = st.lists(st.integers(-5, 5), min_size=1, max_size=30)


@settings(max_examples=40, deadline=None)
@given(SCORES, SCORES)
def test_auc_is_the_share_of_pairs_in_order(positives: list[int], negatives: list[int]) -> None:
    pairs = [(p > n) + 0.5 * (p == n) for p in positives for n in negatives]
    found = auc(np.array(positives, float), np.array(negatives, float))
    assert found == pytest.approx(sum(pairs) / len(pairs))


@settings(max_examples=40, deadline=None)
@given(SCORES, SCORES, st.sampled_from([0.0, 0.01, 0.1, 0.5]))
def test_no_threshold_within_the_false_positives_does_better(
    positives: list[int], negatives: list[int], rate: float
) -> None:
    found = true_positives_at(np.array(positives, float), np.array(negatives, float), rate)
    best = max(
        sum(p > threshold for p in positives) / len(positives)
        for threshold in range(-6, 7)
        if sum(n > threshold for n in negatives) <= rate * len(negatives)
    )
    assert found == pytest.approx(best)


def test_one_percent_of_few_negatives_is_none_of_them() -> None:
    members = np.array([1.0, 2.0, 3.0, 4.0])
    assert true_positives_at(members, np.array([2.5, 0.0]), 0.01) == 0.5


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**20), st.integers(2, 400))
def test_exposure_of_unseen_secrets_is_that_of_chance_in_the_mean(seed: int, count: int) -> None:
    losses = np.random.default_rng(seed).permutation(count + 1).astype(float)
    each = [exposure(loss, np.delete(losses, place)) for place, loss in enumerate(losses)]
    assert np.mean(each) == pytest.approx(chance_exposure(count))
    assert max(each) == pytest.approx(math.log2(count + 1)) and min(each) == pytest.approx(0)


def test_exposure_of_equal_losses_is_in_the_middle() -> None:
    assert exposure(1.0, np.ones(254)) == pytest.approx(math.log2(255 / 128))


def test_recall_takes_equal_scores_together() -> None:
    there = np.array([True, True, False, False])
    assert recall_at_precision(np.array([4.0, 3.0, 2.0, 1.0]), there, 0.9) == 1.0
    assert recall_at_precision(np.array([4.0, 2.0, 2.0, 1.0]), there, 0.9) == 0.5
    assert recall_at_precision(np.zeros(4), there, 0.9) == 0.0, "who names everything has found nothing"
    assert recall_at_precision(np.zeros(4), there, 0.5) == 1.0


def test_bootstrap_covers_a_known_auc_about_as_often_as_it_says() -> None:
    covered, truth = 0, 0.5 * math.erfc(-0.5)  # P[N(1, 1) > N(0, 1)] = Phi(1 / sqrt 2)
    for seed in range(40):
        draws = np.random.default_rng(seed)
        members, others = list(draws.normal(1, 1, (40, 1))), list(draws.normal(0, 1, (40, 1)))
        covered += bootstrap(auc, members, others, seed=seed, resamples=100).covers(truth)
    assert covered >= 33


def test_sentences_of_one_patient_are_no_independent_evidence() -> None:
    draws = np.random.default_rng(1)
    alone = [draws.normal(size=1) for _ in range(12)]
    others = [draws.normal(size=1) for _ in range(12)]
    narrow = bootstrap(
        auc, [u for u in alone for _ in range(20)], [u for u in others for _ in range(20)], seed=2
    )
    honest = bootstrap(auc, [np.repeat(u, 20) for u in alone], [np.repeat(u, 20) for u in others], seed=2)
    assert honest.value == pytest.approx(narrow.value)
    assert honest.high - honest.low > 2 * (narrow.high - narrow.low)


def test_interval_of_a_mean_is_students() -> None:
    found = mean_interval([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert found.value == 3.5
    assert found.high - 3.5 == pytest.approx(2.5706 * math.sqrt(3.5) / math.sqrt(6), rel=1e-3)
    with pytest.raises(ValueError, match="at least two"):
        mean_interval([1.0])


def test_p_value_without_delta_is_a_binomial_tail() -> None:
    tail = sum(math.comb(10, k) for k in range(8, 11)) / 2**10
    assert p_value(canaries=10, guesses=10, right=8, epsilon=0, delta=0) == pytest.approx(tail)
    q = math.exp(1) / (1 + math.exp(1))
    assert p_value(canaries=9, guesses=3, right=3, epsilon=1, delta=0) == pytest.approx(q**3)


def test_delta_adds_what_the_theorem_says() -> None:
    """2 m delta max_i P[v > Bin >= v - i] / i, by hand for r = v = 2 and epsilon = 0: max(1/2, 3/8)."""
    plain = p_value(canaries=50, guesses=2, right=2, epsilon=0, delta=0)
    assert plain == pytest.approx(0.25)
    assert p_value(canaries=50, guesses=2, right=2, epsilon=0, delta=1e-3) == pytest.approx(0.25 + 0.1 * 0.5)


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 300), st.data())
def test_bound_is_where_the_p_value_is_five_percent(guesses: int, data: st.DataObject) -> None:
    right = data.draw(st.integers(0, guesses))
    delta = data.draw(st.sampled_from([0.0, 1e-6, 1e-4]))
    found = lower_bound(canaries=300, guesses=guesses, right=right, delta=delta)
    if found > 0:
        below = p_value(canaries=300, guesses=guesses, right=right, epsilon=0.999 * found, delta=delta)
        above = p_value(canaries=300, guesses=guesses, right=right, epsilon=1.001 * found, delta=delta)
        assert below <= 0.05 + 1e-6 and above >= 0.05 - 1e-6
    else:
        assert p_value(canaries=300, guesses=guesses, right=right, epsilon=0, delta=delta) >= 0.05


def test_a_mechanism_without_noise_is_found_out() -> None:
    coins = np.random.default_rng(3).random(400) < 0.5
    found = best_bound(coins.astype(float), coins, delta=1e-5, guess_counts=[100, 200, 400])
    assert found.right == found.guesses
    assert found.epsilon > 3.5


def randomised_response(epsilon: float, seed: int, canaries: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Scores that are the coins themselves, each turned over with the probability that epsilon allows."""
    draws = np.random.default_rng(seed)
    coins = draws.random(canaries) < 0.5
    told = np.where(draws.random(canaries) < 1 / (1 + math.exp(epsilon)), ~coins, coins)
    return told + 1e-6 * draws.random(canaries), coins


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 2.0])
def test_the_bound_is_right_as_often_as_it_says_where_it_is_tight(epsilon: float) -> None:
    """Randomised response is the worst private mechanism: no bound may pass it, and none is idle."""
    found = [
        best_bound(*randomised_response(epsilon, seed), delta=0.0, guess_counts=[100, 200, 400]).epsilon
        for seed in range(100)
    ]
    assert np.mean(np.array(found) > epsilon) <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 100)
    assert np.median(found) > 0.5 * epsilon


def gaussian_scores(sigma: float, seed: int, canaries: int = 300) -> tuple[np.ndarray, np.ndarray]:
    """A Gaussian sum with a direction for each canary: scores are the noised coordinates."""
    draws = np.random.default_rng(seed)
    coins = draws.random(canaries) < 0.5
    return coins + draws.normal(0, sigma, canaries), coins


@pytest.mark.parametrize("sigma", [0.6, 1.0, 3.0])
def test_a_true_gaussian_stays_above_its_bound(sigma: float) -> None:
    claimed = epsilon_of([Mechanism(round(1000 * sigma), 1_000_000, 1)], delta=1e-5, orders=ORDERS)
    found = [
        best_bound(*gaussian_scores(sigma, seed), delta=1e-5, guess_counts=[75, 150, 300]).epsilon
        for seed in range(20)
    ]
    assert max(found) < claimed
    assert sigma > 1 or np.median(found) > 0.5, "with little noise the audit sees something"


def test_a_gaussian_that_claims_a_tenth_of_its_epsilon_is_caught() -> None:
    """The noise of a tenth of the standard deviation, claimed as if it were whole: the planted mistake."""
    claimed = epsilon_of([Mechanism(3000, 1_000_000, 1)], delta=1e-5, orders=ORDERS)
    scores, coins = gaussian_scores(0.3, 1)
    assert best_bound(scores, coins, delta=1e-5, guess_counts=[75, 150, 300]).epsilon > claimed


def losses(seed: int, gain: float, draw: int) -> dict[str, object]:
    """Losses of patients, lower by `gain` where the coin of the draw is in."""
    hard = np.random.default_rng(seed).normal(10, 5, 80)
    draws = np.random.default_rng([seed, draw])
    coins = draws.random(80) < 0.5
    patients = [
        {
            "site": "a",
            "patient": f"p{number}",
            "in": bool(coin),
            "losses": [float(level - gain * coin + draws.normal(0, 0.5)) for _ in range(3)],
        }
        for number, (level, coin) in enumerate(zip(hard, coins, strict=True))
    ]
    canaries = [{"canary": f"c{i}", "in": bool(i % 2), "advantage": float(i % 2) * gain} for i in range(60)]
    return {"patients": patients, "canaries": canaries}


def test_references_tell_a_hard_patient_from_one_that_was_not_there() -> None:
    targets = [losses(1, 1.0, draw) for draw in range(4)]
    rows = membership_rows(targets, losses(1, 0.0, 9), targets, sites=["a"], seed=1)
    by_attack = {row["attack"]: row for row in rows}
    assert by_attack["against other trainings"]["auc"]["value"] > 0.9
    assert by_attack["loss"]["auc"]["value"] < 0.75
    nothing = [losses(2, 0.0, draw) for draw in range(4)]
    assert all(row["at_chance"] for row in membership_rows(nothing, nothing[0], nothing, sites=["a"], seed=1))


def test_what_the_base_model_knows_of_a_canary_does_not_count() -> None:
    seen = losses(1, 2.0, 0)
    assert audit_row(seen, losses(1, 0.0, 9), delta=1e-5)["epsilon_at_least"] > 1
    assert audit_row(seen, seen, delta=1e-5)["epsilon_at_least"] == 0


@pytest.mark.parametrize("kept", [0.0, 1.0])
def test_a_canary_shows_whether_training_kept_or_wiped_out_what_the_base_model_knew(kept: float) -> None:
    # Taking all of it away would drown what a long training shows, and none of it what a noisy one does.
    known = np.random.default_rng(5).normal(0, 7, 60)
    before, after = losses(1, 0.0, 9), losses(1, 2.0, 0)
    for place, level in enumerate(known):
        before["canaries"][place]["advantage"] = float(level)  # type: ignore[index]
        after["canaries"][place]["advantage"] += kept * float(level)  # type: ignore[index]
    row = audit_row(after, before, delta=1e-5)
    assert row["auc"] > 0.95
    assert row["epsilon_at_least"] > 1
