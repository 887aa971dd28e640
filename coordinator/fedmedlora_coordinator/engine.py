"""Whether the coordinator goes on, waits or gives up: a pure decision (PROTOCOL §5.2).

The law says who is awaited and who has answered, presence says who is there, the clock is a parameter:

    * Everybody awaited has answered: go on.
    * At least T have answered, and every other one is gone: go on without them. A site is gone when it said
      that it will not come, has been away for the grace time, or is silent beyond the step's time and what
      it earned on top by moving bytes (R5.2.4).
    * Fewer than T can still be reached, counting those away for less than the abort time: give up.
    * Otherwise wait, and say until when nothing can change by itself.

Nothing here is remembered between calls, so a restarted coordinator decides from its log alone, with every
site's absence counted from the restart.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from fedmedlora_coordinator.presence import Presence
from fedmedlora_coordinator.settings import Timing

TRAINING_STEPS = frozenset({"plan", "train", "evaluate"})
"""Steps with a model's work in them; "evaluate" is the first step of a vote or of counts."""


@dataclass(frozen=True)
class Situation:
    """What the log says about the current step.

    Attributes:
        step: Name of the step.
        expected: Sites that are awaited.
        arrived: Those of them that have answered.
        declined: Those of them that said they will not (a refusal, an erased attempt).
        threshold: T of the charter.
        since: Monotonic time at which this process saw the step begin.
        earned: Seconds on top of the step's time, of sites that moved bytes in it.
    """

    step: str
    expected: tuple[str, ...]
    arrived: tuple[str, ...]
    declined: frozenset[str]
    threshold: int
    since: float
    earned: Mapping[str, float] = field(default_factory=dict)

    @property
    def missing(self) -> tuple[str, ...]:
        """Sites that have not answered."""
        return tuple(site for site in self.expected if site not in self.arrived)


@dataclass(frozen=True)
class Go:
    """Write the step's event; `without` lists those who were given up."""

    without: tuple[str, ...] = ()


@dataclass(frozen=True)
class GiveUp:
    """The threshold is out of reach: abort the round."""


@dataclass(frozen=True)
class Wait:
    """Nothing to do before `until` (monotonic seconds) unless an event arrives or a site comes or goes."""

    until: float | None


Decision = Go | GiveUp | Wait


def decide(situation: Situation, presence: Presence, timing: Timing, now: float) -> Decision:
    """Decide the next move in a step that waits for sites (see the module docstring)."""
    missing = situation.missing
    enough = len(situation.arrived) >= situation.threshold
    if not missing:
        return Go() if enough else GiveUp()
    training = situation.step in TRAINING_STEPS
    grace = timing.ready_grace_seconds if training else timing.grace_seconds
    patience = timing.training_seconds if training else timing.step_seconds
    away_limit = grace if enough else max(grace, timing.abort_seconds)
    deadline = _deadline(situation, presence, away_limit=away_limit, patience=patience)
    deadlines = sorted(deadline(site) for site in missing)
    # R5.2.3
    if enough:
        # The last of the missing to be given up decides.
        return Go(without=missing) if deadlines[-1] <= now else Wait(deadlines[-1])
    spare = len(situation.arrived) + len(missing) - situation.threshold
    if spare < 0 or deadlines[spare] <= now:
        return GiveUp()
    return Wait(deadlines[spare])


def _deadline(
    situation: Situation, presence: Presence, *, away_limit: float, patience: float
) -> Callable[[str], float]:
    """Make the function that says when a missing site counts as gone."""

    def deadline(site: str) -> float:
        if site in situation.declined:
            return float("-inf")
        silent = situation.since + patience + situation.earned.get(site, 0.0)
        away = presence.away_since(site)
        return silent if away is None else min(silent, away + away_limit)

    return deadline
