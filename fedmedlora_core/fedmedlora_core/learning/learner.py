"""What training and prediction need of a model, whether it writes answers or tags words.

`generative.GenerativeLearner` and `tagging.TaggingLearner` are the two; `train`, `evaluate` and `site_round`
know only this face.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from peft import PeftModel

from fedmedlora_core.labels import LabelSet
from fedmedlora_core.records import Entity, Note
from fedmedlora_core.tasks.examples import Task
from fedmedlora_core.tasks.inline import TypedSpan

__all__ = ["Answers", "Learner", "OnDone", "Sample", "means_by_row"]

OnDone = Callable[[int, int], None]
"""(done, total): called while predictions are made."""


@dataclass(frozen=True)
class Answers:
    """What a model found in a list of notes.

    Args:
        spans: For each asked item, its note index, its head (None for entities) and what was found.
        malformed: Answers that could not be read or aligned in full.
    """

    spans: tuple[tuple[int, Entity | None, tuple[TypedSpan, ...]], ...]
    malformed: int


class Sample(Protocol):
    """One tokenised training example."""

    @property
    def task(self) -> Task:
        """The task that the example belongs to."""
        ...

    @property
    def length(self) -> int:
        """Tokens in the sequence; examples of near lengths are put in one batch."""
        ...

    @property
    def counted(self) -> int:
        """Answer positions that its loss is summed over."""
        ...

    @property
    def finds(self) -> bool:
        """Whether the answer names anything; most heads of relations have no tail."""
        ...


class Learner(Protocol):
    """A base model with an adapter, and how it is trained and asked.

    `left_out` counts the examples that the last call of `samples` left out because they exceed the limit.
    """

    model: PeftModel
    tokenizer: Any
    labels: LabelSet
    left_out: int

    def samples(self, notes: Sequence[Note], tasks: Sequence[Task]) -> list[Any]:
        """Tokenise the training examples of some notes; what is longer than the limit is left out."""
        ...

    def loss(self, batch: Sequence[Any]) -> tuple[torch.Tensor, int]:
        """Summed loss over the answer positions of a batch, and how many there are."""
        ...

    def row_losses(self, batch: Sequence[Any]) -> torch.Tensor:
        """Mean loss of each example over its own answer positions; no row depends on another."""
        ...

    def answer(self, notes: Sequence[Note], task: Task, on_done: OnDone | None = None) -> Answers:
        """Find entities ("ner"), or the relations of each note's own entities ("re")."""
        ...


def means_by_row(losses_n: torch.Tensor, batch: Sequence[Sample]) -> torch.Tensor:
    """Means of the losses of a batch's answer positions, which lie row after row, over each row."""
    return torch.stack([part.mean() for part in torch.split(losses_n, [sample.counted for sample in batch])])
