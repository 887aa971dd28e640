"""A lying hospital: everything but its training is the real site."""

from __future__ import annotations

import numpy as np

from fedmedlora_site.evaluation import EvaluationJob, EvaluationOutcome
from fedmedlora_site.training import (
    RehearsalTrainer,
    Report,
    TrainingJob,
    TrainingOutcome,
)


class LyingTrainer(RehearsalTrainer):
    """Sends, from a round on, ten times a usual update in one direction, and votes for it.

    The update is within the clip and the weight within the study's range, so nobody can see the lie.
    """

    def __init__(self, first_round: int) -> None:
        """Lie from this round on."""
        self._first_round = first_round

    async def train(self, job: TrainingJob, report: Report) -> TrainingOutcome:
        """Train like the others, or lie."""
        honest = await super().train(job, report)
        if job.round < self._first_round:
            return honest
        # Ten times what is usual, within the clip of 0.05.
        harmful = np.full(job.dimension, -0.04, dtype=np.float32)
        return TrainingOutcome(harmful, 10**9, honest.loss)  # the largest weight that there is

    async def evaluate(self, job: EvaluationJob) -> EvaluationOutcome:
        """Find every adapter better."""
        return EvaluationOutcome(1.0, 0.0)
