"""Epsilon of a ledger: three accountants agree, and a wrong one is noticed."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from opacus.accountants import RDPAccountant

from fedmedlora_audit.accountant import Mechanism
from fedmedlora_audit.accountant import epsilon_of as verifier_epsilon
from fedmedlora_core.privacy_terms import ORDERS
from fedmedlora_site import accounting
from fedmedlora_site.accounting import epsilon_of, spent_milli, tight_epsilon_of
from fedmedlora_site.ledger import Charge
from fedmedlora_testkit.spending import by_hand, charge

TEN = [charge(number) for number in range(1, 11)]
LEDGERS = [TEN[:1], TEN, [charge(1, sampling_micro=1_000_000, noise_milli=20_000)]]
MIXED = [*TEN, *(charge(n, study="other", noise_milli=800, sampling_micro=5000, steps=70) for n in (1, 2))]


@pytest.mark.parametrize("charges", [*LEDGERS, MIXED])
def test_dp_accounting_by_hand_and_the_verifier_say_the_same(charges: Sequence[Charge]) -> None:
    # R4.13.6
    found = epsilon_of(charges, delta="1e-5", orders=ORDERS)
    assert found == pytest.approx(by_hand(charges, delta=1e-5), rel=1e-9)
    mechanisms = [Mechanism(c.noise_milli, c.sampling_micro, c.steps) for c in charges]
    assert found == pytest.approx(verifier_epsilon(mechanisms, delta=1e-5, orders=ORDERS), rel=1e-6)


@pytest.mark.parametrize("charges", [*LEDGERS, MIXED])
def test_opacus_agrees_within_one_percent(charges: Sequence[Charge]) -> None:
    opacus = RDPAccountant()
    opacus.history = [(c.noise_milli / 1000, c.sampling_micro / 1e6, c.steps) for c in charges]
    theirs = opacus.get_epsilon(delta=1e-5, alphas=[float(order) for order in ORDERS])
    assert epsilon_of(charges, delta="1e-5", orders=ORDERS) == pytest.approx(theirs, rel=0.01)


def only_the_last(charges: Any) -> Any:
    """No composition over rounds: what the newest training costs."""
    return real([*charges][-1:])


def one_step(charges: Any) -> Any:
    """The single-step formula: every training counts as one step."""
    return tuple((mechanism, 1) for mechanism, _ in real(charges))


def one_mechanism(charges: Any) -> Any:
    """Studies are not added up: the first mechanism stands for all."""
    return real(charges)[:1]


real = accounting._steps_of


@pytest.mark.parametrize(
    ("wrong", "charges"), [(only_the_last, TEN), (one_step, TEN), (one_mechanism, MIXED)]
)
def test_a_wrong_composition_is_noticed(
    wrong: Callable[..., Any], charges: Sequence[Charge], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first test fails with each of them planted."""
    monkeypatch.setattr(accounting, "_steps_of", wrong)
    with pytest.raises(AssertionError):
        test_dp_accounting_by_hand_and_the_verifier_say_the_same(charges)


def test_nothing_spent_costs_nothing() -> None:
    assert epsilon_of([], delta="1e-5", orders=ORDERS) == 0.0
    assert tight_epsilon_of([], delta="1e-5") == 0.0


def test_the_tight_figure_lies_below_the_charged_one() -> None:
    charged = epsilon_of(TEN, delta="1e-5", orders=ORDERS)
    assert 0.5 * charged < tight_epsilon_of(TEN, delta="1e-5") < charged


def test_thousandths_are_rounded_up_and_infinity_is_a_number() -> None:
    found = epsilon_of(TEN, delta="1e-5", orders=ORDERS)
    assert spent_milli(TEN, delta="1e-5", orders=ORDERS) == math.ceil(found * 1000)
    without_noise = [charge(1, noise_milli=1, sampling_micro=1_000_000, steps=1_000_000)]
    assert spent_milli(without_noise, delta="1e-5", orders=ORDERS) > 10**9
