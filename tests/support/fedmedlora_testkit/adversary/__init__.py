"""A malicious coordinator against real sites: every attack as data, with the checks that stop it."""

from fedmedlora_testkit.adversary import lists, opening, secrets
from fedmedlora_testkit.adversary.registry import LOG_ATTACKS, SECRET_ATTACKS, LogAttack, SecretAttack

__all__ = ["LOG_ATTACKS", "SECRET_ATTACKS", "LogAttack", "SecretAttack", "lists", "opening", "secrets"]
