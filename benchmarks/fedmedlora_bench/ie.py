"""`bench ie`: zero-shot, single-site, federated and centralised extraction on the same sites and tests.

Every row of the published table of Fed-MedLoRA is a scenario here, every column a system. The figures depend
on the model and the notes at hand; what they show is the order of the systems.

    run_ie(data=Path("corpora"), base=Path("all-MiniLM-L6"), out=Path("ie.json"))
    run_ie()                                   # the synthetic clinic on the shipped model

What this module leaves out: processes and network (`fedmedlora demo` runs them), privacy and attacks.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
import transformers

from fedmedlora_bench.bench_study import BenchStudy, kind_of, make_bench_study
from fedmedlora_bench.cohorts import SizeLimits, clinic_cohort, split_cohort
from fedmedlora_bench.corpora import corpora_cohort
from fedmedlora_bench.figures import mean_over_seeds
from fedmedlora_bench.progress import Progress
from fedmedlora_bench.scenarios import SCENARIOS, Bench
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.profile import Profile
from fedmedlora_core.shipped import shipped_base

__all__ = ["IeOptions", "run_ie"]

MODELS_VARIABLE = "FEDMEDLORA_MODELS"
DATA_VARIABLE = "FEDMEDLORA_DATA"
ENCODER_FOLDER = "minilm-l6"


@dataclass(frozen=True)
class IeOptions:
    """Size of a run; the defaults of `quick` finish in minutes on one core.

    Args:
        rounds: Rounds of every system.
        limits: How much of each site is used.
        site_count: Hospitals of the synthetic clinic that train.
        sentences: Sentences of each synthetic hospital.
        secure: "masks" or "none"; the averages are the same bytes.
        relation_cap_percent: RE examples of an epoch for each hundred NER examples; None as in the profile.
    """

    rounds: int | None = None
    limits: SizeLimits = field(default_factory=SizeLimits)
    site_count: int = 4
    sentences: int = 540
    secure: str = "masks"
    relation_cap_percent: int | None = None

    @classmethod
    def quick(cls, *, corpora: bool) -> IeOptions:
        """Smaller sites: minutes on one core."""
        if corpora:
            return cls(rounds=4, limits=SizeLimits(train=160, validation=16, test=48, per_note=8))
        return cls(limits=SizeLimits(train=240, validation=24, test=80), relation_cap_percent=100)

    @classmethod
    def full(cls, *, corpora: bool) -> IeOptions:
        """All notes (corpora: 1,200 training sentences of each site)."""
        return cls(rounds=8, limits=SizeLimits(train=1200, validation=100, test=300)) if corpora else cls()


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
    show_progress: bool = True,
) -> dict[str, Any]:
    """Run scenarios and write their figures.

    Args:
        data: Folder with the open corpora; None for the synthetic clinic.
        base: Folder of the base model; None for the shipped one (clinic) or the encoder below
            `FEDMEDLORA_MODELS` (corpora).
        seeds: How many seeds, or which; figures are means over them.
        scenarios: Names of `SCENARIOS`.
        out: JSON file to write.
        quick: Subsample to minutes.
        options: Exact sizes; overrides `quick`.
        profile: Name or path of a profile; chosen by the kind of model when None.
        show_progress: Draw progress bars when standard error is a terminal.

    Returns:
        What was written.

    Raises:
        ConfigError: A folder, scenario or profile is missing (the operator's).
    """
    unknown = [name for name in scenarios if name not in SCENARIOS]
    if unknown:
        raise ConfigError(f"there is no scenario '{unknown[0]}': name some of {', '.join(SCENARIOS)}")
    chosen = options or (IeOptions.quick if quick else IeOptions.full)(corpora=data is not None)
    folder = base or _default_base(data)
    kind = kind_of(folder)
    settings = _settings(profile, kind, chosen)
    numbers = list(range(1, seeds + 1)) if isinstance(seeds, int) else list(seeds)
    started = time.perf_counter()
    runs = []
    with Progress(enabled=show_progress) as progress:
        for seed in numbers:
            bench = _prepare(data, folder, settings, chosen, seed, progress)
            runs.append({name: SCENARIOS[name](bench) for name in dict.fromkeys(("main", *scenarios))})
    result = {
        **_what_ran(bench, kind, chosen, numbers),
        **{
            key: value for name, value in mean_over_seeds(runs).items() for key, value in _placed(name, value)
        },
    }
    result["seconds"] = {"total": round(time.perf_counter() - started, 1)}
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return result


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


def _prepare(
    data: Path | None, folder: Path, profile: Profile, options: IeOptions, seed: int, progress: Progress
) -> Bench:
    """Read or generate the notes of one seed and compose its study."""
    if data is None:
        cohort = clinic_cohort(seed=seed, site_count=options.site_count, sentences=options.sentences)
    else:
        cohort = corpora_cohort(data, on_site=lambda site: progress.say(f"reading {site}"))
    sites = {s: split_cohort(notes, seed=seed, limits=options.limits) for s, notes in cohort.sites.items()}
    outside = {
        name: split_cohort(notes, seed=seed, limits=options.limits) for name, notes in cohort.outside.items()
    }
    made: BenchStudy = make_bench_study(
        profile, {site: splits.train for site, splits in sites.items()}, folder, seed=seed
    )
    return Bench(made, cohort.name, sites, outside, progress)


def _placed(name: str, figures: dict[str, Any]) -> list[tuple[str, Any]]:
    """Put the main scenario's systems at the top level, every other scenario under its name."""
    return list(figures.items()) if name == "main" else [(name, figures)]


def _what_ran(bench: Bench, kind: str, options: IeOptions, seeds: list[int]) -> dict[str, Any]:
    """Describe versions, machine, model, data and settings."""
    study = bench.study
    return {
        "command": "bench ie",
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "transformers": transformers.__version__,
        },
        "machine": {"system": platform.platform(), "cpu_count": os.cpu_count(), "threads": 1},
        "seeds": seeds,
        "model": {
            "name": study.model.name,
            "kind": kind,
            "parameters": bench.parameters,
            "adapter_parameters": study.adapter.dimension,
        },
        "data": {
            "cohort": bench.cohort,
            "labels": {"entities": list(study.labels.entities), "modifiers": list(study.labels.modifiers)},
            "sites": {
                member.id: {
                    "train_notes": len(bench.sites[member.id].train),
                    "test_notes": len(bench.sites[member.id].test),
                    "annotated": list(member.annotated),
                }
                for member in study.members
            },
        },
        "settings": {
            "options": asdict(options),
            "training": study.training.model_dump(mode="json"),
            "adapter": bench.made.profile.adapter.model_dump(mode="json"),
            "aggregation": study.aggregation.model_dump(mode="json"),
        },
    }
