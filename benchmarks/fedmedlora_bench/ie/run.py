"""Lay out a grid, run it, and write one result file."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from fedmedlora_bench.bench_study import kind_of
from fedmedlora_bench.cohort_folder import folder_names, is_cohort_folder
from fedmedlora_bench.corpora import CORPORA, EXTERNAL, EXTERNAL_ID, check_corpora
from fedmedlora_bench.grid import (
    FAILED,
    code_digest,
    read_result,
    run_grid,
    with_needs,
    work_folder,
    workers_for,
)
from fedmedlora_bench.ie.jobs import OTHER_CODE, Job
from fedmedlora_bench.ie.options import IeOptions
from fedmedlora_bench.ie.scenarios import SCENARIOS, Layout, Systems
from fedmedlora_bench.ie.setting import CohortKind, Setting, prepare, profile_of, profile_text
from fedmedlora_bench.ie.tables import Scored, rounded
from fedmedlora_bench.progress import Progress
from fedmedlora_bench.score_tables import scores_from_table
from fedmedlora_bench.systems import SiteScores
from fedmedlora_core.clinic import HOSPITAL_IDS
from fedmedlora_core.errors import ConfigError, NonFiniteError
from fedmedlora_core.learning.digest import base_digest
from fedmedlora_core.profile import Profile
from fedmedlora_core.shipped import shipped_base

__all__ = ["run_ie"]

MODELS_VARIABLE = "FEDMEDLORA_MODELS"
ENCODER_FOLDER = "minilm-l6"
_VERSIONS = ("torch", "transformers", "peft", "tokenizers", "numpy")


def run_ie(
    *,
    data: Path | None = None,
    base: Path | None = None,
    seeds: int | Sequence[int] = 1,
    scenarios: Sequence[str] = ("main",),
    out: Path | None = None,
    quick: bool = True,
    options: IeOptions | None = None,
    profile: str | None = None,
    work: Path | None = None,
    jobs: int = 1,
    ray: bool = False,
    repeat: str = "",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Run scenarios and write their figures.

    Args:
        data: Folder with the open corpora or with cohorts of one's own (`cohort_folder`); None for the
            synthetic clinic.
        base: Folder of the base model; None for the shipped one (clinic) or the encoder below
            `FEDMEDLORA_MODELS`.
        seeds: How many seeds, or which; figures are means over them.
        scenarios: Names of `SCENARIOS`; main is always run.
        out: JSON file to write.
        quick: Subsample to minutes.
        options: Exact sizes; overrides `quick`.
        profile: Name or path of a profile; chosen by the kind of model when None.
        work: Folder of the jobs' results; a run finds there what an earlier one finished. None for a
            temporary one.
        jobs: Processes, one thread each.
        ray: Run the jobs on Ray instead.
        repeat: The command that was given, for the result file.
        show_progress: Draw progress bars when standard error is a terminal.

    Returns:
        What was written.

    Raises:
        ConfigError: A folder, scenario or profile is missing (the operator's).
        NonFiniteError: A system diverged that a scenario cannot do without; a strategy that does is named.
    """
    unknown = [name for name in scenarios if name not in SCENARIOS]
    if unknown:
        raise ConfigError(f"there is no scenario '{unknown[0]}': name some of {', '.join(SCENARIOS)}")
    names = list(dict.fromkeys(("main", *scenarios)))
    chosen = options or (IeOptions.quick if quick else IeOptions.full)(corpora=data is not None)
    numbers = list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
    started = time.perf_counter()
    layouts = _layouts(data, base or _default_base(data), profile, chosen, numbers)
    plans = {name: [SCENARIOS[name].plan(layout) for layout in layouts] for name in names}
    with work_folder(work) as folder, Progress(enabled=show_progress) as progress:
        large = profile_of(layouts[0].setting.profile).training.is_large
        workers = workers_for(folder, jobs=jobs, ray=ray, gpu=large)
        run_grid(_jobs_of(plans), folder, workers, progress)
        figures = {name: _figures(name, plans[name], layouts[0], folder) for name in names}
        result: dict[str, Any] = rounded(
            {
                **_what_ran(layouts[0], numbers, names, repeat),
                **figures.pop("main"),
                **figures,
                "cost": _cost(plans, folder),
            }
        )
    result["seconds"] = {"total": round(time.perf_counter() - started, 1)}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


def _layouts(
    data: Path | None, base: Path, profile: str | None, options: IeOptions, seeds: Sequence[int]
) -> list[Layout]:
    """One layout for each seed."""
    cohort, digest, sites, outside = _cohort(data, options)
    kind = kind_of(base)
    settings = _settings(profile, kind, options)
    model = base_digest(base)
    return [
        Layout(
            Setting(
                cohort=cohort,
                data="" if data is None else str(data.resolve()),
                data_digest=digest,
                base=str(base.resolve()),
                base_digest=model,
                profile=profile_text(settings),
                seed=seed,
                limits=options.limits,
                site_count=options.site_count,
                sentences=options.sentences,
            ),
            sites,
            outside,
            options,
            kind,
        )
        for seed in seeds
    ]


def _settings(name: str | None, kind: str, options: IeOptions) -> Profile:
    """The profile of a run with what its options override."""
    profile = Profile.load(name or ("tiny" if kind == "causal" else "encoder"))
    changes: dict[str, object] = {"secure_aggregation__mode": options.secure}
    if options.rounds is not None:
        changes["training__rounds"] = options.rounds
    if options.relation_cap_percent is not None:
        changes["training__relation_cap_percent"] = options.relation_cap_percent
    return profile.override(**changes)


def _default_base(data: Path | None) -> Path:
    """The model to run on when none is named."""
    if data is None:
        return shipped_base()
    models = os.environ.get(MODELS_VARIABLE)
    folder = Path(models) / ENCODER_FOLDER if models else None
    if folder is None or not folder.is_dir():
        raise ConfigError(
            f"name a base model with --base, or set {MODELS_VARIABLE} to a folder that holds {ENCODER_FOLDER}"
        )
    return folder


def _cohort(
    data: Path | None, options: IeOptions
) -> tuple[CohortKind, str, tuple[str, ...], tuple[str, ...]]:
    """Kind of cohort, digest of its files, ids of the sites that train, and of those that do not."""
    if data is None:
        count = options.site_count
        return "clinic", "", HOSPITAL_IDS[:count], HOSPITAL_IDS[count : count + 1]
    if is_cohort_folder(data):
        sites, outside = folder_names(data)
        return "folder", _digest_of(data, sorted(data.rglob("*.jsonl"))), sites, outside
    check_corpora(data)
    folders = sorted({folder for folder, _ in CORPORA.values()})
    files = [file for folder in folders for file in sorted((data / folder).rglob("*")) if file.is_file()]
    external = [data / EXTERNAL] if (data / EXTERNAL).is_file() else []
    names = (EXTERNAL_ID,) if external else ()
    return "corpora", _digest_of(data, [*files, *external]), tuple(CORPORA), names


def _digest_of(data: Path, files: Sequence[Path]) -> str:
    """SHA-256, in hex, over names and contents of files."""
    digest = hashlib.sha256()
    for file in files:
        content = file.read_bytes()
        digest.update(f"{file.relative_to(data).as_posix()}\0{len(content)}\0".encode())
        digest.update(content)
    return digest.hexdigest()


def _jobs_of(plans: Mapping[str, Sequence[Systems | str]]) -> list[Job]:
    """Every scoring job of some plans."""
    return [
        job
        for runs in plans.values()
        for plan in runs
        if not isinstance(plan, str)
        for by_site in plan.values()
        for job in by_site.values()
    ]


def _figures(name: str, plans: Sequence[Systems | str], layout: Layout, work: Path) -> dict[str, Any]:
    """Read the scores of one scenario and lay them out.

    Raises:
        NonFiniteError: A system diverged that the scenario cannot do without.
    """
    runs: list[dict[str, dict[str, SiteScores]]] = []
    failed: dict[str, str] = {}
    for plan in plans:
        if isinstance(plan, str):
            return {"skipped": plan}
        found = {
            system: {site: read_result(job, work) for site, job in by_site.items()}
            for system, by_site in plan.items()
        }
        failed |= {s: r[FAILED] for s, by_site in found.items() for r in by_site.values() if FAILED in r}
        runs.append(
            {
                system: {site: scores_from_table(result["scores"]) for site, result in by_site.items()}
                for system, by_site in found.items()
                if system not in failed
            }
        )
    if needed := [system for system in failed if system not in SCENARIOS[name].may_fail]:
        raise NonFiniteError(f"{name}, {needed[0]}: {failed[needed[0]]}")
    kept: list[Scored] = [{s: by_site for s, by_site in run.items() if s not in failed} for run in runs]
    return SCENARIOS[name].table(kept, layout) | ({FAILED: failed} if failed else {})


def _cost(plans: Mapping[str, Sequence[Systems | str]], work: Path) -> dict[str, Any]:
    """Processor time of the whole grid, also of what an earlier run finished."""
    seconds = {
        name: {key: float(read_result(job, work)["cpu_seconds"]) for key, job in jobs.items()}
        for name, jobs in ((name, with_needs(_jobs_of({name: runs}))) for name, runs in plans.items())
    }
    every = {key: value for by_key in seconds.values() for key, value in by_key.items()}
    return {
        "jobs": len(every),
        "cpu_hours": sum(every.values()) / 3600,
        "cpu_hours_by_scenario": {name: sum(by_key.values()) / 3600 for name, by_key in seconds.items()},
        "longest_job_seconds": max(every.values()),
    }


def _what_ran(layout: Layout, seeds: list[int], scenarios: list[str], repeat: str) -> dict[str, Any]:
    """Describe versions, machine, model, data and settings."""
    prepared, setting = prepare(layout.setting), layout.setting
    study = prepared.made.study
    parameters = sum(
        p.numel() for name, p in prepared.learner.model.named_parameters() if ".lora_" not in name
    )
    return {
        "command": "bench ie",
        "repeat": {"command": repeat, "scenarios": scenarios, "code_digest": code_digest(OTHER_CODE)},
        "versions": {"python": platform.python_version(), **{n: metadata.version(n) for n in _VERSIONS}},
        "machine": {"system": platform.platform(), "cpu_count": os.cpu_count(), "threads_per_job": 1},
        "seeds": seeds,
        "model": {
            "name": study.model.name,
            "kind": study.model.kind,
            "digest": setting.base_digest,
            "parameters": int(parameters),
            "adapter_parameters": study.adapter.dimension,
        },
        "data": {
            "cohort": setting.cohort,
            "digest": setting.data_digest,
            "labels": {"entities": list(study.labels.entities), "modifiers": list(study.labels.modifiers)},
            "sites": {
                member.id: {
                    "train_notes": len(prepared.sites[member.id].train),
                    "test_notes": len(prepared.sites[member.id].test),
                    "annotated": list(member.annotated),
                }
                for member in study.members
            },
            "outside": {name: {"test_notes": len(s.test)} for name, s in prepared.outside.items()},
        },
        "settings": {
            "options": asdict(layout.options),
            "training": study.training.model_dump(mode="json"),
            "adapter": prepared.made.profile.adapter.model_dump(mode="json"),
            "aggregation": study.aggregation.model_dump(mode="json"),
        },
    }
