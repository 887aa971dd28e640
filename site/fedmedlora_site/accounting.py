"""What charges add up to: Renyi DP at integer orders by dp-accounting, and beside it a tighter figure.

All charges on one unit are composed, over rounds, restarts and studies. The figure that is charged and
compared with a budget is that of Renyi DP; the auditor recomputes it with another program
(`fedmedlora_audit.accountant`). The PLD figure is an upper bound as well, and is only shown.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache
from types import ModuleType
from typing import Any, Final

from fedmedlora_audit.accountant import milli_of
from fedmedlora_audit.event_data import MAX_INT
from fedmedlora_site.errors import SiteError
from fedmedlora_site.ledger import Charge

Steps = tuple[tuple[tuple[int, int], int], ...]
"""((noise_milli, sampling_micro), steps), each mechanism once, sorted."""
_PLD_INTERVAL: Final = 1e-3
"""Width of the grid of privacy losses; they are rounded up to it, so a wide grid is safe and quick."""


def epsilon_of(charges: Iterable[Charge], *, delta: str, orders: Sequence[int]) -> float:
    """Compose charges on one unit by Renyi DP (R4.13.6).

    Args:
        charges: All that count; the caller sees to it that they have one unit.
        delta: As a charter writes it.
        orders: Integer orders that are minimised over.

    Returns:
        epsilon >= 0, for adding or removing one unit.

    Raises:
        SiteError: dp-accounting is not installed.
    """
    return _rdp_epsilon(_steps_of(charges), delta, tuple(orders))


def spent_milli(charges: Iterable[Charge], *, delta: str, orders: Sequence[int]) -> int:
    """Return `epsilon_of` in thousandths, rounded up; the largest number of an event where it is infinite."""
    found = epsilon_of(charges, delta=delta, orders=orders)
    return min(MAX_INT, milli_of(found)) if math.isfinite(found) else MAX_INT


def tight_epsilon_of(charges: Iterable[Charge], *, delta: str) -> float:
    """Compose the same by privacy loss distributions: closer to the truth, and never charged."""
    from dp_accounting.pld import PLDAccountant

    accountant = PLDAccountant(value_discretization_interval=_PLD_INTERVAL)
    return _composed(accountant, _steps_of(charges), delta)


def need_library() -> ModuleType:
    """Import dp-accounting.

    Raises:
        SiteError: It is not installed.
    """
    try:
        import dp_accounting
    except ImportError:
        raise SiteError(
            "a study with differential privacy needs dp-accounting: install 'fedmedlora[dp]'"
        ) from None
    module: ModuleType = dp_accounting
    return module


def _steps_of(charges: Iterable[Charge]) -> Steps:
    """Add up the steps of equal mechanisms: composition knows no order."""
    totals: Counter[tuple[int, int]] = Counter()
    for charge in charges:
        totals[charge.mechanism] += charge.steps
    return tuple(sorted(totals.items()))


@lru_cache(maxsize=256)
def _rdp_epsilon(steps: Steps, delta: str, orders: tuple[int, ...]) -> float:
    need_library()
    from dp_accounting.rdp import RdpAccountant

    return _composed(RdpAccountant(orders=list(orders)), steps, delta)


def _composed(accountant: Any, steps: Steps, delta: str) -> float:
    library = need_library()
    if not steps:
        return 0.0
    for (noise_milli, sampling_micro), count in steps:
        step = library.GaussianDpEvent(noise_milli / 1000)
        accountant.compose(library.PoissonSampledDpEvent(sampling_micro / 1_000_000, step), count)
    return float(accountant.get_epsilon(float(delta)))
