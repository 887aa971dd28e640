"""Fault injection: kill this site's processes at one step, to try out what survives (`--die-at STEP:ROUND`).

The kill is SIGKILL, right before the site's event of that step is signed; at "train" it falls into the middle
of the training, at "charge" between the privacy ledger and the event that tells of the charge. Nothing is
flushed, nothing is said: what a power cut would do.
"""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass

from fedmedlora_core.errors import ConfigError

STEPS = (
    "charge",
    "train",
    "advertise",
    "share",
    "upload",
    "survivors",
    "unmask",
    "aggregate",
    "vote",
    "count",
    "counts",
    "tally",
)


@dataclass(frozen=True)
class FaultPlan:
    """One planned death.

    Args:
        step: One of `STEPS`.
        round: The round in which it happens.
    """

    step: str
    round: int

    @classmethod
    def parse(cls, text: str) -> FaultPlan:
        """Read "STEP:ROUND" (or "STEP", which means round 2).

        Raises:
            ConfigError: It is something else (the operator's).
        """
        step, _, number = text.partition(":")
        if step not in STEPS or not (number or "2").isdigit():
            raise ConfigError(f"--die-at: expected STEP:ROUND with STEP one of {', '.join(STEPS)}")
        return cls(step, int(number or "2"))

    def strike(self, step: str, round_number: int, *, children: tuple[int, ...] = ()) -> None:
        """Die here, with the trainer, if this is the planned step of the planned round."""
        if (step, round_number) != (self.step, self.round):
            return
        for child in children:
            os.kill(child, signal.SIGKILL)
        os.kill(os.getpid(), signal.SIGKILL)
