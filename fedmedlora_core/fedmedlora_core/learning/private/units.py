"""The units of a private training: patients or documents, each with its own training examples.

What a unit is follows from its notes alone. Near duplicates, which a split without privacy keeps together,
join nothing here: a patient who is added or removed must change nothing about another one.

A unit that is drawn contributes one row: one of its examples. Of what an epoch over its examples alone would
hold (relation cap and share of heads with a tail included) every kind has its part, and within a kind each
example is as likely as another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.private.draws import Draws
from fedmedlora_core.learning.terms import TrainTerms
from fedmedlora_core.learning.train import relation_counts
from fedmedlora_core.privacy_terms import Unit
from fedmedlora_core.records import Note
from fedmedlora_core.splits import unit_key
from fedmedlora_core.tasks.examples import Task

__all__ = ["PrivateUnit", "units_of"]


@dataclass(frozen=True, repr=False)
class PrivateUnit:
    """One patient or document in a training.

    Args:
        kinds: Examples of each kind (NER; RE with a tail; RE without), each with how many of them an epoch
            over this unit alone would hold.
    """

    kinds: tuple[tuple[int, tuple[Any, ...]], ...]

    def __repr__(self) -> str:
        """Show a size, never whose it is."""
        return f"PrivateUnit({sum(len(samples) for _, samples in self.kinds)} examples)"

    @property
    def samples(self) -> tuple[Any, ...]:
        """All of its examples."""
        return tuple(sample for _, samples in self.kinds for sample in samples)

    def row(self, draws: Draws) -> Any | None:
        """Draw its row of a step; None where it has no example."""
        total = sum(share for share, _ in self.kinds)
        if not total:
            return None
        place = draws.below(total)
        for share, samples in self.kinds:
            if place < share:
                return samples[draws.below(len(samples))]
            place -= share
        raise AssertionError("the shares add up to the total")


def units_of(
    learner: Learner,
    notes: Sequence[Note],
    tasks: Sequence[Task],
    *,
    unit: Unit,
    terms: TrainTerms,
) -> list[PrivateUnit]:
    """Tokenise the training examples of every unit, in the order of the units' names.

    Args:
        learner: Makes the examples.
        notes: Training notes.
        tasks: Tasks of the study.
        unit: What is protected.
        terms: Relation cap and share of heads with a tail, which are applied to each unit by itself.

    Raises:
        DataError: A note does not say to which unit it belongs.
    """
    grouped: defaultdict[str, list[Note]] = defaultdict(list)
    for note in notes:
        grouped[unit_key(note, unit)].append(note)
    found = []
    for name in sorted(grouped):
        own = sorted(grouped[name], key=lambda note: note.document_id)
        found.append(_unit(learner.samples(own, tasks), terms))
    return found


def _unit(samples: Sequence[Any], terms: TrainTerms) -> PrivateUnit:
    """Sort a unit's examples into kinds."""
    filled, empty = relation_counts(samples, terms)
    others = tuple(sample for sample in samples if sample.task != "re")
    tails = tuple(sample for sample in samples if sample.task == "re" and sample.finds)
    none = tuple(sample for sample in samples if sample.task == "re" and not sample.finds)
    kinds = ((len(others), others), (filled, tails), (empty, none))
    return PrivateUnit(tuple((share, found) for share, found in kinds if share))
