"""The attack zoo: whole bundles that somebody falsified, each with the check that must name it (AUDIT)."""

from fedmedlora_testkit.audit_zoo import (
    additions,
    counted,
    keys,
    members,
    noise,
    private,
    rewrites,
    witnessed,
)
from fedmedlora_testkit.audit_zoo.cage import ELSEWHERE, ZOO, Scene, Specimen
from fedmedlora_testkit.audit_zoo.switches import without

__all__ = [
    "ELSEWHERE",
    "ZOO",
    "Scene",
    "Specimen",
    "additions",
    "counted",
    "keys",
    "members",
    "noise",
    "private",
    "rewrites",
    "without",
    "witnessed",
]
