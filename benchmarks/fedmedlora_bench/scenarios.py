"""The scenarios of `bench ie`: each is a function from one seed's bench to figures.

| scenario | asks |
|---|---|
| main | how far are zero-shot, single-site, federated and centralised apart? |
| plus | does weighing by validation loss (Fed-MedLoRA+) change it? |
| external | how do they do on a site that nobody trained on? |
| new_site | what does a new site with few labelled sentences gain from the federation? |
| sites | how does the federation compare with centralised training as sites are added? |
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from fedmedlora_bench.bench_study import BenchStudy, make_bench_study
from fedmedlora_bench.cohorts import SizeLimits, clinic_cohort, cut_notes, split_cohort
from fedmedlora_bench.federation import federate
from fedmedlora_bench.figures import differences
from fedmedlora_bench.progress import Progress
from fedmedlora_bench.systems import (
    SiteScores,
    mean_figures,
    pooled,
    score_adapter,
    system_figures,
    train_alone,
)
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.site_round import learner_for
from fedmedlora_core.splits import Splits
from fedmedlora_core.study import Study

__all__ = ["SCENARIOS", "Bench"]

FEW_SENTENCES = 24
"""Labelled sentences of a new site."""
SPREAD_SENTENCES = 240
"""Sentences of each hospital of scenario `sites`."""
SITE_COUNTS = (4, 10)
"""Sizes of the federation that scenario `sites` compares."""


@dataclass
class Bench:
    """One seed: study, notes, and the systems trained so far (a scenario reuses another's).

    Args:
        made: Study, base model and initial adapter.
        cohort: Name of the cohort.
        sites: Splits of the sites that train.
        outside: Splits of the sites that do not.
        progress: Where progress is drawn.
    """

    made: BenchStudy
    cohort: str
    sites: Mapping[str, Splits]
    outside: Mapping[str, Splits]
    progress: Progress
    trained: dict[str, Adapter] = field(default_factory=dict)

    @property
    def study(self) -> Study:
        """The study of this seed."""
        return self.made.study

    @cached_property
    def learner(self) -> Learner:
        """The base model with an adapter; every system loads its own values into it."""
        return learner_for(self.study, self.made.base)

    @property
    def parameters(self) -> int:
        """Parameters of the base model."""
        base = sum(p.numel() for name, p in self.learner.model.named_parameters() if ".lora_" not in name)
        return int(base)

    def alone(self, name: str, notes: Splits) -> Adapter:
        """Train a system without a federation: one site, or all notes pooled."""
        if name not in self.trained:
            self.progress.begin(f"training {name}", self.study.training.rounds)
            self.trained[name] = train_alone(
                self.study,
                self.made.base,
                self.made.initial,
                notes,
                name=name,
                learner=self.learner,
                on_round=lambda _round, _rounds: self.progress.advance(),
            )
        return self.trained[name]

    def federated(self, name: str = "federated", study: Study | None = None) -> Adapter:
        """Train the federation of all sites."""
        if name not in self.trained:
            terms = study or self.study
            self.progress.begin(f"training {name}", terms.training.rounds * len(self.sites))
            self.trained[name], _ = federate(
                terms,
                self.learner,
                self.made.initial,
                self.sites,
                on_site=lambda _round, _site: self.progress.advance(),
            )
        return self.trained[name]

    def scores(self, adapter: Adapter, sites: Mapping[str, Splits]) -> dict[str, SiteScores]:
        """Score an adapter on sites' test notes."""
        self.progress.begin("scoring", len(sites))
        found: dict[str, SiteScores] = {}
        for site, splits in sites.items():
            one = {site: splits}
            found |= score_adapter(self.study, self.made.base, adapter, one, learner=self.learner)
            self.progress.advance()
        return found

    def figures(self, adapter: Adapter, sites: Mapping[str, Splits]) -> dict[str, Any]:
        """Score an adapter on sites' test notes, as figures of the result file."""
        return system_figures(self.scores(adapter, sites))

    def all_systems(self, sites: Mapping[str, Splits]) -> dict[str, Any]:
        """Score zero-shot, every single site, federated and centralised on some sites, and compare them."""
        singles = {s: self.scores(self.alone(s, splits), sites) for s, splits in self.sites.items()}
        others = {
            "zero_shot": self.scores(self.made.initial, sites),
            "centralised": self.scores(self.alone("centralised", pooled(self.sites)), sites),
        }
        federated = self.scores(self.federated(), sites)
        single_figures = {site: system_figures(found) for site, found in singles.items()}
        return {
            "systems": {
                "zero_shot": system_figures(others["zero_shot"]),
                "single_site": mean_figures(list(single_figures.values())) | {"adapters": single_figures},
                "federated": system_figures(federated),
                "centralised": system_figures(others["centralised"]),
            },
            "federated_minus": {
                name: differences(federated, found, seed=self.study.study.seed)
                for name, found in {**others, **singles}.items()
            },
        }


def main(bench: Bench) -> dict[str, Any]:
    """Compare the systems on the tests of the sites that trained."""
    found = bench.all_systems(bench.sites)
    single = found["systems"]["single_site"]
    single["own_site"] = {site: figures["by_site"][site] for site, figures in single["adapters"].items()}
    return found


def plus(bench: Bench) -> dict[str, Any]:
    """Weigh sites by size and validation loss instead of size alone, exactly and on the ladder."""
    found = {}
    for name, weights in (("fedmedlora_plus", "exact"), ("fedmedlora_plus_ladder", "ladder")):
        terms = bench.study.aggregation.model_copy(
            update={"rule": "fedmedlora+", "tau_milli": 1000, "weights": weights}
        )
        study = bench.study.model_copy(update={"aggregation": terms})
        found[name] = bench.figures(bench.federated(name, study), bench.sites)
    return found


def external(bench: Bench) -> dict[str, Any]:
    """Score the same systems on sites that nobody trained on."""
    if not bench.outside:
        return {"skipped": "this cohort has no site outside the federation"}
    return bench.all_systems(bench.outside)


def new_site(bench: Bench) -> dict[str, Any]:
    """Give a new site few labelled sentences: alone, with the global adapter, and with that fitted to it."""
    if not bench.outside:
        return {"skipped": "this cohort has no site outside the federation"}
    name, splits = next(iter(bench.outside.items()))
    few = Splits(cut_notes(splits.train, FEW_SENTENCES, None), splits.validation, splits.test)
    target = {name: splits}
    bench.progress.begin(f"fitting {name}", 1)
    fitted = train_alone(
        bench.study, bench.made.base, bench.federated(), few, name=f"{name}-fitted", learner=bench.learner
    )
    bench.progress.advance()
    return {
        "labelled_sentences": FEW_SENTENCES,
        "alone": bench.figures(bench.alone(f"{name}-alone", few), target),
        "federated": bench.figures(bench.federated(), target),
        "federated_fitted": bench.figures(fitted, target),
    }


def sites(bench: Bench) -> dict[str, Any]:
    """Spread the same number of training notes over more and more hospitals, against centralised training."""
    if bench.cohort != "clinic":
        return {"skipped": "only the synthetic clinic has more sites"}
    total = sum(len(splits.train) for splits in bench.sites.values())
    return {str(count): _spread(bench, count, max(1, total // count)) for count in SITE_COUNTS}


def _spread(bench: Bench, count: int, notes_each: int) -> dict[str, Any]:
    """Federated and centralised systems over `count` hospitals with so many training notes each."""
    seed = bench.study.study.seed
    cohort = clinic_cohort(seed=seed, site_count=count, sentences=SPREAD_SENTENCES)
    cut = {
        name: split_cohort(notes, seed=seed, limits=SizeLimits(validation=12, test=40))
        for name, notes in cohort.sites.items()
    }
    splits = {name: Splits(s.train[:notes_each], s.validation, s.test) for name, s in cut.items()}
    train = {name: s.train for name, s in splits.items()}
    made = make_bench_study(bench.made.profile, train, bench.made.base, seed=seed)
    grown = Bench(made, "clinic", splits, {}, bench.progress)
    return {
        "federated": grown.figures(grown.federated(), splits),
        "centralised": grown.figures(grown.alone("centralised", pooled(splits)), splits),
    }


SCENARIOS: dict[str, Callable[[Bench], dict[str, Any]]] = {
    "main": main,
    "plus": plus,
    "external": external,
    "new_site": new_site,
    "sites": sites,
}
"""Scenario name to function."""
