"""The systems that are compared: untuned, single-site, centralised, and any adapter, scored alike.

A single-site system is a federation of one: the same code, rounds, epochs and learning rates, with its own
update as the average. The centralised one is that over the pooled training notes of all sites. Every system
is scored on every site's test notes; a site's own gold says which types are scored there.

What this module leaves out: the federation itself (the demo runs the real processes, `bench ie` the same
rounds in one process) and how jobs are spread over cores.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.learning.evaluate import predict_entities, predict_relations
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import load_adapter
from fedmedlora_core.learning.site_round import learner_for, train_round
from fedmedlora_core.parts import moved, with_personal
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
from fedmedlora_core.splits import Splits, split_by_patient
from fedmedlora_core.study import Study
from fedmedlora_site.training import training_seed

OnRound = Callable[[int, int], None]
"""(round, rounds): called after each round of a baseline."""


@dataclass(frozen=True)
class SiteScores:
    """Scores of one system on one site's test notes.

    Args:
        ner: Entities found from the text alone.
        re: Relation triples, heads as predicted.
        re_gold_heads: Relation triples, heads as in the gold.
        ner_unseen: Entities whose string is no span of that site's training notes.
        malformed: Answers that could not be read back.
        asked: Answers in all.
        ner_by_patient: `ner` patient by patient: the units of a bootstrap.
        re_by_patient: `re` patient by patient.
    """

    ner: Scores
    re: Scores
    re_gold_heads: Scores
    ner_unseen: Scores
    malformed: int
    asked: int
    ner_by_patient: tuple[Scores, ...] = ()
    re_by_patient: tuple[Scores, ...] = ()


def split_sites(study: Study, notes: Mapping[str, Sequence[Note]]) -> dict[str, Splits]:
    """Split every site's notes as the study fixes it."""
    return {
        site: split_by_patient(
            found,
            seed=study.splits.seed,
            validation_fraction=study.splits.validation_percent / 100,
            test_fraction=study.splits.test_percent / 100,
        )
        for site, found in notes.items()
    }


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

    Returns:
        The adapter after the last round.
    """
    learner = learner or learner_for(study, base)
    adapter, rule, personal = initial, GlobalStep(study, initial), None
    rounds = study.training.rounds
    for number in range(1, rounds + 1):
        update = train_round(
            learner,
            study,
            adapter,
            train=notes.train,
            validation=notes.validation,
            round_number=number,
            seed=training_seed(study.study.seed, name, number),
            personal=personal,
        )
        adapter, personal = moved(adapter, update.delta, rule.runs(number)), update.personal
        if on_round is not None:
            on_round(number, rounds)
    return adapter if personal is None else with_personal(adapter, personal)


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
        malformed=found.malformed,
        asked=found.asked,
        ner_by_patient=tuple(score_entities_by_patient(gold, found.notes, labels=learner.labels)),
        re_by_patient=tuple(score_relations_by_patient(gold, own_heads.notes, labels=learner.labels)),
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
    with_relations = [s for s in sites if not s.re_gold_heads.strict.micro.is_empty]
    return {
        "ner": _task([s.ner for s in sites]),
        "re": _task([s.re for s in with_relations]),
        "re_gold_heads": _task([s.re_gold_heads for s in with_relations]),
        "ner_unseen": _task([s.ner_unseen for s in sites]),
        "ner_on_types_of": {site: _macro(found) for site, found in subsets.items()},
        "well_formed": 1 - sum(s.malformed for s in sites) / max(1, sum(s.asked for s in sites)),
        "by_site": {
            site: {
                "ner": _figures(found.ner),
                "re": _figures(found.re),
                "re_gold_heads": _figures(found.re_gold_heads),
                "ner_unseen": _figures(found.ner_unseen),
            }
            for site, found in scores.items()
        },
    }


def mean_figures(systems: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean of several systems' main figures, for example of all single-site systems."""
    tasks = ("ner", "re", "re_gold_heads", "ner_unseen")
    return {
        task: {key: sum(s[task][key] for s in systems) / len(systems) for key in ("strict_f1", "lenient_f1")}
        for task in tasks
    } | {"well_formed": sum(s["well_formed"] for s in systems) / len(systems)}


def _task(scores: Sequence[Scores]) -> dict[str, Any]:
    """Macro over sites first, micro beside it."""
    total = Scores.total(scores)
    return _macro(scores) | {"micro": _figures(total), "per_type": total.as_dict()}


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
