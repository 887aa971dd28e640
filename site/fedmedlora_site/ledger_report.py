"""What `site ledger` shows: the budget, what is spent, what is left, and what the next round would cost.

Read only: it may run beside an agent that works on the folder, or on another one that shares the ledger.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fedmedlora_core.policy import SitePolicy
from fedmedlora_core.privacy_terms import ORDERS
from fedmedlora_core.study import Study
from fedmedlora_site.acceptance import load_accepted
from fedmedlora_site.accounting import spent_milli, tight_epsilon_of
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.ledger import Charge
from fedmedlora_site.spending import Account, accounts_of, ledger_of, planned_charges


def report(root: Path, *, tight: bool = True) -> dict[str, Any]:
    """Compute what the ledger of a site folder amounts to; no number in it says anything of notes or sizes.

    Args:
        root: The site's folder.
        tight: Also compute the PLD figures, which take seconds.

    Raises:
        FolderError: The folder is not a site's, or the ledger was changed.
        SiteError: dp-accounting is not installed.
    """
    folder = SiteFolder.open(root)
    config = SiteConfig.load(folder.config)
    policy = SitePolicy.load(folder.policy).privacy
    ledger = ledger_of(folder, config)
    charges = ledger.charges()
    accepted = load_accepted(folder)[0] if folder.charter.is_file() else None
    private = accepted if accepted is not None and accepted.privacy is not None else None
    own, *of_study = accounts_of(private, policy)
    return {
        "ledger": str(ledger.path),
        "charges": len(charges),
        "budget": _standing(own, charges, tight=tight),
        "studies": [
            *(_study_line(row, tight=tight) for row in _by_study(charges)),
        ],
        "next": None
        if private is None
        else _next(private, config.site.id, charges, own=own, of_study=of_study[0]),
    }


def _standing(account: Account, charges: Sequence[Charge], *, tight: bool) -> dict[str, Any]:
    """What stands against a limit; no figure where charges by another unit are among them."""
    counted = account.counted(charges)
    mixed = any(charge.unit != account.unit for charge in counted)
    spent = None if mixed else account.spent_milli(charges)
    limit = account.limit_milli
    return {
        "unit": account.unit,
        "delta": account.delta,
        "epsilon_milli": limit,
        "spent_milli": spent,
        "left_milli": None if limit is None or spent is None else max(0, limit - spent),
        "spent_tight": None if mixed or not tight else _tight(counted, account.delta),
        "mixed_units": mixed,
    }


def _by_study(charges: Sequence[Charge]) -> list[list[Charge]]:
    """The charges of each study and site, in the order of their first."""
    found: dict[tuple[str, str], list[Charge]] = {}
    for charge in charges:
        found.setdefault((charge.charter, charge.site), []).append(charge)
    return list(found.values())


def _study_line(charges: Sequence[Charge], *, tight: bool) -> dict[str, Any]:
    """One study: its charges alone, at its own delta; its charter's orders are not in the ledger."""
    first, delta = charges[0], charges[0].delta
    return {
        "study": first.study,
        "charter": first.charter,
        "site": first.site,
        "unit": first.unit,
        "delta": delta,
        "charges": len(charges),
        "rounds": len({charge.round for charge in charges}),
        "first": first.time,
        "last": charges[-1].time,
        "spent_milli": spent_milli(charges, delta=delta, orders=ORDERS),
        "spent_tight": _tight(charges, delta) if tight else None,
    }


def _next(
    study: Study, site: str, charges: Sequence[Charge], *, own: Account, of_study: Account
) -> dict[str, Any]:
    """What the next round of the accepted study costs, in both accounts, and whether it fits."""
    planned = planned_charges(study, charges, site)
    found: dict[str, Any] = {
        "study": study.study.id,
        "charter": study.digest,
        "rounds_left": len(planned),
        "budget_milli": of_study.limit_milli,
        "spent_milli": of_study.spent_milli(charges),
        "delta": of_study.delta,
    }
    if not planned:
        return {**found, "costs_milli": None, "costs_of_budget_milli": None, "refused": None}
    new = planned[:1]
    sentences = [a.objection(charges, new, f"round {new[0].round}") for a in (own, of_study)]
    return {
        **found,
        "costs_milli": _cost(of_study, charges, new),
        "costs_of_budget_milli": _cost(own, charges, new),
        "refused": next((sentence for sentence in sentences if sentence is not None), None),
    }


def _cost(account: Account, charges: Sequence[Charge], new: Sequence[Charge]) -> int | None:
    """What new charges add; None where units are mixed."""
    if any(charge.unit != account.unit for charge in account.counted([*charges, *new])):
        return None
    return account.spent_milli([*charges, *new]) - account.spent_milli(charges)


def _tight(charges: Sequence[Charge], delta: str) -> float:
    return round(tight_epsilon_of(charges, delta=delta), 3)
