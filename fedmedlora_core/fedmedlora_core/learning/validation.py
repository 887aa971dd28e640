"""A site's validation counts: what an adapter finds rightly, finds wrongly and misses on held-out notes."""

from __future__ import annotations

from collections.abc import Sequence

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.learning.evaluate import predict_entities, predict_relations
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import load_adapter
from fedmedlora_core.records import Note
from fedmedlora_core.scores import MatchScore, score_entities, score_relations
from fedmedlora_core.study import Study
from fedmedlora_core.validation_counts import ValidationCounts

__all__ = ["count_on_notes"]


def count_on_notes(
    learner: Learner, study: Study, adapter: Adapter, notes: Sequence[Note]
) -> ValidationCounts:
    """Count an adapter's strict hits, false finds and misses, type by type.

    Args:
        learner: From `learner_for`; holds the adapter afterwards.
        study: The study, which fixes the tasks.
        adapter: What is measured.
        notes: Held-out notes of one site; relations are asked for with the gold heads given.
    """
    load_adapter(learner.model, adapter)
    entities = relations = MatchScore()
    if "ner" in study.labels.tasks:
        found = predict_entities(learner, notes).notes
        entities = score_entities(notes, found, labels=learner.labels).strict
    if "re" in study.labels.tasks:
        found = predict_relations(learner, notes).notes
        relations = score_relations(notes, found, labels=learner.labels).strict
    return ValidationCounts(entities, relations)
