"""The systems that are compared: untuned, single-site, centralised, and any adapter, scored alike.

A single-site system is a federation of one: the same code, rounds, epochs and learning rates, with its own
update as the average. The centralised one is that over the pooled training notes of all sites. Every system
is scored on every site's test notes; a site's own gold says which types are scored there.

What this module leaves out: the federation itself (the demo runs the real processes, `bench ie` the same
rounds in one process) and how jobs are spread over cores.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.best_round import BestRound
from fedmedlora_core.learning.alone import NoiseOf, OnRound, train_rounds
from fedmedlora_core.learning.evaluate import predict_entities, predict_relations
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import load_adapter
from fedmedlora_core.learning.site_round import learner_for
from fedmedlora_core.records import Note
from fedmedlora_core.scores import (
    MatchScore,
    Scores,
    score_entities,
    score_entities_by_patient,
    score_relations,
    score_relations_by_patient,
    unseen_in,
)
from fedmedlora_core.splits import Splits, split_as_study
from fedmedlora_core.study import Study
from fedmedlora_site.training import training_seed

TASKS = (
    "ner",
    "re",
    "re_gold_heads",
    "ner_unseen",
    "ner_type_blind",
    "re_any_head",
    "re_gold_heads_any_head",
)
"""Fields of `SiteScores` that hold scores, in the order of the result files."""


@dataclass(frozen=True)
class SiteScores:
    """Scores of one system on one site's test notes.

    Args:
        ner: Entities found from the text alone.
        re: Relation triples, heads as predicted.
        re_gold_heads: Relation triples, heads as in the gold.
        ner_unseen: Entities whose string is no span of that site's training notes.
        ner_type_blind: The authors' variant of `ner`: spans alone, types not looked at.
        re_any_head: The authors' variant of `re`: which entity a modifier belongs to is not checked.
        re_gold_heads_any_head: The same of `re_gold_heads`.
        malformed: Answers that could not be read back.
        asked: Answers in all.
        ner_by_patient: `ner` patient by patient: the units of a bootstrap.
        re_by_patient: `re` patient by patient.
        re_gold_heads_by_patient: `re_gold_heads` patient by patient.
    """

    ner: Scores
    re: Scores
    re_gold_heads: Scores
    ner_unseen: Scores
    ner_type_blind: Scores
    re_any_head: Scores
    re_gold_heads_any_head: Scores
    malformed: int
    asked: int
    ner_by_patient: tuple[Scores, ...] = ()
    re_by_patient: tuple[Scores, ...] = ()
    re_gold_heads_by_patient: tuple[Scores, ...] = ()


def split_sites(study: Study, notes: Mapping[str, Sequence[Note]]) -> dict[str, Splits]:
    """Split every site's notes as the study fixes it."""
    return {site: split_as_study(found, study) for site, found in notes.items()}


def pooled(sites: Mapping[str, Splits]) -> Splits:
    """All sites' notes in one place, as only a centralised system may see them."""
    return Splits(
        train=tuple(note for site in sites.values() for note in site.train),
        validation=tuple(note for site in sites.values() for note in site.validation),
        test=tuple(note for site in sites.values() for note in site.test),
    )


def train_alone(
    study: Study,
    base: Path,
    initial: Adapter,
    notes: Splits,
    *,
    name: str,
    on_round: OnRound | None = None,
    learner: Learner | None = None,
    best: BestRound | None = None,
    noise_of: NoiseOf | None = None,
) -> Adapter:
    """Train a federation of one for the study's rounds.

    Args:
        study: Rounds, epochs and rates.
        base: Folder of the base model.
        initial: The study's initial adapter.
        notes: Training and validation notes.
        name: Name that the training seeds derive from: a site's id or "centralised".
        on_round: Progress.
        learner: A learner to reuse; loaded when None.
        best: Chooses among the rounds by the counts on `notes.validation`; None takes the last round.
        noise_of: In a study with privacy: the keystream of a round.

    Returns:
        The adapter after the last round, or the chosen one.
    """
    return train_rounds(
        learner or learner_for(study, base),
        study,
        initial,
        notes,
        seed_of=lambda number: training_seed(study.study.seed, name, number),
        best=best,
        on_round=on_round,
        noise_of=noise_of,
    )


def score_adapter(
    study: Study,
    base: Path,
    adapter: Adapter,
    sites: Mapping[str, Splits],
    *,
    learner: Learner | None = None,
) -> dict[str, SiteScores]:
    """Score one adapter on every site's test notes.

    Args:
        study: Tasks and labels.
        base: Folder of the base model.
        adapter: What is scored; the initial adapter scores the untuned base model.
        sites: Splits of every site.
        learner: A learner to reuse; loaded when None.

    Returns:
        Site id to scores.
    """
    learner = learner or learner_for(study, base)
    load_adapter(learner.model, adapter)
    return {site: _score_site(learner, splits) for site, splits in sites.items()}


def _score_site(learner: Learner, splits: Splits) -> SiteScores:
    gold = splits.test
    found = predict_entities(learner, gold)
    own_heads = predict_relations(learner, found.notes)
    gold_heads = predict_relations(learner, gold)
    unseen = unseen_in(splits.train)
    return SiteScores(
        ner=score_entities(gold, found.notes, labels=learner.labels),
        re=score_relations(gold, own_heads.notes, labels=learner.labels),
        re_gold_heads=score_relations(gold, gold_heads.notes, labels=learner.labels),
        ner_unseen=score_entities(gold, found.notes, labels=learner.labels, only=unseen),
        ner_type_blind=score_entities(gold, found.notes, labels=learner.labels, type_blind=True),
        re_any_head=score_relations(gold, own_heads.notes, labels=learner.labels, check_head=False),
        re_gold_heads_any_head=score_relations(
            gold, gold_heads.notes, labels=learner.labels, check_head=False
        ),
        malformed=found.malformed,
        asked=found.asked,
        ner_by_patient=tuple(score_entities_by_patient(gold, found.notes, labels=learner.labels)),
        re_by_patient=tuple(score_relations_by_patient(gold, own_heads.notes, labels=learner.labels)),
        re_gold_heads_by_patient=tuple(
            score_relations_by_patient(gold, gold_heads.notes, labels=learner.labels)
        ),
    )


def system_figures(
    scores: Mapping[str, SiteScores], annotated: Mapping[str, Collection[str]] | None = None
) -> dict[str, Any]:
    """Figures of one system as the result files carry them (docs/INTERFACES.md).

    The main figures are macro over sites (each hospital counts alike); micro counts and every site's own
    figures stand beside them. A site without relations in its gold has no relation figure.

    Args:
        scores: From `score_adapter`.
        annotated: Site id to the types it annotated; with it, entities are also scored over only the types
            that each site had annotated ("ner_on_types_of").
    """
    sites = list(scores.values())
    subsets = {site: [_restricted(s.ner, types) for s in sites] for site, types in (annotated or {}).items()}
    return {
        **{task: _task(_of_task(sites, task)) for task in TASKS},
        "ner_on_types_of": {site: _macro(found) for site, found in subsets.items()},
        "well_formed": 1 - sum(s.malformed for s in sites) / max(1, sum(s.asked for s in sites)),
        "by_site": {
            site: {task: _figures(getattr(found, task)) for task in TASKS} for site, found in scores.items()
        },
    }


def mean_figures(systems: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of several systems' main figures, for example of all single-site systems."""
    found: dict[str, Any] = {}
    for task in TASKS:
        macro = _mean_f1([s[task] for s in systems])
        found[task] = macro | {
            "macro_over_sites": macro,
            "micro": _mean_f1([s[task]["micro"] for s in systems]),
        }
    return found | {"well_formed": sum(s["well_formed"] for s in systems) / len(systems)}


def _mean_f1(figures: Sequence[Mapping[str, float]]) -> dict[str, float]:
    return {key: sum(f[key] for f in figures) / len(figures) for key in ("strict_f1", "lenient_f1")}


def _of_task(sites: Sequence[SiteScores], task: str) -> list[Scores]:
    """One task's scores of the sites that have it: a gold without relations has no relation figure."""
    with_task = [s for s in sites if not (task.startswith("re") and s.re_gold_heads.strict.micro.is_empty)]
    return [getattr(s, task) for s in with_task]


def _task(scores: Sequence[Scores]) -> dict[str, Any]:
    """Macro over sites first, micro beside it."""
    total, macro = Scores.total(scores), _macro(scores)
    return macro | {"macro_over_sites": macro, "micro": _figures(total), "per_type": total.as_dict()}


def _macro(scores: Sequence[Scores]) -> dict[str, float]:
    """Mean over sites; 0 for none."""
    count = max(1, len(scores))
    return {
        "strict_f1": sum(s.strict.f1 for s in scores) / count,
        "lenient_f1": sum(s.lenient.f1 for s in scores) / count,
    }


def _restricted(scores: Scores, types: Collection[str]) -> Scores:
    """The part of a score that belongs to some types; matching is type by type, so it just adds up."""
    strict, lenient = (
        MatchScore({name: counts for name, counts in match.per_type.items() if name in types})
        for match in (scores.strict, scores.lenient)
    )
    return Scores(strict, lenient)


def _figures(scores: Scores) -> dict[str, float]:
    return {"strict_f1": scores.strict.f1, "lenient_f1": scores.lenient.f1}
