"""What noise inside the masks costs the model of a few hospitals: computed, and measured on a small study.

`noise_rows` computes, for each number of sites and each budget, how long the noise of an averaged update is
beside the longest update that a site may send: no training is needed for that.

`measure` trains the synthetic clinic once, clipped and without noise, and puts the noise of one round into
the last average. Earlier rounds are taken as free of noise, so each F1 is an upper bound of what the study
with that charter would reach: a real run has the noise of every round, and trains from what it left. For
a few lengths of noise, whole runs with the noise of every round stand beside it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fedmedlora_audit.site_noise import SiteNoise, noise_finder
from fedmedlora_bench.bench_study import BenchStudy, make_bench_study
from fedmedlora_bench.cohorts import SizeLimits, clinic_cohort, split_cohort
from fedmedlora_bench.federation import federate
from fedmedlora_core.codec import FloatVector
from fedmedlora_core.config import parse_table
from fedmedlora_core.discrete_gaussian import DiscreteGaussian
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.site_round import learner_for
from fedmedlora_core.learning.validation import count_on_notes
from fedmedlora_core.profile import Profile
from fedmedlora_core.records import Note
from fedmedlora_core.shipped import shipped_base
from fedmedlora_core.site_noise import fitted
from fedmedlora_core.splits import Splits
from fedmedlora_core.study import Member, Study, threshold_for
from fedmedlora_crypto.xof import Keystream

__all__ = ["NoiseOptions", "averaged_noise", "measure", "noise_rows", "noisy_study"]


@dataclass(frozen=True)
class NoiseOptions:
    """What is measured.

    Args:
        sites: Numbers of hospitals.
        epsilons: Budgets of all rounds together.
        delta: Of the budgets.
        ratios: Lengths of noise beside the longest update, without a budget: where a model begins to suffer.
        whole_runs: Of those lengths, the ones with which all rounds are run.
        rounds: Rounds of the study.
        clip: Largest L2 norm of an update.
        rank: Rank of the adapter.
        sentences: Of the generated hospital.
        seed: Of everything.
    """

    sites: Sequence[int] = (3, 5, 10, 20)
    epsilons: Sequence[float] = (2.0, 8.0, 32.0)
    delta: str = "1e-5"
    ratios: Sequence[float] = (0.03, 0.1, 0.3, 1.0, 3.0)
    whole_runs: Sequence[float] = (0.1, 0.3, 1.0)
    rounds: int = 10
    clip: float = 4.0
    rank: int = 8
    sentences: int = 600
    seed: int = 7


def noisy_study(study: Study, *, epsilon: float, delta: str) -> Study:
    """Give a study without noise the noise that keeps all its rounds within a budget."""
    table = study.model_dump(mode="json", by_alias=True, exclude_none=True)
    milli = math.floor(epsilon * 1000)
    finder = noise_finder(table, epsilon_milli=milli, delta=delta)
    terms = fitted(study, delta=delta, epsilon_milli=milli, noise_for=finder)
    return parse_table({**table, "site_noise": terms.model_dump(mode="json")}, Study, name="study")


def noise_rows(study: Study, options: NoiseOptions) -> list[dict[str, Any]]:
    """Compute a row for each number of sites and each budget.

    Args:
        study: A study without noise; members are added to it or left out.
        options: Which rows.
    """
    rows = []
    for count in options.sites:
        for epsilon in options.epsilons:
            noisy = noisy_study(with_members(study, count), epsilon=epsilon, delta=options.delta)
            rows.append(_row(noisy, epsilon))
    return rows


def averaged_noise(study: Study, key: bytes) -> FloatVector:
    """Draw what the noise of all members does to one averaged update."""
    terms, weights = study.site_noise, study.aggregation
    if terms is None:
        raise ValueError("the study has no noise")
    noise, values = DiscreteGaussian(terms.noise_milli), study.adapter.dimension
    total = np.zeros(values, dtype=np.int64)
    for place in range(len(study.members)):
        total += noise.sample(values, Keystream(bytes([place]) + key[1:]).words)
    weight = min(weights.weight_scale, weights.weight_max)
    quanta = study.codec().scale * weight / weights.weight_max * len(study.members)
    return (total / quanta).astype(np.float32)


def measure(options: NoiseOptions, said: Callable[[str], None] = lambda line: None) -> dict[str, Any]:
    """Train once, add noise to the last average, and score.

    Returns:
        The setting, the F1 without noise, a row for each number of sites and budget, and one for each ratio.
    """
    made, test, sites = _clinic(options)
    learner = learner_for(made.study, made.base)
    adapter, rounds = federate(made.study, learner, made.initial, sites)
    clean = _f1(learner, made.study, adapter.vector(), made, test)
    said(f"without noise: entities {clean:.3f}")
    rows = []
    for row, noisy in _noisy(made.study, options):
        moved = adapter.vector() + averaged_noise(noisy, b"n" * 32)
        rows.append({**row, "entities_f1_at_most": _f1(learner, made.study, moved, made, test)})
        said(f"{row['sites']} sites, epsilon {row['epsilon']:g}: {rows[-1]['entities_f1_at_most']:.3f}")
    return {
        "setting": {
            "values": made.study.adapter.dimension,
            "rounds": options.rounds,
            "clip": options.clip,
            "delta": options.delta,
            "training_sites": len(sites),
            "training_notes": sum(len(splits.train) for splits in sites.values()),
            "test_notes": len(test),
            "seed": options.seed,
            "update_norms": [round(figures.update_norm, 3) for figures in rounds],
        },
        "entities_f1": clean,
        "rows": rows,
        "ratios": _by_ratio(learner, made, adapter.vector(), test, options, said),
        "whole_runs": [
            _whole_run(
                learner=learner, made=made, sites=sites, test=test, options=options, ratio=ratio, said=said
            )
            for ratio in options.whole_runs
        ],
    }


def _clinic(options: NoiseOptions) -> tuple[BenchStudy, tuple[Note, ...], dict[str, Splits]]:
    """One generated hospital's notes, dealt to five sites, so that nothing but the noise differs."""
    cohort = clinic_cohort(seed=options.seed, site_count=1, sentences=options.sentences)
    (notes,) = cohort.sites.values()
    split = split_cohort(notes, seed=options.seed, limits=SizeLimits())
    profile = Profile.load("tiny").override(
        adapter__rank=options.rank,
        adapter__alpha=2 * options.rank,
        training__rounds=options.rounds,
        labels__tasks=["ner"],
        labels__modifiers=[],
        aggregation__size_exponent_milli=0,
        secure_aggregation__clip_norm_micro=round(options.clip * 1e6),
        secure_aggregation__wire_bits=32,
    )
    sites = {
        f"site-{place}": Splits(train=split.train[place::5], validation=split.validation[:1], test=())
        for place in range(5)
    }
    trained = {site: splits.train for site, splits in sites.items()}
    return make_bench_study(profile, trained, shipped_base(), seed=options.seed), split.test, sites


def _noisy(study: Study, options: NoiseOptions) -> list[tuple[dict[str, Any], Study]]:
    found = []
    for count in options.sites:
        for epsilon in options.epsilons:
            noisy = noisy_study(with_members(study, count), epsilon=epsilon, delta=options.delta)
            found.append((_row(noisy, epsilon), noisy))
    return found


def _row(noisy: Study, epsilon: float) -> dict[str, Any]:
    noise = SiteNoise.from_charter(noisy.model_dump(mode="json", by_alias=True, exclude_none=True))
    if noise is None:
        raise ValueError("the study has no noise")
    quanta = noise.sensitivity - math.isqrt(noise.values - 1) - 1
    return {
        "sites": noise.members,
        "threshold": noisy.threshold,
        "contributors": noise.contributors,
        "epsilon": epsilon,
        "spent_milli": noise.cost_milli(noise.rounds),
        "replaced_epsilon_milli": noise.replaced_milli(noise.rounds),
        "noise_milli": noise.noise_milli,
        "noise_to_update": math.sqrt(noise.values / noise.members) * noise.noise_milli / 1000 / quanta,
    }


def with_members(study: Study, count: int) -> Study:
    """The same study with another number of members, and c and T that go with it."""
    table = study.model_dump(mode="json", by_alias=True, exclude_none=True)
    colluding = max(1, count // 3)
    table["secure_aggregation"] |= {
        "colluding_sites": colluding,
        "threshold": threshold_for(count, colluding),
    }
    table["members"] = [
        Member(
            id=f"site-{place}",
            event_vkey=f"site-{place}+event+{'0' * 40}",
            witness_vkey=f"site-{place}+witness+{'0' * 40}",
            annotated=study.members[0].annotated,
        ).model_dump(mode="json")
        for place in range(count)
    ]
    return parse_table(table, Study, name="study")


def _by_ratio(
    learner: Learner,
    made: BenchStudy,
    vector: FloatVector,
    test: Sequence[Note],
    options: NoiseOptions,
    said: Callable[[str], None],
) -> list[dict[str, float]]:
    """Score with noise of given lengths beside the clip."""
    direction = DiscreteGaussian(1_000_000).sample(vector.size, Keystream(b"r" * 32).words) / 1000
    rows = []
    for ratio in options.ratios:
        step = ratio * options.clip / math.sqrt(vector.size)
        f1 = _f1(learner, made.study, vector + (direction * step).astype(np.float32), made, test)
        rows.append({"noise_to_update": ratio, "entities_f1": f1})
        said(f"noise {ratio:g} times the clip: {f1:.3f}")
    return rows


def _whole_run(
    *,
    learner: Learner,
    made: BenchStudy,
    sites: dict[str, Splits],
    test: Sequence[Note],
    options: NoiseOptions,
    ratio: float,
    said: Callable[[str], None],
) -> dict[str, float]:
    """Run every round with noise of a length beside the clip, through the encoding as a site adds it."""
    table, bits = made.study.model_dump(mode="json", by_alias=True, exclude_none=True), 22
    weights = made.study.aggregation
    weight = min(weights.weight_scale, weights.weight_max) / weights.weight_max
    longest = options.clip / made.study.clip_value * weight * 2**bits
    sigma = ratio * longest * math.sqrt(len(sites) / made.study.adapter.dimension)
    table["site_noise"] = {
        "delta": options.delta,
        "epsilon_milli": 32_000,  # nobody judges it here: what is asked is what noise of this length does
        "noise_milli": round(1000 * sigma),
        "value_bits": bits,
    }
    study = parse_table(table, Study, name="study")
    adapter, _ = federate(study, learner, made.initial, sites)
    f1 = _f1(learner, study, adapter.vector(), made, test)
    said(f"noise {ratio:g} times the clip in every round: {f1:.3f}")
    return {"noise_to_update": ratio, "entities_f1": f1}


def _f1(learner: Learner, study: Study, vector: FloatVector, made: BenchStudy, test: Sequence[Note]) -> float:
    """Strict F1 of entities on the test notes."""
    counts = count_on_notes(learner, study, made.initial.with_vector(vector), test)
    return counts.entities.f1
