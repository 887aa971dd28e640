"""A hospital whose validation counts a test knows: everything but what it finds is the rehearsing site."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_core.scores import MatchScore
from fedmedlora_core.scores.counts import Counts
from fedmedlora_core.validation_counts import ValidationCounts
from fedmedlora_site.evaluation import CountingJob
from fedmedlora_site.training import RehearsalTrainer

MENTIONS = 10


class FindingTrainer(RehearsalTrainer):
    """Finds, with the adapter of each round, so many of ten mentions.

    Args:
        found: Of round 1, 2 and so on.
    """

    def __init__(self, *found: int) -> None:
        """Keep the numbers."""
        self._found = found

    async def count(self, job: CountingJob) -> ValidationCounts:
        """Read the round off the adapter's folder."""
        tp = self._found[int(Path(job.adapter).name.split("-")[1]) - 1]
        return ValidationCounts(MatchScore({"problem": Counts(tp, 1, MENTIONS - tp)}), MatchScore())
