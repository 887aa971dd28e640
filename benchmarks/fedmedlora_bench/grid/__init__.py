"""Grids of jobs: what is finished is kept under a digest of all that decides it, and a killed run goes on."""

from fedmedlora_bench.grid.folder import FAILED, is_finished, read_result, run_job, work_folder
from fedmedlora_bench.grid.job import Job, code_digest, job_key
from fedmedlora_bench.grid.run import run_grid, with_needs, workers_for

__all__ = [
    "FAILED",
    "Job",
    "code_digest",
    "is_finished",
    "job_key",
    "read_result",
    "run_grid",
    "run_job",
    "with_needs",
    "work_folder",
    "workers_for",
]
