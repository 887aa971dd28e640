"""Scores of extracted entities and relations against gold, by character offsets.

Strict: same type, same start, same end. Lenient: same type and at least one token in common. Both are one to
one and maximal: no prediction is credited twice. A relation is a triple (head span, type, tail span).

Rules: only what was annotated in a gold note is scored there, predictions of other types are left aside;
equal spans count once; F1 is 0 where it is undefined.

    scores = score_entities(gold_notes, predicted_notes)
    scores.strict.f1, scores.lenient.f1, scores.strict.per_type["drug"].f1, scores.strict.macro_f1

`type_blind=True` and `check_head=False` give the variants of the authors of Fed-MedLoRA; report them under
names of their own.
What this package leaves out: the mean over sites and seeds, which is the benchmarks' business.
"""

from fedmedlora_core.scores.bootstrap import BootstrapInterval, paired_bootstrap, paired_bootstrap_over_groups
from fedmedlora_core.scores.counts import Counts, MatchScore, Scores
from fedmedlora_core.scores.scoring import (
    mention_surfaces,
    score_entities,
    score_entities_by_patient,
    score_relations,
    score_relations_by_patient,
    unseen_in,
)

__all__ = [
    "BootstrapInterval",
    "Counts",
    "MatchScore",
    "Scores",
    "mention_surfaces",
    "paired_bootstrap",
    "paired_bootstrap_over_groups",
    "score_entities",
    "score_entities_by_patient",
    "score_relations",
    "score_relations_by_patient",
    "unseen_in",
]
