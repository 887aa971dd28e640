"""The verifier's accountant against dp-accounting and closed forms, and wrong ones told apart."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import pytest
from dp_accounting import dp_event, rdp
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_audit import privacy_plan
from fedmedlora_audit.accountant import Mechanism, calibrated_noise_milli, delta_of, epsilon_of, milli_of
from fedmedlora_audit.event_data import DpSpent
from fedmedlora_testkit.audit_charges import PRIVACY
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog
from fedmedlora_testkit.audit_zoo.private import LyingLog, honest, private_log

ORDERS: Sequence[int] = PRIVACY["orders"]
ROUND = Mechanism(1000, 20_000, 50)
Accountant = Callable[[Sequence[Mechanism], float, Sequence[int]], float]


def own(mechanisms: Sequence[Mechanism], delta: float, orders: Sequence[int]) -> float:
    return epsilon_of(mechanisms, delta=delta, orders=orders)


def peer(mechanisms: Sequence[Mechanism], delta: float, orders: Sequence[int]) -> float:
    """What dp-accounting says of the same events."""
    return _peer(frozenset(Counter(mechanisms).items()), delta, tuple(orders))


@cache
def _peer(mechanisms: frozenset[tuple[Mechanism, int]], delta: float, orders: tuple[int, ...]) -> float:
    accountant = rdp.RdpAccountant(list(orders))
    for mechanism, count in mechanisms:
        gaussian = dp_event.GaussianDpEvent(mechanism.noise_milli / 1000)
        sampled = dp_event.PoissonSampledDpEvent(mechanism.sampling_micro / 1_000_000, gaussian)
        accountant.compose(sampled, mechanism.steps * count)
    return float(accountant.get_epsilon(delta))


def assert_agreement(
    account: Accountant, mechanisms: Sequence[Mechanism], delta: float, orders: Sequence[int]
) -> None:
    """An accountant says what dp-accounting says, within what the verifier tolerates."""
    expected = peer(mechanisms, delta, orders)
    assert abs(account(mechanisms, delta, orders) - expected) <= privacy_plan.TOLERANCE * max(1.0, expected)


def powers(low: float, high: float) -> st.SearchStrategy[int]:
    """Whole numbers of every magnitude between two powers of ten."""
    return st.floats(low, high).map(lambda exponent: round(10**exponent))


MECHANISMS = st.builds(Mechanism, powers(0, 6), powers(0, 6), powers(0, 6))
DELTAS = st.builds(lambda digit, exponent: f"{digit}e-{exponent}", st.integers(1, 9), st.integers(1, 20))
ORDER_LISTS = st.sets(st.integers(2, 300), min_size=1, max_size=12).map(sorted)


@settings(max_examples=100, deadline=None)
@given(mechanisms=st.lists(MECHANISMS, min_size=1, max_size=4), delta=DELTAS, orders=ORDER_LISTS)
def test_it_agrees_with_dp_accounting_on_any_mechanisms(
    mechanisms: list[Mechanism], delta: str, orders: list[int]
) -> None:
    assert_agreement(own, mechanisms, delta_of(delta), orders)


@settings(max_examples=25, deadline=None)
@given(noise=st.integers(400, 3000), rate=powers(3, 5), steps=st.integers(1, 300), rounds=st.integers(1, 100))
def test_it_agrees_where_studies_are(noise: int, rate: int, steps: int, rounds: int) -> None:
    assert_agreement(own, [Mechanism(noise, rate, steps)] * rounds, 1e-5, ORDERS)


# -- closed forms


@pytest.mark.parametrize(("noise", "steps"), [(500, 1), (1000, 10), (4000, 1000)])
@pytest.mark.parametrize("delta", [1e-3, 1e-5, 1e-9])
def test_without_sampling_it_is_the_gaussian_mechanism(noise: int, steps: int, delta: float) -> None:
    """Renyi divergence a / (2 sigma^2) a step, converted by hand."""
    rho = steps * 1e6 / (2 * noise**2)
    by_hand = min(
        a * rho + (math.log((a - 1) / a) - (math.log(delta) + math.log(a)) / (a - 1)) for a in ORDERS
    )
    found = epsilon_of([Mechanism(noise, 1_000_000, steps)], delta=delta, orders=ORDERS)
    assert found == pytest.approx(max(0.0, by_hand), rel=1e-12)


@pytest.mark.parametrize(("noise", "rate"), [(500, 100_000), (1000, 20_000), (3000, 1)])
def test_at_order_two_sampling_has_a_closed_form(noise: int, rate: int) -> None:
    """log(1 + q^2 (exp(1 / sigma^2) - 1)) a step."""
    q, sigma, steps, delta = rate / 1e6, noise / 1000, 1000, 1e-5
    divergence = steps * math.log1p(q * q * math.expm1(1 / sigma**2))
    by_hand = divergence + math.log(1 / 2) - math.log(2 * delta)
    found = epsilon_of([Mechanism(noise, rate, steps)], delta=delta, orders=[2])
    assert found == pytest.approx(by_hand, rel=1e-9)


def test_nothing_costs_nothing_and_more_costs_more() -> None:
    def cost(*mechanisms: Mechanism) -> float:
        return own(mechanisms, 1e-5, ORDERS)

    assert cost() == 0.0
    assert cost(ROUND) < cost(ROUND, ROUND) < cost(ROUND, ROUND, ROUND)
    assert cost(ROUND, ROUND) == pytest.approx(cost(Mechanism(1000, 20_000, 100)), rel=1e-12)
    assert cost(Mechanism(1001, 20_000, 50)) < cost(ROUND) < cost(Mechanism(1000, 20_001, 50))
    assert own([ROUND], 1e-4, ORDERS) < own([ROUND], 1e-5, ORDERS)


def test_a_figure_is_rounded_up_and_a_billionth_is_forgiven() -> None:
    assert [milli_of(e) for e in (0.0, 1e-10, 1e-5, 1.5, 1.5 + 1e-10, 1.500001)] == [
        0,
        0,
        1,
        1500,
        1500,
        1501,
    ]


def test_calibrated_noise_is_the_least_that_is_enough() -> None:
    found = calibrated_noise_milli(epsilon=4, delta=1e-5, sampling_micro=20_000, steps=500, orders=ORDERS)
    at = [own([Mechanism(noise, 20_000, 500)], 1e-5, ORDERS) for noise in (found - 1, found)]
    assert at[1] <= 4 < at[0]
    with pytest.raises(ValueError, match="no noise is enough for epsilon 0"):
        calibrated_noise_milli(epsilon=0, delta=1e-5, sampling_micro=20_000, steps=500, orders=[2])


# -- wrong accountants


def single_step_sigma(mechanisms: Sequence[Mechanism], delta: float, _orders: Sequence[int]) -> float:
    """The textbook formula for one release, read as if it were for all steps."""
    return math.sqrt(2 * math.log(1.25 / delta)) / (mechanisms[-1].noise_milli / 1000)


def no_composition_of_rounds(mechanisms: Sequence[Mechanism], delta: float, orders: Sequence[int]) -> float:
    """Each round by itself."""
    return own([Mechanism(ROUND.noise_milli, ROUND.sampling_micro, ROUND.steps)], delta, orders)


def no_composition_of_steps(mechanisms: Sequence[Mechanism], delta: float, orders: Sequence[int]) -> float:
    """Each step by itself."""
    last = mechanisms[-1]
    return own([Mechanism(last.noise_milli, last.sampling_micro, 1)], delta, orders)


def unsampled_rate(mechanisms: Sequence[Mechanism], delta: float, orders: Sequence[int]) -> float:
    """As if every unit were in every step."""
    whole = [Mechanism(m.noise_milli, 1_000_000, m.steps) for m in mechanisms]
    return own(whole, delta, orders)


def scaled_by_the_rate(mechanisms: Sequence[Mechanism], delta: float, orders: Sequence[int]) -> float:
    """Amplification as a factor q on epsilon, which holds for no epsilon of this size."""
    return unsampled_rate(mechanisms, delta, orders) * mechanisms[-1].sampling_micro / 1_000_000


WRONG = [
    single_step_sigma,
    no_composition_of_rounds,
    no_composition_of_steps,
    unsampled_rate,
    scaled_by_the_rate,
]


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_wrong_accountant_does_not_agree(wrong: Accountant) -> None:
    assert_agreement(own, [ROUND, ROUND], 1e-5, ORDERS)
    with pytest.raises(AssertionError):
        assert_agreement(wrong, [ROUND, ROUND], 1e-5, ORDERS)


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_site_that_charges_by_a_wrong_accountant_is_named(wrong: Accountant, tmp_path: Path) -> None:
    log = LyingLog(lambda log, site: {"epsilon_milli": milli_of(wrong([ROUND] * log.number, 1e-5, ORDERS))})
    verdict = log.play_round().play_round().sealed(tmp_path).judge()
    assert {finding.check for finding in verdict.findings} == {"D1"}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda wrong: wrong.__name__)
def test_a_verifier_with_a_wrong_accountant_refuses_an_honest_log(
    wrong: Accountant, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Forger(private_log().finish())
    assert made.judge(tmp_path / "bundle").verdict == "pass"
    privacy_plan._epsilon.cache_clear()
    monkeypatch.setattr(
        privacy_plan, "epsilon_of", lambda charged, delta, orders: wrong(list(charged), delta, orders)
    )
    try:
        assert made.judge(tmp_path / "bundle").checks["D1"].result == "fail"
    finally:
        privacy_plan._epsilon.cache_clear()


# -- a study


def test_figures_in_a_log_are_those_of_dp_accounting_run_by_hand_on_its_events() -> None:
    # R4.13.7
    log = LyingLog(honest, epsilon_milli=9000)
    log.play_round().to_step("survivors")
    log.abort()
    log.play_round()
    said = [
        entry.event.data
        for entry in log.entries
        if isinstance(entry.event.data, DpSpent) and entry.event.actor.id == "site-a"
    ]
    assert len(said) == 3
    for count, last in enumerate(said, 1):
        events = [Mechanism(d.noise_milli, d.sampling_micro, d.steps) for d in said[:count]]
        assert last.epsilon_milli == milli_of(peer(events, float(last.delta), ORDERS))


def test_a_site_that_charges_by_dp_accounting_passes_ten_rounds(tmp_path: Path) -> None:
    def charged(log: StudyLog, site: str) -> dict[str, int]:
        return {"epsilon_milli": milli_of(peer([ROUND] * log.number, 1e-5, ORDERS))}

    log = LyingLog(charged, rounds=10, epsilon_milli=9000)
    for _ in range(10):
        log.play_round()
    verdict = log.sealed(tmp_path).judge()
    assert (verdict.verdict, verdict.checks["D1"].count) == ("pass", 40)
