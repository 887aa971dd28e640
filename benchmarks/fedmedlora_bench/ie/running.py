"""What the jobs of `bench ie` do: train an adapter, or score one on a site's test notes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from fedmedlora_bench.federation import federate
from fedmedlora_bench.grid import FAILED, read_result
from fedmedlora_bench.ie.jobs import Scoring, Training
from fedmedlora_bench.ie.setting import Prepared, prepare
from fedmedlora_bench.score_tables import scores_to_table
from fedmedlora_bench.systems import pooled, score_adapter, train_alone
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.best_round import BestRound
from fedmedlora_core.errors import NonFiniteError
from fedmedlora_site.adapting import RELEASED_RATE_PERCENT, fit_few, split_few

__all__ = ["score", "train"]

ADAPTER_FOLDER = "adapter"


def train(job: Training, work: Path, draft: Path) -> dict[str, Any]:
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


def score(job: Scoring, work: Path) -> dict[str, Any]:
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
