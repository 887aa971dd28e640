"""What a site measures on its own held-out notes: losses for a vote, counts for a sum (PROTOCOL §4.7, §4.15).

Jobs go to the trainer, which alone has a model; what comes back stays in the agent's process.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fedmedlora_core.scores import MatchScore
from fedmedlora_core.scores.counts import Counts
from fedmedlora_core.validation_counts import ValidationCounts
from fedmedlora_site.config import DeviceName
from fedmedlora_site.errors import TrainingError

EVALUATE = "evaluate"
COUNT = "count"


@dataclass(frozen=True)
class EvaluationJob:
    """Two adapters to compare on this site's held-out notes (PROTOCOL §4.7).

    Args:
        charter: The accepted charter (canonical JSON of the study).
        base_model: Folder of the frozen base model; empty for the one in the package.
        before: Folder of the adapter that the round started from.
        after: Folder of the adapter that its aggregate leads to.
        notes: The site's notes.
        device: Where the model computes: auto, cpu or cuda.
    """

    charter: str
    base_model: str
    before: str
    after: str
    notes: str
    device: DeviceName = "auto"


@dataclass(frozen=True, repr=False)
class EvaluationOutcome:
    """Two held-out losses in nats; `after` may be infinite. They stay in this process.

    Args:
        before: Under the adapter that the round started from.
        after: Under the new one.
    """

    before: float
    after: float

    def __repr__(self) -> str:
        """Show nothing: losses are the site's own."""
        return "EvaluationOutcome(…)"


@dataclass(frozen=True)
class CountingJob:
    """One adapter whose hits, false finds and misses on this site's held-out notes are counted.

    Args:
        charter: The accepted charter (canonical JSON of the study).
        base_model: Folder of the frozen base model; empty for the one in the package.
        adapter: Folder of the adapter.
        notes: The site's notes.
        device: Where the model computes: auto, cpu or cuda.
    """

    charter: str
    base_model: str
    adapter: str
    notes: str
    device: DeviceName = "auto"


def counts_line(counts: ValidationCounts) -> dict[str, dict[str, list[int]]]:
    """Write counts for the line between trainer and agent: type to found rightly, found wrongly, missed."""
    tasks = {"entities": counts.entities, "relations": counts.relations}
    return {
        task: {label: [found.tp, found.fp, found.fn] for label, found in score.per_type.items()}
        for task, score in tasks.items()
    }


def counts_of_line(answer: Mapping[str, Any]) -> ValidationCounts:
    """Read that line.

    Raises:
        TrainingError: It is none.
    """
    try:
        entities, relations = (
            MatchScore({str(label): _counts(row) for label, row in answer[task].items()})
            for task in ("entities", "relations")
        )
    except (KeyError, TypeError, ValueError, AttributeError):
        raise TrainingError("evaluation_failed", "the trainer's validation counts are none") from None
    return ValidationCounts(entities, relations)


def _counts(row: object) -> Counts:
    if not isinstance(row, list) or len(row) != 3 or not all(type(value) is int for value in row):
        raise ValueError("three integers")
    return Counts(*row)
