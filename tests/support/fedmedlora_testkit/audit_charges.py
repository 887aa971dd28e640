"""Charges of a private study in a played log: the charter's table, and the event that a site signs."""

from __future__ import annotations

from typing import Any, Final

from fedmedlora_audit.accountant import milli_of
from fedmedlora_audit.event_data import DpSpent
from fedmedlora_audit.law import State
from fedmedlora_audit.law.privacy_rules import mechanism_of
from fedmedlora_audit.privacy_plan import Spending

PRIVACY: Final[dict[str, Any]] = {
    "unit": "patient",
    "delta": "1e-5",
    "epsilon_milli": 3000,
    "noise_milli": 1000,
    "clip_micro": 1_000_000,
    "sampling_micro": 20_000,
    "steps": 50,
    "batch_units": 16,
    "orders": [*range(2, 65), 128, 256],
}
"""A charter's table `privacy`; three charges cost about 1.5."""


def charge_of(state: State, site: str, **changes: Any) -> DpSpent:
    """What a site says when it trains; the figure fits the numbers unless it is among the changes."""
    plan = state.terms.privacy
    assert plan is not None
    fields = {
        "delta": plan.delta,
        "epsilon_milli": 0,
        "mechanism": "dp-sgd",
        "noise_milli": plan.charge.noise_milli,
        "sampling_micro": plan.charge.sampling_micro,
        "steps": plan.charge.steps,
        **changes,
    }
    said = DpSpent(**fields)
    if "epsilon_milli" in changes:
        return said
    charges = state.spent.get(site, Spending()).with_one(mechanism_of(said))
    return said.model_copy(update={"epsilon_milli": milli_of(plan.epsilon(charges))})
