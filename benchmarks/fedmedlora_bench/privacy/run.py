"""Lay out the jobs of `bench privacy`, run them, and write one result file."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import numpy as np

from fedmedlora_bench.attacks.ranking import auc, bootstrap, true_positives_at
from fedmedlora_bench.cohorts import SizeLimits
from fedmedlora_bench.grid import code_digest, read_result, run_grid, with_needs, work_folder, workers_for
from fedmedlora_bench.ie.setting import Setting, prepare, profile_text
from fedmedlora_bench.ie.tables import rounded
from fedmedlora_bench.privacy.jobs import Measurement, NoisyScores, PrivateTraining
from fedmedlora_bench.privacy.modes import mode_rows
from fedmedlora_bench.privacy.options import PrivacyOptions
from fedmedlora_bench.progress import Progress
from fedmedlora_bench.score_tables import scores_from_table
from fedmedlora_bench.systems import system_figures
from fedmedlora_core.clinic import HOSPITAL_IDS
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.learning.digest import base_digest
from fedmedlora_core.privacy_terms import Unit
from fedmedlora_core.profile import Profile
from fedmedlora_core.shipped import shipped_base

__all__ = ["run_privacy"]

_VERSIONS = ("torch", "transformers", "peft", "opacus", "dp-accounting", "numpy")
_RESAMPLES = 400


def run_privacy(
    *,
    base: Path | None = None,
    seeds: int = 1,
    options: PrivacyOptions | None = None,
    attacks: Mapping[str, Any] | None = None,
    work: Path | None = None,
    jobs: int = 1,
    ray: bool = False,
    repeat: str = "",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Train once for each budget, unit and seed, and lay out what it costs and protects.

    Args:
        base: Folder of the base model; None for the shipped one.
        seeds: How many.
        options: Sizes.
        attacks: A result of `bench attacks`, for the columns of inversion.
        work: Folder of the jobs' results; a run finds there what an earlier one finished.
        jobs: Processes, one thread each.
        ray: Run the jobs on Ray instead.
        repeat: The command that was given, for the result file.
        show_progress: Draw progress bars when standard error is a terminal.

    Raises:
        ConfigError: A size is out of range (the operator's).
        NonFiniteError: A training diverged.
    """
    sizes, folder, began = options or PrivacyOptions(), base or shipped_base(), time.perf_counter()
    if not 3 <= sizes.site_count <= len(HOSPITAL_IDS):
        raise ConfigError(f"--sites lies in 3..{len(HOSPITAL_IDS)}")
    settings = [_setting(folder, sizes, seed) for seed in range(1, seeds + 1)]
    wanted = [job for setting in settings for job in _jobs(setting, sizes)]
    with work_folder(work) as place, Progress(enabled=show_progress) as progress:
        run_grid(wanted, place, workers_for(place, jobs=jobs, ray=ray), progress)
        rows = [row for unit in sizes.units for row in _rows(settings, sizes, unit, place)]
        noised = [_noised(settings, sizes, budget, place) for budget in sizes.site_epsilons]
        spent = [float(read_result(job, place)["cpu_seconds"]) for job in with_needs(wanted).values()]
    prepared = prepare(settings[0])
    found: dict[str, Any] = rounded(
        {
            "command": "bench privacy",
            "repeat": {"command": repeat, "code_digest": code_digest()},
            "versions": {"python": platform.python_version(), **{n: metadata.version(n) for n in _VERSIONS}},
            "machine": {"system": platform.platform(), "cpu_count": os.cpu_count(), "threads_per_job": 1},
            "seeds": list(range(1, seeds + 1)),
            "model": {
                "name": folder.name,
                "digest": settings[0].base_digest,
                "adapter_parameters": prepared.made.study.adapter.dimension,
            },
            "settings": {"options": asdict(sizes), "setting": settings[0].identity()},
            "rows": rows,
            "modes": mode_rows(prepared.made.study, attacks),
            "noise_by_hospital": noised,
            "cost": {"jobs": len(spent), "cpu_hours": sum(spent) / 3600},
            "seconds": {"total": time.perf_counter() - began},
        }
    )
    return found


def _setting(base: Path, options: PrivacyOptions, seed: int) -> Setting:
    """One seed's hospitals; weights are equal, as a private study's must be (R4.13.2)."""
    profile = Profile.load("tiny").override(
        labels__tasks=list(options.tasks),
        adapter__rank=options.rank,
        adapter__alpha=2 * options.rank,
        training__rounds=options.rounds,
        training__learning_rate_micro=options.learning_rate_micro,
        training__warmup_steps=min(2, options.steps),
        aggregation__size_exponent_milli=0,
        aggregation__tau_milli=0,
        secure_aggregation__wire_bits=32,
    )
    return Setting(
        cohort="clinic",
        data="",
        data_digest="",
        base=str(base.resolve()),
        base_digest=base_digest(base),
        profile=profile_text(profile),
        seed=seed,
        limits=SizeLimits(validation=options.test, test=options.test, per_note=options.per_note),
        site_count=options.site_count,
        sentences=options.sentences,
    )


def _training(
    setting: Setting, options: PrivacyOptions, unit: Unit, epsilon: float | None
) -> PrivateTraining:
    # Without noise there is nobody to protect: one training serves every unit.
    return PrivateTraining(setting, options, options.units[0] if epsilon is None else unit, epsilon)


def _alone(
    setting: Setting, options: PrivacyOptions, unit: Unit, epsilon: float | None
) -> list[PrivateTraining]:
    """The hospitals by themselves, where they are asked for."""
    if epsilon not in options.alone:
        return []
    sites = HOSPITAL_IDS[: options.site_count]
    return [PrivateTraining(setting, options, unit, epsilon, "single", site) for site in sites]


def _jobs(setting: Setting, options: PrivacyOptions) -> list[Measurement | NoisyScores]:
    """The jobs whose results the rows are made of."""
    found: list[Measurement | NoisyScores] = []
    for unit in options.units:
        for epsilon in options.epsilons:
            found.append(Measurement(_training(setting, options, unit, epsilon)))
            found += [Measurement(job) for job in _alone(setting, options, unit, epsilon)]
    last = _training(setting, options, options.units[0], options.epsilons[0])
    return [*found, *(NoisyScores(last, budget) for budget in options.site_epsilons)]


def _rows(
    settings: Sequence[Setting], options: PrivacyOptions, unit: Unit, work: Path
) -> list[dict[str, Any]]:
    """A row for each budget of a unit."""
    return [_row(settings, options, unit, epsilon, work) for epsilon in options.epsilons]


def _row(
    settings: Sequence[Setting], options: PrivacyOptions, unit: Unit, epsilon: float | None, work: Path
) -> dict[str, Any]:
    trainings = [_training(setting, options, unit, epsilon) for setting in settings]
    terms = [read_result(job, work) for job in trainings]
    privacy = terms[0]["privacy"]
    figures = [_figures(Measurement(job), work) for job in trainings]
    alone = [
        fmean(_figures(Measurement(job), work)["ner"] for job in jobs)
        for setting in settings
        if (jobs := _alone(setting, options, unit, epsilon))
    ]
    return {
        "unit": unit,
        "epsilon": epsilon,
        "epsilon_claimed": None if epsilon is None else privacy["epsilon_milli"] / 1000,
        "noise_multiplier": None if epsilon is None else privacy["noise_milli"] / 1000,
        "sampling_rate": privacy["sampling_micro"] / 1e6,
        "batch": options.batch_units,
        "steps": options.rounds * options.steps,
        "rounds": options.rounds,
        "as_large": options.as_large,
        "units_of_smallest_site": min(found["units_of_smallest_site"] for found in terms),
        "ner": _spread([found["ner"] for found in figures]),
        "re": _spread([found["re"] for found in figures]) if "re" in options.tasks else None,
        "ner_alone": _spread(alone) if alone else None,
        "membership": _membership([Measurement(job) for job in trainings], work),
        "cpu_seconds": fmean(float(found["cpu_seconds"]) for found in terms),
    }


def _figures(job: Measurement | NoisyScores, work: Path) -> dict[str, float]:
    """Strict F1, macro over the hospitals."""
    table = read_result(job, work)["scores"]
    figures = system_figures({site: scores_from_table(found) for site, found in table.items()})
    return {task: float(figures[task]["strict_f1"]) for task in ("ner", "re") if figures[task]}


def _noised(
    settings: Sequence[Setting], options: PrivacyOptions, budget: float, work: Path
) -> dict[str, Any]:
    """What one round's noise of a hospital-level budget leaves of the training without noise."""
    jobs = [
        NoisyScores(_training(setting, options, options.units[0], options.epsilons[0]), budget)
        for setting in settings
    ]
    return {
        "site_epsilon": budget,
        "ner_at_most": _spread([_figures(job, work)["ner"] for job in jobs]),
        "noise_to_clip": fmean(read_result(job, work)["noise_to_clip"] for job in jobs),
    }


def _membership(jobs: Sequence[Measurement], work: Path) -> dict[str, Any]:
    """How well a patient's loss tells whether he was trained on; a low loss speaks for it."""
    members: list[Any] = []
    others: list[Any] = []
    for job in jobs:
        found = read_result(job, work)
        members += [-np.asarray(losses) for losses in found["member_losses"]]
        others += [-np.asarray(losses) for losses in found["other_losses"]]
    means = [[np.asarray([group.mean()]) for group in side] for side in (members, others)]

    def at_one_percent(positives: Any, negatives: Any) -> float:
        return true_positives_at(positives, negatives, 0.01)

    return {
        "auc": bootstrap(auc, *means, seed=1, resamples=_RESAMPLES).as_table(),
        "tpr_at_1_percent_fpr": bootstrap(at_one_percent, *means, seed=1, resamples=_RESAMPLES).as_table(),
        "members": len(members),
        "others": len(others),
    }


def _spread(values: Sequence[float]) -> dict[str, float]:
    return {"f1": fmean(values), "sd": stdev(values) if len(values) > 1 else 0.0}
