"""The mechanism of a budget, as the benchmarks of privacy and of attacks use it."""

from __future__ import annotations

from fedmedlora_audit.accountant import Mechanism, calibrated_noise_milli, delta_of, epsilon_of, milli_of
from fedmedlora_core.privacy_terms import ORDERS, PrivacyTerms

__all__ = ["within_budget"]


def within_budget(terms: PrivacyTerms, epsilon: float, *, rounds: int) -> PrivacyTerms:
    """Give terms the noise whose cost over all rounds is within epsilon; they claim what that is.

    Args:
        terms: Unit, delta, clip, sampling and steps.
        epsilon: The budget.
        rounds: Rounds of the study.
    """
    steps, delta, rate = rounds * terms.steps, delta_of(terms.delta), terms.sampling_micro
    noise = calibrated_noise_milli(
        epsilon=epsilon, delta=delta, sampling_micro=rate, steps=steps, orders=ORDERS
    )
    spent = epsilon_of([Mechanism(noise, rate, steps)], delta=delta, orders=ORDERS)
    return terms.model_copy(update={"noise_milli": noise, "epsilon_milli": milli_of(spent)})
