"""Jobs on a Ray cluster: the one of `RAY_ADDRESS`, or one of this machine's cores alone.

A job leaves its result in the work folder and returns nothing, so it can be run as often as Ray likes: after
a worker or a whole node has died it is run again elsewhere, and a result that somebody finished is kept. The
work folder must lie on a disk that every node sees, as the corpora and the base model must; a node that does
not see it, or that runs other code than the driver, is named instead of giving figures of its own.
"""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType
from typing import Any

from fedmedlora_bench.grid.folder import is_finished, run_job
from fedmedlora_bench.grid.job import Job, running_versions
from fedmedlora_core.errors import ConfigError, CoreError

__all__ = ["RayCluster", "run_on_node"]

HEAD_SECONDS = 30.0
"""How long the head may take to accept a connection."""
RUNS_AGAIN = 3
"""How often a job is run again when what ran it died; a job that kills its worker must end the grid."""


class RayCluster:
    """Runs jobs on Ray, one core each.

    Args:
        work: The work folder, on a disk that every node sees.
        gpu: Give each job a GPU of its own, where the cluster has any; Ray hides them from other jobs.

    Raises:
        ConfigError: Ray is not installed, or the cluster of `RAY_ADDRESS` does not answer (the operator's).
    """

    def __init__(self, work: Path, *, gpu: bool = False) -> None:
        """Join or start the cluster."""
        try:
            import ray
        except ImportError:
            raise ConfigError("--ray needs the extra `ray`: pip install 'fedmedlora[ray]'") from None
        os.environ.setdefault(
            "RAY_USAGE_STATS_ENABLED", "0"
        )  # a hospital's machine tells nobody what it does
        self._ray: Any = ray
        self._work = work
        self._gpu = gpu
        self._running: dict[Any, Job] = {}
        if not ray.is_initialized():
            _join(ray)
        needs = {"num_cpus": 1, "num_gpus": 1 if self._slots("GPU") and gpu else 0}
        self._run = ray.remote(max_retries=RUNS_AGAIN, **needs)(run_on_node)

    @property
    def count(self) -> int:
        """Cores of the cluster as it is now, or its GPUs if each job gets one."""
        return max(1, (self._gpu and self._slots("GPU")) or self._slots("CPU"))

    def _slots(self, kind: str) -> int:
        return int(self._ray.cluster_resources().get(kind, 0))

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
        self._running[self._run.remote(job, self._work, running_versions())] = job

    def next_done(self) -> list[Job]:
        """Wait for at least one job."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        found = [(reference, self._running.pop(reference)) for reference in done]
        for reference, job in found:
            self._finish(reference, job)
        return [job for _, job in found]

    def _finish(self, reference: Any, job: Job) -> None:
        """Raise what ended a job; see that its result is here."""
        errors: Any = self._ray.exceptions
        try:
            self._ray.get(reference)
        except errors.RayTaskError as exc:  # what the job raised, inside Ray's account of where
            if isinstance(exc.cause, CoreError):
                raise exc.cause from None
            raise
        except errors.RayError as exc:
            raise ConfigError(
                f"{job.title}: what ran it died {RUNS_AGAIN + 1} times ({type(exc).__name__});"
                " give again what you gave: finished jobs are kept"
            ) from None
        if not is_finished(job, self._work):
            raise ConfigError(f"{job.title}: is done, and its result is not in {self._work}: {_SHARED}")


def _join(ray: Any) -> None:
    """Join the cluster of `RAY_ADDRESS`, or start one of this machine.

    Ray waits many minutes for a head that is not there, and without an address it takes up whatever cluster
    was last started on this machine, alive or not; so the head is called first, and "local" is said.

    Raises:
        ConfigError: The head does not answer (the operator's).
    """
    address = os.environ.get("RAY_ADDRESS", "local")
    host, colon, port = address.rpartition(":")
    try:
        if colon and port.isdecimal() and "://" not in address:
            socket.create_connection((host.strip("[]"), int(port)), timeout=HEAD_SECONDS).close()
        ray.init(address=address, log_to_driver=False, include_dashboard=False, logging_level="error")
    except (OSError, ValueError, RuntimeError) as exc:
        raise ConfigError(f"the Ray cluster at {address} does not answer: {_line(exc)}") from None


_SHARED = "every node must see the work folder on one disk (--work)"


def run_on_node(job: Job, work: Path, versions: dict[str, str]) -> None:
    """Run one job where Ray put it.

    Raises:
        ConfigError: This node does not see the work folder, or its code or libraries are not the driver's.
    """
    if not work.is_dir():
        raise ConfigError(f"node {os.uname().nodename}: there is no {work}: {_SHARED}")
    own = running_versions()
    other = sorted(name for name in {*own, *versions} if own.get(name) != versions.get(name))
    if other:
        name = other[0]
        raise ConfigError(
            f"node {os.uname().nodename}: {name} is {own.get(name, 'missing')[:12]},"
            f" the driver's is {versions.get(name, 'missing')[:12]}: install the same on every node"
        )
    run_job(job, work)


def _line(error: BaseException) -> str:
    """The first line of what a library says."""
    return (str(error).strip() or type(error).__name__).split("\n")[0][:200]
