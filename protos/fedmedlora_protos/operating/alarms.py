"""The alarms that both parties know: one name each, the same in `status`, in Prometheus and in OPERATIONS.

A name here is the name of an alert in `deploy/prometheus/alerts.yml` and of a heading under "Alarms" in
docs/OPERATIONS.md, which says what to do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

Name = Literal[
    "ProcessDown",
    "NotReady",
    "SiteAway",
    "RoundStuck",
    "RoundAborted",
    "StepRefused",
    "LogAndHeadDisagree",
    "DiskNearlyFull",
    "CertificateEndsSoon",
    "StoreSlow",
    "ClockJumped",
    "LimitsHit",
    "CoordinatorAway",
    "TrainerFailed",
    "BudgetNearlySpent",
    "LedgerDamaged",
]

DISK_SHARE: Final = 0.10
CERTIFICATE_DAYS: Final = 30.0
AWAY_SECONDS: Final = 300.0
STUCK_SECONDS: Final = 1800.0  # in a step other than training
BUDGET_SHARE: Final = 0.90


@dataclass(frozen=True)
class Alarm:
    """Something that an operator should look at now.

    Attributes:
        name: Its heading in docs/OPERATIONS.md.
        sentence: What is so.
    """

    name: Name
    sentence: str


def vital_alarms(live: Mapping[str, Any]) -> list[Alarm]:
    """Return the alarms that both parties may have, from what a process said of itself."""
    found = []
    if live.get("problems"):
        found.append(Alarm("NotReady", f"not ready: {', '.join(live['problems'])}"))
    free, total = live.get("disk_free_bytes"), live.get("disk_total_bytes")
    if free is not None and total and free < DISK_SHARE * total:
        found.append(Alarm("DiskNearlyFull", f"{free / 2**30:.1f} of {total / 2**30:.1f} GiB are free"))
    for name, left in sorted((live.get("certificate_days") or {}).items()):
        if left < CERTIFICATE_DAYS:
            found.append(Alarm("CertificateEndsSoon", f"the certificate '{name}' ends in {left:.0f} days"))
    if live.get("clock_jumps"):
        found.append(Alarm("ClockJumped", f"the clock jumped {live['clock_jumps']} times since the start"))
    return found
