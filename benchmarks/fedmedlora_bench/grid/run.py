"""Running the jobs of a grid: what is finished is kept, what is ready runs, long jobs first."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from fedmedlora_bench.grid.folder import is_finished
from fedmedlora_bench.grid.job import Job
from fedmedlora_bench.grid.ray_cluster import RayCluster
from fedmedlora_bench.grid.workers import InProcess, Processes, Workers
from fedmedlora_bench.progress import Progress

__all__ = ["run_grid", "with_needs", "workers_for"]


def workers_for(work: Path, *, jobs: int, ray: bool, gpu: bool = False) -> Workers:
    """Choose where jobs run.

    Args:
        work: The work folder.
        jobs: Processes; 1 runs everything here.
        ray: Run on Ray instead.
        gpu: There, give each job a GPU of its own, where the cluster has any.

    Raises:
        ConfigError: Ray is asked for, and is not installed or does not answer.
    """
    if ray:
        return RayCluster(work, gpu=gpu)
    return InProcess(work) if jobs == 1 else Processes(work, jobs)


def with_needs(jobs: Iterable[Job]) -> dict[str, Job]:
    """All jobs that some jobs build on, and these, by key: each once, needs first."""
    found: dict[str, Job] = {}
    for job in jobs:
        if job.key not in found:
            found |= {key: need for key, need in with_needs(job.needs).items() if key not in found}
            found[job.key] = job
    return found


def run_grid(jobs: Iterable[Job], work: Path, workers: Workers, progress: Progress) -> None:
    """Run every job whose result is not there yet.

    Args:
        jobs: What is wanted; what it builds on is run too.
        work: The work folder.
        workers: Where jobs run.
        progress: Where progress is drawn.

    Raises:
        CoreError: A job failed; results of the others stay.
    """
    every = with_needs(jobs)
    open_jobs = {key: job for key, job in every.items() if not is_finished(job, work)}
    progress.begin(
        f"{len(every)} jobs, {len(every) - len(open_jobs)} of them finished before", len(open_jobs)
    )
    begun: set[str] = set()
    running = 0
    with workers:
        while open_jobs:
            for job in _ready(open_jobs, begun)[: max(0, workers.count - running)]:
                begun.add(job.key)
                running += 1
                workers.start(job)
            for job in workers.next_done():
                del open_jobs[job.key]
                running -= 1
                progress.advance(job.title)


def _ready(open_jobs: dict[str, Job], begun: set[str]) -> list[Job]:
    """Jobs whose needs are finished: long ones first, and those that others wait for."""
    ready = [
        job
        for key, job in open_jobs.items()
        if key not in begun and not any(need.key in open_jobs for need in job.needs)
    ]
    return sorted(ready, key=lambda job: (-job.size, job.seed))
