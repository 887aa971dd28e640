"""Charges and studies with differential privacy for tests, and the figure computed by hand."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import dp_accounting
from dp_accounting.rdp import RdpAccountant

from fedmedlora_audit.accountant import calibrated_noise_milli
from fedmedlora_core.privacy_terms import ORDERS
from fedmedlora_site.ledger import Charge, Ledger

NO_SIZES = {"size_exponent_milli": 0, "tau_milli": 0}
"""Section `aggregation` of a study with differential privacy."""


def privacy_table(
    *, rounds: int, epsilon: float = 4.0, unit: str = "patient", delta: str = "1e-5", **changes: Any
) -> dict[str, Any]:
    """A table `privacy` whose noise is just enough for so many rounds."""
    table: dict[str, Any] = {
        "unit": unit,
        "delta": delta,
        "epsilon_milli": round(epsilon * 1000),
        "clip_micro": 1_000_000,
        "sampling_micro": 50_000,
        "steps": 20,
        "batch_units": 8,
        **changes,
    }
    noise = calibrated_noise_milli(
        epsilon=epsilon,
        delta=float(delta),
        sampling_micro=table["sampling_micro"],
        steps=rounds * table["steps"],
        orders=ORDERS,
    )
    return {"noise_milli": noise, **table}


def charge(number: int, **changes: Any) -> Charge:
    """The charge of a round of some study."""
    fields: dict[str, Any] = {
        "study": "trial",
        "charter": "c" * 64,
        "site": "site-a",
        "round": number,
        "job": f"{number:064x}",
        "unit": "patient",
        "delta": "1e-5",
        "noise_milli": 1100,
        "sampling_micro": 20_000,
        "steps": 25,
        "time": "2026-11-30T12:00:00Z",
    }
    return Charge(**{**fields, **changes})


def by_hand(rows: Iterable[Any], *, delta: float, orders: Iterable[int] = ORDERS) -> float:
    """Epsilon by dp-accounting, one event after the other, of anything with a charge's numbers."""
    accountant = RdpAccountant(orders=list(orders))
    for row in rows:
        step = dp_accounting.GaussianDpEvent(row.noise_milli / 1000)
        sampled = dp_accounting.PoissonSampledDpEvent(row.sampling_micro / 1e6, step)
        accountant.compose(dp_accounting.SelfComposedDpEvent(sampled, row.steps))
    return float(accountant.get_epsilon(delta))


def overrides(*, rounds: int, **changes: Any) -> dict[str, Any]:
    """Overrides of a profile for a study with differential privacy whose budget is just enough."""
    table = {f"privacy__{name}": value for name, value in privacy_table(rounds=rounds, **changes).items()}
    return {**table, **{f"aggregation__{name}": value for name, value in NO_SIZES.items()}}


def write_with_another(root: str, first: int, both: Any) -> None:
    """Write twenty charges while another process does: both begin each at once (a barrier of two)."""
    ledger = Ledger(Path(root) / "ledger.jsonl", Path(root) / f"{first}.head")
    for number in range(first, first + 20):
        both.wait(60)
        with ledger.writing() as writer:
            writer.add(charge(number))
