"""Running one job, in whatever process it landed in, and the files it leaves in the work folder.

A job's folder is written under a name of its own and renamed when it is whole: a folder that carries the
job's key is finished, whenever a run was killed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import Any

from fedmedlora_bench.federation import federate
from fedmedlora_bench.ie.jobs import Job, Scoring, Training
from fedmedlora_bench.ie.setting import Prepared, prepare
from fedmedlora_bench.score_tables import scores_to_table
from fedmedlora_bench.systems import pooled, score_adapter, train_alone
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.best_round import BestRound
from fedmedlora_core.errors import DataError, NonFiniteError
from fedmedlora_site.adapting import RELEASED_RATE_PERCENT, fit_few, split_few

__all__ = ["FAILED", "RESULT_FILE", "is_finished", "read_result", "run_job"]

RESULT_FILE = "result.json"
ADAPTER_FOLDER = "adapter"
FAILED = "failed"
"""In a result: why training diverged; there is no adapter, and there are no scores of it."""


def is_finished(job: Job, work: Path) -> bool:
    """Whether a job's result lies in the work folder."""
    return (work / job.key / RESULT_FILE).is_file()


def read_result(job: Job, work: Path) -> dict[str, Any]:
    """Read what a finished job left.

    Raises:
        DataError: The file is damaged.
    """
    file = work / job.key / RESULT_FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except ValueError:
        raise DataError(f"{file}: is damaged; delete its folder and run again") from None
    if not isinstance(found, dict):
        raise DataError(f"{file}: is damaged; delete its folder and run again")
    return found


def run_job(job: Job, work: Path) -> None:
    """Run one job on one thread and leave its result in the work folder."""
    import torch

    torch.set_num_threads(1)
    if is_finished(job, work):
        return
    wall, cpu = time.perf_counter(), time.process_time()
    with tempfile.TemporaryDirectory(prefix=f".{job.key[:16]}-", dir=work) as folder:
        draft = Path(folder) / job.key
        draft.mkdir()
        try:
            found = _train(job, work, draft) if isinstance(job, Training) else _score(job, work)
        except NonFiniteError as exc:  # one system that diverges must not cost the grid
            found = {FAILED: str(exc)}
        found |= {
            "job": job.title,
            "key": job.key,
            "cpu_seconds": round(time.process_time() - cpu, 3),
            "wall_seconds": round(time.perf_counter() - wall, 3),
        }
        (draft / RESULT_FILE).write_text(json.dumps(found) + "\n", encoding="utf-8")
        if not is_finished(job, work):
            shutil.rmtree(work / job.key, ignore_errors=True)
            draft.rename(work / job.key)


def _train(job: Training, work: Path, draft: Path) -> dict[str, Any]:
    """Train, and write the adapter as a PEFT folder."""
    prepared = prepare(job.setting)
    study, best = prepared.made.study, BestRound() if job.choose_round else None
    initial = _adapter(job.start, prepared, work)
    if job.way == "federated":
        adapter, _ = federate(study, prepared.learner, initial, prepared.sites, best=best)
    elif job.way == "few":
        adapter, best = _fit(job, prepared, initial)
    else:
        notes = prepared.sites[job.site] if job.way == "single" else pooled(prepared.sites)
        adapter = train_alone(
            study,
            prepared.made.base,
            initial,
            notes,
            name=job.site or job.way,
            learner=prepared.learner,
            best=best,
        )
    adapter.save(draft / ADAPTER_FOLDER)
    chosen = {"round": best.round, "validation_f1_by_round": best.history} if best is not None else {}
    return chosen | {"adapter_digest": adapter.digest}


def _fit(job: Training, prepared: Prepared, start: Adapter) -> tuple[Adapter, BestRound]:
    """A new site with few labelled notes: the same as `fedmedlora site adapt`."""
    labelled = prepared.outside[job.site].train[: job.notes]
    return fit_few(
        prepared.learner,
        prepared.made.study,
        start,
        split_few(labelled, seed=job.setting.seed),
        name=job.site,
        seed=job.setting.seed,
        rate_percent=100 if job.start is None else RELEASED_RATE_PERCENT,
        even_steps_notes=job.even_steps_notes,
    )


def _score(job: Scoring, work: Path) -> dict[str, Any]:
    """Score on one site's test notes."""
    prepared = prepare(job.setting)
    adapter = _adapter(job.adapter, prepared, work)
    target = {job.site: prepared.tests()[job.site]}
    made = prepared.made
    scores = score_adapter(made.study, made.base, adapter, target, learner=prepared.learner)
    return {"scores": scores_to_table(scores[job.site])}


def _adapter(job: Training | None, prepared: Prepared, work: Path) -> Adapter:
    """The adapter that a job left, or the study's first one.

    Raises:
        NonFiniteError: The training of that job diverged.
    """
    if job is None:
        return prepared.made.initial
    if FAILED in (found := read_result(job, work)):
        raise NonFiniteError(found[FAILED])
    return Adapter.load(work / job.key / ADAPTER_FOLDER)
