"""Where jobs run: in this process, in several processes of this machine, or on a Ray cluster (`ray_cluster`).

Each runs one job at a time on one thread. All of them read and write the same work folder.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from types import TracebackType
from typing import Protocol

from fedmedlora_bench.grid.folder import run_job
from fedmedlora_bench.grid.job import Job

__all__ = ["InProcess", "Processes", "Workers"]


class Workers(Protocol):
    """Takes jobs and says which are done."""

    @property
    def count(self) -> int:
        """How many jobs run at a time, as of now: a cluster grows and shrinks."""
        ...

    def __enter__(self) -> Workers:
        """Start."""
        ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop; jobs that have not begun are dropped."""
        ...

    def start(self, job: Job) -> None:
        """Begin a job, at once or when a worker is free."""
        ...

    def next_done(self) -> list[Job]:
        """Wait for at least one job; an error of a job is raised here."""
        ...


class InProcess:
    """Runs each job where it is asked for: no second copy of a model in memory.

    Args:
        work: The work folder.
    """

    count = 1

    def __init__(self, work: Path) -> None:
        """Start nothing."""
        self._work = work
        self._waiting: list[Job] = []

    def __enter__(self) -> InProcess:
        """Nothing to start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to stop."""

    def start(self, job: Job) -> None:
        """Note a job; it runs in `next_done`."""
        self._waiting.append(job)

    def next_done(self) -> list[Job]:
        """Run the oldest job."""
        job = self._waiting.pop(0)
        run_job(job, self._work)
        return [job]


class Processes:
    """Runs jobs in processes of their own, one thread each.

    Args:
        work: The work folder.
        count: Number of processes.
    """

    def __init__(self, work: Path, count: int) -> None:
        """Prepare the pool; its processes start with the first jobs."""
        self.count = count
        self._work = work
        self._running: dict[Future[None], Job] = {}
        context = multiprocessing.get_context("spawn")
        self._pool = ProcessPoolExecutor(count, mp_context=context, initializer=end_with_parent)

    def __enter__(self) -> Processes:
        """Keep the libraries of the processes to come on one thread each."""
        os.environ["OMP_NUM_THREADS"] = "1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop the processes once the jobs that they are at are done."""
        self._pool.shutdown(wait=True, cancel_futures=True)

    def start(self, job: Job) -> None:
        """Give a job to the pool."""
        self._running[self._pool.submit(run_job, job, self._work)] = job

    def next_done(self) -> list[Job]:
        """Wait for at least one job."""
        done, _ = wait(self._running, return_when=FIRST_COMPLETED)
        found = [(future, self._running.pop(future)) for future in done]
        for future, _job in found:
            future.result()
        return [job for _, job in found]


def end_with_parent() -> None:
    """End this process when the one that started it is killed: nobody would ever stop it."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch(sentinel: int) -> None:
        wait_for([sentinel])
        os._exit(1)

    threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
