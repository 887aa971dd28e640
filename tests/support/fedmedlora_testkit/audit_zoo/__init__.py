"""The attack zoo: whole bundles that somebody falsified, each with the check that must name it (AUDIT)."""

from fedmedlora_testkit.audit_zoo import additions, keys, noise, rewrites, witnessed
from fedmedlora_testkit.audit_zoo.cage import AWAITED, ELSEWHERE, ZOO, Scene, Specimen
from fedmedlora_testkit.audit_zoo.switches import without

__all__ = [
    "AWAITED",
    "ELSEWHERE",
    "ZOO",
    "Scene",
    "Specimen",
    "additions",
    "keys",
    "noise",
    "rewrites",
    "without",
    "witnessed",
]
