"""Lay out the attacks' jobs, run them, and write one result file."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Sequence
from dataclasses import asdict
from importlib import metadata
from pathlib import Path
from typing import Any

from fedmedlora_audit.accountant import delta_of
from fedmedlora_bench.attacks.figures import audit_row, exposure_rows, membership_rows
from fedmedlora_bench.attacks.inversion_job import Inversion
from fedmedlora_bench.attacks.options import AttackOptions
from fedmedlora_bench.attacks.poisoning import LIES, Poisoning
from fedmedlora_bench.attacks.releases import Exposures, Losses, Release, Way
from fedmedlora_bench.attacks.victim import attack_setting, private_terms
from fedmedlora_bench.bench_study import kind_of
from fedmedlora_bench.grid import (
    FAILED,
    Job,
    code_digest,
    read_result,
    run_grid,
    with_needs,
    work_folder,
    workers_for,
)
from fedmedlora_bench.ie.setting import Setting
from fedmedlora_bench.ie.tables import rounded
from fedmedlora_bench.progress import Progress
from fedmedlora_core.clinic import HOSPITAL_IDS
from fedmedlora_core.errors import ConfigError, NonFiniteError
from fedmedlora_core.shipped import shipped_base

__all__ = ["ATTACKS", "run_attacks"]

ATTACKS = ("exposure", "membership", "inversion", "poisoning", "audit")
_WAYS: tuple[Way, ...] = ("single", "federated")
_MODES = ("ffa", "ab")
_VERSIONS = ("torch", "transformers", "peft", "numpy")


def run_attacks(
    *,
    base: Path | None = None,
    seeds: int = 1,
    attacks: Sequence[str] = ATTACKS,
    options: AttackOptions | None = None,
    work: Path | None = None,
    jobs: int = 1,
    repeat: str = "",
    show_progress: bool = True,
) -> dict[str, Any]:
    """Run attacks on the synthetic clinic.

    Args:
        base: Folder of the base model; None for the shipped one.
        seeds: How many; each has hospitals, coins and secrets of its own.
        attacks: Names of `ATTACKS`.
        options: Sizes.
        work: Folder of the jobs' results; a run finds there what an earlier one finished.
        jobs: Processes, one thread each.
        repeat: The command that was given, for the result file.
        show_progress: Draw progress bars when standard error is a terminal.

    Returns:
        The result: a list of rows for each attack, with everything that is needed to repeat it.

    Raises:
        ConfigError: An attack does not exist, or the base model does not fit it (the operator's).
        NonFiniteError: A training diverged.
    """
    sizes, folder = options or AttackOptions(), base or shipped_base()
    kind = kind_of(folder)
    _check(attacks, kind, sizes)
    started = time.perf_counter()
    names = [name for name in ATTACKS if name in attacks]
    settings = [attack_setting(folder, sizes, seed=seed, kind=kind) for seed in range(1, seeds + 1)]
    wanted = [job for setting in settings for job in _jobs(setting, sizes, names)]
    with work_folder(work) as place, Progress(enabled=show_progress) as progress:
        run_grid(wanted, place, workers_for(place, jobs=jobs, ray=False), progress)
        rows = {name: [r for s in settings for r in _ROWS[name](s, sizes, place)] for name in names}
        seconds = [float(read_result(job, place)["cpu_seconds"]) for job in with_needs(wanted).values()]
    result: dict[str, Any] = rounded(
        {
            "command": "bench attacks",
            "repeat": {"command": repeat, "code_digest": code_digest()},
            "versions": {"python": platform.python_version(), **{n: metadata.version(n) for n in _VERSIONS}},
            "machine": {
                "system": platform.platform(),
                "cpu_count": os.cpu_count(),
                "load_average": round(os.getloadavg()[0], 1),
            },
            "seeds": list(range(1, seeds + 1)),
            "model": {"name": folder.name, "kind": kind, "digest": settings[0].base_digest},
            "settings": {"options": asdict(sizes), "setting": settings[0].identity()},
            **rows,
            "cost": {"jobs": len(seconds), "cpu_seconds": sum(seconds)},
            "seconds": {"total": time.perf_counter() - started},
        }
    )
    return result


def _check(attacks: Sequence[str], kind: str, options: AttackOptions) -> None:
    """Refuse what cannot be run before anything runs.

    Raises:
        ConfigError: An attack does not exist, or does not fit the model or the number of sites.
    """
    if unknown := [name for name in attacks if name not in ATTACKS]:
        raise ConfigError(f"there is no attack '{unknown[0]}': name some of {', '.join(ATTACKS)}")
    if "inversion" in attacks and kind != "causal":
        raise ConfigError("inversion knows causal models of LLaMA's shape; leave it out for an encoder")
    if not 3 <= options.site_count <= len(HOSPITAL_IDS):
        raise ConfigError(f"--sites lies in 3..{len(HOSPITAL_IDS)}")


def _read(job: Job, work: Path) -> dict[str, Any]:
    """What a job left.

    Raises:
        NonFiniteError: Its training diverged: there is nothing to attack.
    """
    found = read_result(job, work)
    if FAILED in found:
        raise NonFiniteError(f"{job.title}: {found[FAILED]}")
    return found


def _jobs(setting: Setting, options: AttackOptions, names: Sequence[str]) -> list[Job]:
    """The jobs whose results the rows are made of."""
    found: list[Job] = []
    if "exposure" in names:
        found += [Exposures(setting, options, r) for r in (None, *_releases(setting, options))]
    if "membership" in names:
        found += [Losses(setting, options, r) for r in (None, *_references(setting, options))]
    if "membership" in names or "audit" in names:
        found += [Losses(setting, options, r) for r in (None, *_releases(setting, options))]
    if "inversion" in names:
        found += [Inversion(setting, options, mode) for mode in _MODES]
    if "poisoning" in names:
        found += [Poisoning(setting, options, _federation(setting, options), lie) for lie in LIES]
    return found


def _federation(setting: Setting, options: AttackOptions) -> Release:
    return Release(setting, options, "federated")


def _releases(setting: Setting, options: AttackOptions) -> list[Release]:
    """The adapters that are attacked: each way, without privacy and with every budget."""
    budgets = (None, *options.epsilons)
    return [Release(setting, options, way, epsilon=epsilon) for way in _WAYS for epsilon in budgets]


def _references(setting: Setting, options: AttackOptions) -> list[Release]:
    """Trainings of other coins."""
    return [Release(setting, options, way, draw) for way in _WAYS for draw in range(options.draws)]


def _under(release: Release, options: AttackOptions) -> dict[str, Any]:
    """What names an attacked adapter in a row."""
    privacy = None if release.epsilon is None else private_terms(options, release.epsilon)
    return {
        "seed": release.seed,
        "way": release.way,
        "epsilon_target": release.epsilon,
        "epsilon_claimed": None if privacy is None else privacy.epsilon_milli / 1000,
        "noise_multiplier": None if privacy is None else privacy.noise_multiplier,
    }


def _exposure(setting: Setting, options: AttackOptions, work: Path) -> list[dict[str, Any]]:
    untrained = {"seed": setting.seed, "way": "untrained", "epsilon_target": None, "epsilon_claimed": None}
    found = [untrained | row for row in exposure_rows(_read(Exposures(setting, options), work))]
    for release in _releases(setting, options):
        result = _read(Exposures(setting, options, release), work)
        found += [_under(release, options) | row for row in exposure_rows(result)]
    return found


def _membership(setting: Setting, options: AttackOptions, work: Path) -> list[dict[str, Any]]:
    base = _read(Losses(setting, options), work)
    every = [patient["site"] for patient in base["patients"]]
    found = []
    for release in _releases(setting, options):
        sites = every[:1] if release.way == "single" else list(dict.fromkeys(every))
        plain = [r for r in _references(setting, options) if r.way == release.way]
        references = [_read(Losses(setting, options, r), work) for r in plain]
        if release.epsilon is None:
            targets = references
        else:  # its own coins are those of draw 0: that training knows the same patients
            targets, references = [_read(Losses(setting, options, release), work)], references[1:]
        rows = membership_rows(targets, base, references, sites=sites, seed=setting.seed)
        found += [_under(release, options) | row for row in rows]
    return found


def _inversion(setting: Setting, options: AttackOptions, work: Path) -> list[dict[str, Any]]:
    return [
        {"seed": setting.seed, "mode": mode, **case}
        for mode in _MODES
        for case in _read(Inversion(setting, options, mode), work)["cases"]
    ]


def _poisoning(setting: Setting, options: AttackOptions, work: Path) -> list[dict[str, Any]]:
    found = []
    for lie in LIES:
        result = _read(Poisoning(setting, options, _federation(setting, options), lie), work)
        found.append(
            {
                "seed": setting.seed,
                "lie": lie,
                "rounds": options.poisoned_rounds,
                "f1_before": result["f1_before"],
                **{f"f1_{row['check']}": row["strict_f1"] for row in result["rows"]},
                **{f"refused_{row['check']}": row["refused_rounds"] for row in result["rows"]},
            }
        )
    return found


def _audit(setting: Setting, options: AttackOptions, work: Path) -> list[dict[str, Any]]:
    base = _read(Losses(setting, options), work)
    found = []
    for release in _releases(setting, options):
        losses = _read(Losses(setting, options, release), work)
        found.append(_under(release, options) | audit_row(losses, base, delta=delta_of(options.delta)))
    return found


_ROWS = {
    "exposure": _exposure,
    "membership": _membership,
    "inversion": _inversion,
    "poisoning": _poisoning,
    "audit": _audit,
}
