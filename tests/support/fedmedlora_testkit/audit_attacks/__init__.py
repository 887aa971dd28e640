"""Attacks on the law, each named by the check that must find it."""

from fedmedlora_testkit.audit_attacks import (
    counts,
    envelope,
    lists,
    members,
    opening,
    privacy,
    retention,
    study,
    votes,
)
from fedmedlora_testkit.audit_attacks.registry import ATTACKS, ZERO

__all__ = [
    "ATTACKS",
    "ZERO",
    "counts",
    "envelope",
    "lists",
    "members",
    "opening",
    "privacy",
    "retention",
    "study",
    "votes",
]
