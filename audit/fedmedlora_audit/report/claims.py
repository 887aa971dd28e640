"""What each check claims when it passes, and the area it belongs to, for people (AUDIT "Report")."""

from collections.abc import Mapping
from typing import Final

from fedmedlora_audit.checks import FILE_CHECKS, HEAD_CHECKS, LAW_CHECKS, WITNESS_CHECKS

_OTHERS: Final[Mapping[str, str]] = {
    "A3": "The published sums are the sums of the signed uploads, recomputed from evidence.",
    "C7": "An outside clock has stamped the heads that end a round.",
    "D6": "What the noise inside the sums cost a hospital was recomputed and lies within the charter.",
    "H1": "What was pruned was pruned by the rules, and nothing else is gone.",
}

AREAS: Final = (
    ("The files", ("B1", "T1", "C1", "C2", "C5", "H1")),
    ("One history, with witnesses", ("C3", "C4", "C6", "C7", "J1", "E8")),
    ("Who said what", ("E", "K", "P", "G32", "G45")),
    ("The order of rounds", ("R", "G13", "G36", "G37", "G38")),
    ("What was opened", ("U", "G14", "G33", "G34", "G35", "G44", "G48")),
    ("Sums, votes and models", ("A", "M", "G42", "G49")),
    ("Privacy budget", ("D",)),
)
"""Areas of the report and their checks, by id or by letter; an id goes before its letter."""
OTHER_AREA: Final = "Further checks"


def claim_of(check: str, otherwise: str) -> str:
    """Return what a check claims; `otherwise` for a check that this release's tables do not have."""
    if check in LAW_CHECKS:
        return LAW_CHECKS[check].sentence
    for table in (FILE_CHECKS, HEAD_CHECKS, WITNESS_CHECKS, _OTHERS):
        if check in table:
            return table[check]
    return otherwise


def area_of(check: str) -> str:
    """Return the area of the report that a check belongs to."""
    for name in (check, check[:1]):
        for area, checks in AREAS:
            if name in checks:
                return area
    return OTHER_AREA
