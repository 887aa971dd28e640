"""The privacy budget as `status` and the metrics show it: four figures and the state of the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fedmedlora_core.policy import PrivacyPolicy
from fedmedlora_core.study import Study
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.errors import FolderError, SiteError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.ledger import Charge
from fedmedlora_site.spending import Account, accounts_of, ledger_of


@dataclass(frozen=True)
class Budget:
    """What is spent of what.

    Attributes:
        ledger: "none", "whole", "damaged", or "unread" where dp-accounting is not installed.
        spent_milli: Thousandths of epsilon against the hospital's budget; None if there is no figure.
        limit_milli: The hospital's budget; None without one.
        study_spent_milli: The same against the study's budget.
        study_limit_milli: The study's budget; None in a study without differential privacy.
    """

    ledger: str = "none"
    spent_milli: int | None = None
    limit_milli: int | None = None
    study_spent_milli: int | None = None
    study_limit_milli: int | None = None

    def facts(self) -> dict[str, Any]:
        """Return the figures by the names that scripts read."""
        return {
            "ledger": self.ledger,
            "budget_spent_milli": self.spent_milli,
            "budget_limit_milli": self.limit_milli,
            "study_budget_spent_milli": self.study_spent_milli,
            "study_budget_limit_milli": self.study_limit_milli,
        }


def ledger_stamp(folder: SiteFolder, config: SiteConfig) -> tuple[int, int] | None:
    """Return what changes when the ledger is written to; None while there is none."""
    try:
        found = ledger_of(folder, config).path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def budget_of(folder: SiteFolder, config: SiteConfig, policy: PrivacyPolicy, study: Study | None) -> Budget:
    """Read the ledger and compute what it amounts to; one that cannot be read is a state, no error."""
    own, *of_study = accounts_of(study, policy)
    limits = {
        "limit_milli": own.limit_milli,
        "study_limit_milli": of_study[0].limit_milli if of_study else None,
    }
    if ledger_stamp(folder, config) is None and not folder.ledger_head.is_file():
        return Budget("none", **limits)
    try:
        charges = ledger_of(folder, config).charges()
        return Budget(
            "whole",
            spent_milli=_spent(own, charges),
            study_spent_milli=_spent(of_study[0], charges) if of_study else None,
            **limits,
        )
    except FolderError:
        return Budget("damaged", **limits)
    except SiteError:
        return Budget("unread", **limits)


def _spent(account: Account, charges: tuple[Charge, ...]) -> int | None:
    """What stands against an account; None where charges by another unit are among them."""
    counted = account.counted(charges)
    return None if any(charge.unit != account.unit for charge in counted) else account.spent_milli(charges)
