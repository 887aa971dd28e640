"""Running one job, in whatever process it landed in, and the files it leaves in the work folder.

A job's folder is written under a name of its own and renamed when it is whole: a folder that carries the
job's key is finished, whenever a run was killed.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fedmedlora_bench.grid.job import Job
from fedmedlora_core.errors import DataError, NonFiniteError

__all__ = ["FAILED", "RESULT_FILE", "is_finished", "read_result", "run_job", "work_folder"]

RESULT_FILE = "result.json"
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
            found = job.run(work, draft)
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


@contextmanager
def work_folder(work: Path | None) -> Iterator[Path]:
    """The folder of the jobs' results, gone afterwards if nobody named one."""
    if work is not None:
        work.mkdir(parents=True, exist_ok=True)
        yield work.resolve()
        return
    with tempfile.TemporaryDirectory(prefix="fedmedlora-bench-") as folder:
        yield Path(folder)
