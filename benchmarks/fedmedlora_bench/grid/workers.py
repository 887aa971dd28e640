"""Where jobs run: in this process, in several processes of this machine, or on a Ray cluster.

Each runs one job at a time on one thread. All of them read and write the same work folder, so on a cluster it
must lie on a disk that every node sees, as the corpora and the base model must.
"""

from __future__ import annotations

import multiprocessing
import os
import threading
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from fedmedlora_bench.grid.folder import run_job
from fedmedlora_bench.grid.job import Job
from fedmedlora_core.errors import ConfigError

__all__ = ["InProcess", "Processes", "RayCluster", "Workers"]


class Workers(Protocol):
    """Takes jobs and says which are done."""

    count: int

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


class RayCluster:
    """Runs jobs on Ray, one core each; the cluster is the one of `RAY_ADDRESS`, or this machine.

    Args:
        work: The work folder, on a disk that every node sees.

    Raises:
        ConfigError: Ray is not installed (the operator's).
    """

    def __init__(self, work: Path) -> None:
        """Join or start the cluster."""
        try:
            import ray
        except ImportError:
            raise ConfigError("--ray needs the extra `ray`: pip install 'fedmedlora[ray]'") from None
        self._ray: Any = ray
        self._work = work
        self._running: dict[Any, Job] = {}
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False)
        self.count = max(1, int(ray.cluster_resources().get("CPU", 1)))
        self._run = ray.remote(num_cpus=1, max_retries=0, max_calls=0)(run_job)

    def __enter__(self) -> RayCluster:
        """Already started."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the cluster."""
        self._ray.shutdown()

    def start(self, job: Job) -> None:
        """Give a job to the cluster."""
        self._running[self._run.remote(job, self._work)] = job

    def next_done(self) -> list[Job]:
        """Wait for at least one job."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        found = [(reference, self._running.pop(reference)) for reference in done]
        for reference, _job in found:
            self._ray.get(reference)
        return [job for _, job in found]
