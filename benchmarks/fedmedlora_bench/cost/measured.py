"""Peak memory and seconds of one profile, measured in a process of its own.

A peak cannot be taken back, so every figure is that of a fresh process: it loads the model, forgets its
peak, trains some steps, forgets the peak again and answers some prompts. On a GPU the figures are those of
its allocator, else of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from fedmedlora_bench.resident import forget_peak, peak, resident

__all__ = ["Measured", "measure"]


@dataclass(frozen=True)
class Measured:
    """What one process took.

    Args:
        device: Where it computed.
        rows: Examples in a step, and prompts answered together.
        tokens: Mean length of an example.
        longest: Longest example of a step.
        libraries_bytes: Resident before the model was loaded; 0 on a GPU.
        training_bytes: Peak of training, without the libraries.
        inference_bytes: Peak of answering, without the libraries.
        step_seconds: Median of one step.
        answer_seconds: Of one prompt, answered together with the others.
    """

    device: str
    rows: int
    tokens: float
    longest: int
    libraries_bytes: int
    training_bytes: int
    inference_bytes: int
    step_seconds: float
    answer_seconds: float


def measure(profile: str, folder: Path, *, rows: int, steps: int = 3) -> Measured:
    """Measure one profile on the model of a folder.

    Raises:
        RuntimeError: The process failed; the message is its last line.
    """
    command = [sys.executable, "-m", "fedmedlora_bench.cost.measured", profile, str(folder)]
    command += ["--rows", str(rows), "--steps", str(steps)]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "0"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise RuntimeError(f"{profile}: {(done.stderr.strip() or 'no output').splitlines()[-1]}")
    return Measured(**json.loads(done.stdout.splitlines()[-1]))


def main() -> None:
    """Measure in this process and print the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("profile")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    arguments = parser.parse_args()
    found = _measure(arguments.profile, arguments.folder, arguments.rows, arguments.steps)
    sys.stdout.write(json.dumps(asdict(found)) + "\n")


def _measure(name: str, folder: Path, rows: int, steps: int) -> Measured:
    from fedmedlora_bench.cost.subjects import notes_for, subject
    from fedmedlora_core.learning.train import train_local

    before = resident()
    learner, terms = subject(name, folder)
    notes = notes_for(rows * (steps + 1))
    samples = learner.samples(notes, ["ner"])[: rows * steps]
    terms = replace(terms, batch_size=rows, accumulation=1, local_epochs=1, max_steps=steps)
    marks = [time.perf_counter()]
    meter = _Meter(str(learner.model.device), before)
    trained = meter.peak_of(
        lambda: train_local(
            learner, samples, terms, seed=1, on_step=lambda *_: marks.append(time.perf_counter())
        )
    )
    asked = _first_windows(notes, rows)
    begin = time.perf_counter()
    answered = meter.peak_of(lambda: learner.answer(asked, "ner"))
    seconds = time.perf_counter() - begin
    steps_taken = sorted(b - a for a, b in pairwise(marks))
    return Measured(
        device=str(learner.model.device),
        rows=rows,
        tokens=sum(s.length for s in samples) / len(samples),
        longest=max(s.length for s in samples),
        libraries_bytes=meter.libraries,
        training_bytes=trained,
        inference_bytes=answered,
        step_seconds=steps_taken[len(steps_taken) // 2],
        answer_seconds=seconds / len(asked),
    )


class _Meter:
    """The peak of a piece of work, without what the libraries had before."""

    def __init__(self, device: str, before: int) -> None:
        self._gpu = device.startswith("cuda")
        self.libraries = 0 if self._gpu else before

    def peak_of(self, work: Callable[[], Any]) -> int:
        """Do some work; returns its peak in bytes."""
        if self._gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
            work()
            return int(torch.cuda.max_memory_allocated())
        forget_peak()
        work()
        return peak() - self.libraries


def _first_windows(notes: Any, rows: int) -> list[Any]:
    """So many notes of one window each."""
    return [note for note in notes if len(note.text.split()) <= 64][:rows]


if __name__ == "__main__":
    main()
