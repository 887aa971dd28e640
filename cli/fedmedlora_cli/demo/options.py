"""What the demo can be asked to do, parsed once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from fedmedlora_core.errors import ConfigError
from fedmedlora_core.strategies import overrides_of

STEPS = ("train", "advertise", "share", "upload", "survivors", "unmask", "aggregate", "vote")
DEFAULT_FAULT_ROUND = 2
VOTE_EVERY = 5
"""Rounds from one vote to the next: a vote takes about a fifth of a round's training, for two losses."""


@dataclass(frozen=True)
class Fault:
    """One planned failure.

    Args:
        party: A site's id, or "coordinator".
        step: One of `STEPS`.
        round: Round number from 1.
    """

    party: str
    step: str
    round: int


@dataclass(frozen=True)
class DemoOptions:
    """Arguments of `fedmedlora demo`.

    Args:
        out: Folder that the demo makes; must not exist or be empty, unless it is an earlier demo's.
        sites: Number of hospitals, 3 to 10.
        rounds: Rounds of the study, or None for the profile's.
        secure: "masks"; "ckks" for homomorphic encryption; "none" for the same encoding without either.
        ckks_custody: Under CKKS: "holder" gives the first hospital the only key, "shared" all of them.
        drops: Sites to kill, with step and round.
        coordinator_kill: Step at which the coordinator is killed twice, before and after its durable write.
        full: Also train the centralised baseline and score each site's own tests.
        seed: Seed of the clinic, the adapter and the training.
        baselines: Train the single-site baselines and score all systems.
        rehearsal: Run the protocol without a model (tests of faults); nothing is learnt or scored.
        vote_every: Rounds from one vote on the aggregate to the next, at most all; 0 for no vote; None for
            every fifth under masks and none under CKKS, "sa" or differential privacy, which have no vote.
        keep_evidence: Have the coordinator keep masked uploads, so that a test can look at them.
        strategies: Names of aggregation strategies (`fedmedlora_core.strategies`), instead of the profile's.
        dp_epsilon: Differential privacy by patient: what all rounds together may cost; None for none.
        validate_every: Rounds from one sum of validation counts to the next; 0 for none.
    """

    out: Path
    sites: int = 4
    rounds: int | None = None
    secure: Literal["masks", "ckks", "none"] = "masks"
    ckks_custody: Literal["holder", "shared"] = "holder"
    drops: tuple[Fault, ...] = ()
    coordinator_kill: Fault | None = None
    full: bool = False
    seed: int = 7
    baselines: bool = True
    rehearsal: bool = False
    keep_evidence: bool = False
    vote_every: int | None = None
    strategies: tuple[str, ...] = ()
    dp_epsilon: float | None = None
    validate_every: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be run."""
        if not 3 <= self.sites <= 10:
            raise ConfigError("--sites must lie in 3..10: a sum of fewer than three sites protects nobody")
        if self.rounds is not None and not 1 <= self.rounds <= 100:
            raise ConfigError("--rounds must lie in 1..100")
        if self.vote_every is not None and self.vote_every < 0:
            raise ConfigError("--vote-every is a number of rounds, or 0 for no votes")
        if self.vote_every and self.secure == "ckks":
            raise ConfigError("--vote-every: there is no vote under CKKS, only under masks")
        if self.vote_every and self.leaves_a_part:
            raise ConfigError(
                "--vote-every: there is no vote under 'sa', where no two sites share an adapter"
            )
        if self.vote_every and self.dp_epsilon is not None:
            raise ConfigError("--vote-every: a vote's losses would be released beside the noise")
        if self.validate_every < 0:
            raise ConfigError("--validate-every is a number of rounds, or 0 for no counts")
        overrides_of(self.strategies)
        for fault in self.drops:
            if fault.party not in self.site_ids:
                raise ConfigError(
                    f"--drop: there is no site '{fault.party}', the sites are {', '.join(self.site_ids)}"
                )

    @property
    def leaves_a_part(self) -> bool:
        """Whether a part of the adapter stays at each hospital."""
        return "sa" in self.strategies

    @property
    def grace_seconds(self) -> float:
        """How long the coordinator waits for a site that is away: briefly only if one is to be killed.

        A restarted coordinator must leave the others time to come back, or they count as dropped out.
        """
        return 6.0 if self.drops else 60.0

    @property
    def rounds_between_votes(self) -> int:
        """Rounds from one vote to the next, at most all of them; 0 for no vote."""
        chosen = self.vote_every
        if chosen is None:
            silent = self.secure == "ckks" or self.leaves_a_part or self.dp_epsilon is not None
            chosen = 0 if silent else VOTE_EVERY
        return chosen if self.rounds is None else min(chosen, self.rounds)

    @property
    def site_ids(self) -> tuple[str, ...]:
        """Ids of the hospitals, site-a onward."""
        return tuple(f"site-{chr(ord('a') + k)}" for k in range(self.sites))


def parse_drop(text: str) -> Fault:
    """Parse `SITE@STEP[:ROUND]`.

    Raises:
        ConfigError: The text has another form or names no step.
    """
    party, at, rest = text.partition("@")
    if not at or not party:
        raise ConfigError(f"--drop '{text}': expected SITE@STEP[:ROUND], for example site-b@upload:2")
    return _fault(party, rest, "--drop")


def parse_coordinator_kill(text: str) -> Fault:
    """Parse `STEP[:ROUND]`.

    Raises:
        ConfigError: The text has another form or names no step.
    """
    return _fault("coordinator", text, "--kill-coordinator")


def _fault(party: str, text: str, option: str) -> Fault:
    step, _, number = text.partition(":")
    if step not in STEPS:
        raise ConfigError(f"{option}: '{step}' is not a step; the steps are {', '.join(STEPS)}")
    if not number:
        return Fault(party, step, DEFAULT_FAULT_ROUND)
    if not number.isdecimal() or int(number) < 1:
        raise ConfigError(f"{option}: '{number}' is not a round number")
    return Fault(party, step, int(number))
