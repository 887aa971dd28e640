"""Judges what noise inside the masks has cost, from the charter and the log alone (D6, AUDIT "Checks").

Nothing of it is logged: a round that opens a sum costs the charter's constant, whoever was in it. A round
counts as soon as its opening was asked for, closed or not: shares may have been opened that never reached the
log. Sums of several attempts of one round carry the same noise on the same updates, and count once.

What this cannot see: whether a site added its noise. One that does not betrays itself alone; the sum is sized
for T - c honest sites, and its own update lies under theirs.
"""

from dataclasses import dataclass
from typing import Final

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.finding import Finding
from fedmedlora_audit.law import State

NO_NOISE: Final = "The study has no noise inside the masks, so there is nothing to recompute."


@dataclass(frozen=True, slots=True)
class SiteNoiseJudged:
    """What became of check D6.

    Attributes:
        rounds: Rounds that opened a sum, or may have.
        sentence: What they cost.
        finding: What is wrong, if anything.
    """

    rounds: int
    sentence: str
    finding: Finding | None = None


def opened_rounds(state: State) -> int:
    """Count the rounds whose sum of updates was opened, or may have been (R4.14.7)."""
    return sum(
        any(session.purpose == "update" and session.request is not None for session in current.sessions)
        for current in state.rounds.values()
    )


def judge_site_noise(terms: CharterTerms, state: State) -> SiteNoiseJudged:
    """Recompute the spending of all rounds that opened a sum.

    Args:
        terms: The charter.
        state: All events of the log.
    """
    noise = terms.site_noise
    if noise is None:
        return SiteNoiseJudged(0, NO_NOISE)
    rounds = opened_rounds(state)
    said = noise.said(rounds)
    if noise.is_within(rounds):
        return SiteNoiseJudged(rounds, f"{said}.")
    return SiteNoiseJudged(rounds, said, Finding("D6", said))
