"""The registry of attacks: each plays a lawful log up to a point and drafts one event that breaks a rule."""

from collections.abc import Callable
from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_testkit.audit_log import StudyLog

Attack = Callable[[StudyLog], bytes]
ZERO = "0" * 64
ATTACKS: dict[str, tuple[str, Attack]] = {}
"""Name -> (the check that must name it, how to make it)."""


def attack(check_id: str) -> Callable[[Attack], Attack]:
    """Register an attack under its function's name."""

    def register(make: Attack) -> Attack:
        assert make.__name__ not in ATTACKS
        ATTACKS[make.__name__] = (check_id, make)
        return make

    return register


def by_coordinator(log: StudyLog, type_: str, data: of.Data, **fields: Any) -> bytes:
    """Draft an event of the coordinator in the last round."""
    return log.draft("coordinator", type_, data, **{"round": log.number, **fields})


def by_site(log: StudyLog, name: str, type_: str, data: of.Data, role: str = "", **fields: Any) -> bytes:
    """Draft an event of a site in the last round, with a blob where the type has one."""
    blob = log.blob(name, role) if role else {"round": log.number}
    return log.draft(name, type_, data, **{**blob, **fields})
