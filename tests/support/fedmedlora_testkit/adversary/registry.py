"""The registry of attacks: what each does, what must become of it, and which checks stop it.

An attack is data. `play` drives it; `Attack.own` and `Attack.law` say which refusal is expected where; the
patches of `without` take exactly the checks out that stop it, and then `play` must reach its aim. A part that
brings rules of its own adds its attacks here by importing `attack` from its own module.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from fedmedlora_testkit.adversary.villain import Villain

Outcome = Literal["refused", "useless", "detected"]
Patch = tuple[Any, str, Any]
"""(object, attribute, replacement): one check taken out."""


@dataclass(frozen=True)
class LogAttack:
    """An attack on a real agent, in its log or its payloads.

    Args:
        id: Name of the attack.
        what: What the coordinator does, one sentence.
        rule: The decision or requirement that it breaks.
        law: Id of the law's check that refuses it in the log; None where no log shows it.
        own: (step, reason) of the site's own comparison behind the law; None where only the log can tell.
        play: Plays the attack up to its aim or to the agent's refusal.
        aim: Whether the attack got what it wanted.
        without: The site's own checks, for the run in which it must succeed.
    """

    id: str
    what: str
    rule: str
    law: str | None
    own: tuple[str, str] | None
    play: Callable[[Villain], Awaitable[None]]
    aim: Callable[[Villain], bool]
    without: tuple[Patch, ...] = ()

    outcome: Outcome = "refused"


@dataclass(frozen=True)
class SecretAttack:
    """An attack on the secrets of one session, at the parties themselves.

    Args:
        id: Name of the attack.
        what: What is done, and by whom.
        rule: The decision or requirement that it breaks.
        error: Class of the refusal; None where the attack goes through and gives nothing.
        play: Plays it and returns whether the victim's vector came out exactly.
        without: The checks that stop it, for the run in which it must succeed.
        by: Who has to take part.
    """

    id: str
    what: str
    rule: str
    error: type[Exception] | None
    play: Callable[[], bool]
    without: tuple[Patch, ...] = ()
    by: str = "coordinator"

    @property
    def outcome(self) -> Outcome:
        """Refused by name, or useless."""
        return "useless" if self.error is None else "refused"


LOG_ATTACKS: dict[str, LogAttack] = {}
SECRET_ATTACKS: dict[str, SecretAttack] = {}


def attack(entry: LogAttack | SecretAttack) -> None:
    """Register an attack under its name."""
    assert entry.id not in LOG_ATTACKS
    assert entry.id not in SECRET_ATTACKS
    if isinstance(entry, LogAttack):
        LOG_ATTACKS[entry.id] = entry
    else:
        SECRET_ATTACKS[entry.id] = entry
