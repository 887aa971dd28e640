"""What the jobs of `bench privacy` do: train by the code that trains real studies, score, guess members."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from fedmedlora_bench.federation import federate, noise_of
from fedmedlora_bench.grid import FAILED, read_result
from fedmedlora_bench.ie.setting import Prepared, prepare
from fedmedlora_bench.privacy.jobs import ADAPTER_FOLDER, Measurement, NoisyScores, PrivateTraining
from fedmedlora_bench.privacy.options import PrivacyOptions
from fedmedlora_bench.private_budget import within_budget
from fedmedlora_bench.score_tables import scores_to_table
from fedmedlora_bench.site_noise import averaged_noise, noisy_study
from fedmedlora_bench.systems import score_adapter, train_alone
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import NonFiniteError
from fedmedlora_core.learning.learner import Learner
from fedmedlora_core.learning.lora import load_adapter
from fedmedlora_core.privacy_terms import PrivacyTerms, Unit
from fedmedlora_core.records import Note
from fedmedlora_core.splits import Splits, unit_key

__all__ = ["as_large", "measure", "private_terms", "score_noised", "smallest_site", "train"]

_NO_NOISE_MILLI = 1
"""Noise of a training without a budget: a thousandth of its clip, which changes nothing that is scored."""
Floats = NDArray[np.float64]


def private_terms(options: PrivacyOptions, unit: Unit, epsilon: float | None, units: int) -> PrivacyTerms:
    """The mechanism of a budget over all rounds, for hospitals of so many units.

    Args:
        options: Sizes.
        unit: Whom it protects.
        epsilon: The budget; None for no noise and a wide clip.
        units: Training units of the smallest hospital: with the rate that follows a step draws
            `batch_units` of them on average. In a real study the rate is agreed upon, and tells no size.
    """
    rate = min(1_000_000, max(1, round(1_000_000 * options.batch_units / units)))
    terms = PrivacyTerms(
        unit=unit,
        delta=options.delta,
        epsilon_milli=2**52,
        noise_milli=_NO_NOISE_MILLI,
        clip_micro=options.wide_clip_micro if epsilon is None else options.clip_micro,
        sampling_micro=rate,
        steps=options.steps,
        batch_units=options.batch_units,
    )
    return terms if epsilon is None else within_budget(terms, epsilon, rounds=options.rounds)


def as_large(terms: PrivacyTerms, times: int) -> PrivacyTerms:
    """Lend the terms the noise that a step has in so many times larger hospitals, and take back their claim.

    Args:
        terms: Of hospitals and steps of the size that trains.
        times: How many times larger; with 1 nothing changes.
    """
    if times == 1:
        return terms
    noise = max(_NO_NOISE_MILLI, round(terms.noise_milli / times))
    return terms.model_copy(update={"noise_milli": noise, "epsilon_milli": 2**52})


def smallest_site(sites: Mapping[str, Splits], unit: Unit) -> int:
    """Training units of the hospital that has the fewest."""
    return min(len({unit_key(note, unit) for note in parts.train}) for parts in sites.values())


def train(job: PrivateTraining) -> tuple[Adapter, dict[str, Any]]:
    """Train as the job says."""
    prepared = prepare(job.setting)
    units = smallest_site(prepared.sites, job.unit)
    terms = private_terms(job.options, job.unit, job.epsilon, units)
    made = prepared.made
    study = made.study.model_copy(update={"privacy": as_large(terms, job.options.as_large)})
    if job.way == "federated":
        adapter, _ = federate(study, prepared.learner, made.initial, prepared.sites)
    else:
        adapter = train_alone(
            study,
            made.base,
            made.initial,
            prepared.sites[job.site],
            name=job.site,
            learner=prepared.learner,
            noise_of=noise_of(study, job.site),
        )
    told = {
        "adapter_digest": adapter.digest,
        "units_of_smallest_site": units,
        "privacy": terms.model_dump(mode="json", exclude={"orders"}),
    }
    return adapter, told


def measure(job: Measurement, work: Path) -> dict[str, Any]:
    """Score on every hospital's test, and measure the losses of members and of others."""
    prepared, learner, adapter = _loaded(job.training, work)
    members, others = [], []
    for site, parts in prepared.sites.items():
        if job.training.way == "federated" or site == job.training.site:
            members += _losses(learner, parts.train, job.options.members)
            others += _losses(learner, (*parts.test, *parts.validation), job.options.members)
    return {
        "scores": _scores(prepared, adapter),
        "member_losses": [losses.tolist() for losses in members],
        "other_losses": [losses.tolist() for losses in others],
    }


def score_noised(job: NoisyScores, work: Path) -> dict[str, Any]:
    """Score with the noise that one round's average would have under a hospital-level budget."""
    prepared, _, adapter = _loaded(job.training, work)
    study = prepared.made.study
    noisy = noisy_study(study, epsilon=job.site_epsilon, delta=job.options.delta)
    noise = averaged_noise(noisy, job.seed.to_bytes(32, "big"))
    noised = adapter.with_vector((adapter.vector() + noise).astype(np.float32))
    return {
        "scores": _scores(prepared, noised),
        "noise_to_clip": float(np.linalg.norm(noise)) / study.clip_norm,
    }


def _loaded(training: PrivateTraining, work: Path) -> tuple[Prepared, Learner, Adapter]:
    """The learner with the adapter that a job left.

    Raises:
        NonFiniteError: That training diverged.
    """
    if FAILED in (found := read_result(training, work)):
        raise NonFiniteError(found[FAILED])
    prepared = prepare(training.setting)
    adapter = Adapter.load(work / training.key / ADAPTER_FOLDER)
    load_adapter(prepared.learner.model, adapter)
    return prepared, prepared.learner, adapter


def _scores(prepared: Prepared, adapter: Adapter) -> dict[str, Any]:
    """Scores of an adapter, by hospital."""
    made = prepared.made
    scores = score_adapter(made.study, made.base, adapter, prepared.sites, learner=prepared.learner)
    return {site: scores_to_table(found) for site, found in scores.items()}


def _losses(learner: Learner, notes: Sequence[Note], patients: int) -> list[Floats]:
    """Loss per answer token of each example, for each of the first so many patients."""
    grouped: defaultdict[str, list[Note]] = defaultdict(list)
    for note in notes:
        if note.patient_key in grouped or len(grouped) < patients:
            grouped[note.patient_key].append(note)
    found = []
    with torch.inference_mode():
        for own in grouped.values():
            samples = learner.samples(own, ("ner",))
            if samples:
                found.append(np.asarray([_mean_loss(learner, sample) for sample in samples]))
    return found


def _mean_loss(learner: Learner, sample: Any) -> float:
    loss, count = learner.loss([sample])
    return float(loss) / count
