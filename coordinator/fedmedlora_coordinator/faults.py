"""Fault injection: the coordinator kills itself around one durable write (`serve --die-at`).

For rehearsals and tests of recovery: `STEP:ROUND:before` dies right before the write of that step's event,
`STEP:ROUND:after` right after it, before anyone is told.
"""

import os
import signal
from dataclasses import dataclass
from typing import Final, Literal

from fedmedlora_core.errors import ConfigError

EVENT_OF_STEP: Final[dict[str, str]] = {
    "train": "round.plan",
    "advertise": "keys.broadcast",
    "share": "shares.fixed",
    "upload": "update.submitted",  # with its receipt, the first of the round
    "survivors": "survivors.fixed",
    "unmask": "unmask.request",
    "aggregate": "aggregate.published",
    "vote": "votes.counted",
    "tally": "validation.counted",
}


@dataclass(frozen=True)
class DieAt:
    """One moment at which to die.

    Attributes:
        event: Type of the event whose write is meant.
        round: Number of the round.
        moment: Before or after the write.
    """

    event: str
    round: int
    moment: Literal["before", "after"]

    @classmethod
    def parse(cls, text: str) -> "DieAt":
        """Read `STEP:ROUND:before|after`; the moment may be left out (before).

        Raises:
            ConfigError: The text has another form.
        """
        step, _, rest = text.partition(":")
        number, _, moment = rest.partition(":")
        known = ", ".join(EVENT_OF_STEP)
        if step not in EVENT_OF_STEP or not number.isdecimal() or int(number) < 1:
            raise ConfigError(f"--die-at '{text}' must be STEP:ROUND:before|after, STEP one of {known}")
        if moment not in ("", "before", "after"):
            raise ConfigError(f"--die-at '{text}': the moment must be 'before' or 'after'")
        return cls(EVENT_OF_STEP[step], int(number), "after" if moment == "after" else "before")

    def strike(self, event: str, round_number: int | None, moment: Literal["before", "after"]) -> None:
        """Kill this process, with no chance to clean up, if this is the moment."""
        if (event, round_number, moment) == (self.event, self.round, self.moment):
            os.kill(os.getpid(), signal.SIGKILL)
