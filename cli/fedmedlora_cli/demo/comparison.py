"""The systems that the demo compares, trained and scored in two worker processes.

This is the experimenter's view: it reads every hospital's notes, which no party of the federation does. It
runs after the study is closed and changes nothing in the parties' folders.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Mapping
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.records import read_notes
from fedmedlora_core.study import INITIAL_FOLDER, Study

WORKERS = 2


@dataclass(frozen=True)
class Material:
    """What every system is trained and scored on; paths only, so that it crosses a process boundary.

    Args:
        package: The study package.
        base: Folder of the base model.
        notes: Site id to the site's notes file.
    """

    package: Path
    base: Path
    notes: Mapping[str, Path]


@dataclass(frozen=True)
class Job:
    """One system to train, if need be, and to score.

    Args:
        name: Name of the system: "zero_shot", "federated", "centralised" or a site's id.
        material: Notes, base model and study.
        adapter: Adapter folder to score; None trains one first.
        trains_on: Site ids whose notes it trains on.
        own: Site id to the adapter that this site uses instead, where a part of it is its own.
    """

    name: str
    material: Material
    adapter: Path | None = None
    trains_on: tuple[str, ...] = ()
    own: Mapping[str, Path] = field(default_factory=dict)


def run_job(job: Job) -> tuple[str, dict[str, Any]]:
    """Train and score one system in this process (one thread)."""
    import torch

    from fedmedlora_bench.systems import pooled, score_adapter, split_sites, system_figures, train_alone
    from fedmedlora_core.learning.site_round import learner_for

    torch.set_num_threads(1)
    material = job.material
    study = Study.load(material.package)
    splits = split_sites(study, {site: read_notes(path) for site, path in material.notes.items()})
    learner = learner_for(study, material.base)
    if job.adapter is not None:
        adapter = Adapter.load(job.adapter)
    else:
        data = pooled({site: splits[site] for site in job.trains_on})
        initial = Adapter.load(material.package / INITIAL_FOLDER)
        adapter = train_alone(study, material.base, initial, data, name=job.name, learner=learner)
    scores = {
        site: score_adapter(
            study,
            material.base,
            Adapter.load(job.own[site]) if site in job.own else adapter,
            {site: notes},
            learner=learner,
        )[site]
        for site, notes in splits.items()
    }
    figures = system_figures(scores, {member.id: member.annotated for member in study.members})
    return job.name, figures


def compare(jobs: list[Job]) -> dict[str, dict[str, Any]]:
    """Run all jobs, the longest first, on `WORKERS` processes.

    Returns:
        System name to figures (`fedmedlora_bench.systems.system_figures`).
    """
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("spawn")
    found = {}
    ordered = sorted(jobs, key=lambda job: -len(job.trains_on))
    with ProcessPoolExecutor(max_workers=WORKERS, mp_context=context) as pool:
        for future in as_completed([pool.submit(run_job, job) for job in ordered]):
            name, figures = future.result()
            found[name] = figures
    return found


def assemble(found: Mapping[str, dict[str, Any]], study: Study, *, full: bool) -> dict[str, dict[str, Any]]:
    """Arrange figures by system: untuned, mean single site, federated, centralised.

    Args:
        found: From `compare`.
        study: Members and what each annotated.
        full: Whether a centralised system was trained.

    Returns:
        The `systems` table of `result.json`.
    """
    from fedmedlora_bench.systems import mean_figures

    members = study.member_ids
    singles = {site: found[site] for site in members if site in found}
    systems = {"zero_shot": found["zero_shot"]}
    if singles:
        systems["single_site"] = mean_figures(list(singles.values())) | {
            "adapters": singles,
            "own_site": {site: figures["by_site"][site] for site, figures in singles.items()},
            "ner_own_types": _mean([figures["ner_on_types_of"][site] for site, figures in singles.items()]),
        }
    federated = found["federated"]
    systems["federated"] = federated | {
        "own_site": federated["by_site"],
        "ner_own_types": _mean([federated["ner_on_types_of"][site] for site in members]),
    }
    if full:
        systems["centralised"] = found["centralised"]
    return systems


def _mean(figures: list[dict[str, float]]) -> dict[str, float]:
    """Mean of strict and lenient F1."""
    return {key: sum(f[key] for f in figures) / len(figures) for key in ("strict_f1", "lenient_f1")}
