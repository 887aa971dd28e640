"""Predictions of a learner as notes, for scores and for extraction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from fedmedlora_core.learning.learner import Learner, OnDone
from fedmedlora_core.learning.train import mean_loss
from fedmedlora_core.records import Entity, Note
from fedmedlora_core.tasks.examples import Task, with_entities, with_relations
from fedmedlora_core.tasks.inline import TypedSpan

__all__ = ["Predictions", "predict", "predict_entities", "predict_relations", "validation_loss"]


@dataclass(frozen=True)
class Predictions:
    """Notes as a model annotated them.

    Args:
        notes: One for each input note, in order; their gold is gone.
        asked: Prompts (or inputs) that were answered.
        malformed: Answers that could not be read or aligned in full; what was exact in them is kept.
    """

    notes: tuple[Note, ...]
    asked: int
    malformed: int


def predict_entities(
    learner: Learner, notes: Sequence[Note], *, on_done: OnDone | None = None
) -> Predictions:
    """Find the entities of notes; only types in a note's `annotated` are asked for."""
    answers = learner.answer(notes, "ner", on_done)
    spans: defaultdict[int, list[TypedSpan]] = defaultdict(list)
    for index, _, found in answers.spans:
        spans[index] += found
    predicted = tuple(with_entities(note, spans[index]) for index, note in enumerate(notes))
    return Predictions(predicted, len(answers.spans), answers.malformed)


def predict_relations(
    learner: Learner, notes: Sequence[Note], *, on_done: OnDone | None = None
) -> Predictions:
    """Find the modifiers and relations of the entities that the notes carry.

    Args:
        learner: The model.
        notes: Notes whose entities are the heads: gold notes for "gold heads", the notes of
            `predict_entities` for "predicted heads". Their modifiers and relations are not looked at.
        on_done: Called as answers come in.
    """
    asked = [_heads_only(learner, note) for note in notes]
    answers = learner.answer(asked, "re", on_done)
    found: defaultdict[int, list[tuple[Entity, tuple[TypedSpan, ...]]]] = defaultdict(list)
    for index, head, spans in answers.spans:
        if head is not None:
            found[index].append((head, spans))
    predicted = tuple(with_relations(note, learner.labels, found[index]) for index, note in enumerate(asked))
    return Predictions(predicted, len(answers.spans), answers.malformed)


def predict(
    learner: Learner, notes: Sequence[Note], tasks: Sequence[Task], *, on_done: OnDone | None = None
) -> Predictions:
    """Annotate notes from their text alone: entities, then the relations of the entities found.

    With the single task "re" the notes' own entities are the heads.
    """
    if "ner" not in tasks:
        return predict_relations(learner, notes, on_done=on_done)
    first = predict_entities(learner, notes, on_done=on_done)
    if "re" not in tasks:
        return first
    second = predict_relations(learner, first.notes, on_done=on_done)
    return Predictions(second.notes, first.asked + second.asked, first.malformed + second.malformed)


def validation_loss(learner: Learner, notes: Sequence[Note], tasks: Sequence[Task]) -> float:
    """Mean loss per answer token (or word) on held-out notes, in nats.

    Raises:
        ConfigError: No note has annotated types of the study (the operator's).
        NonFiniteError: The loss is NaN or infinite.
    """
    return mean_loss(learner, learner.samples(notes, tasks))


def _heads_only(learner: Learner, note: Note) -> Note:
    """Drop modifiers and relations: they are what is to be found."""
    heads = tuple(entity for entity in note.entities if learner.labels.is_entity(entity.type))
    return replace(note, entities=heads, relations=())
