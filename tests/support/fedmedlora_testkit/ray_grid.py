"""A driver of jobs on Ray, as a process that a test can kill: a small grid, or one job that goes wrong."""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora_bench.cohorts import SizeLimits
from fedmedlora_bench.grid import run_grid, workers_for
from fedmedlora_bench.ie import IeOptions, run_ie
from fedmedlora_bench.progress import Progress
from fedmedlora_core.errors import CoreError, DataError

__all__ = ["TINY", "Errand", "main"]

TINY = IeOptions(rounds=1, limits=SizeLimits(train=4, validation=2, test=1), site_count=3, sentences=60)


@dataclass(frozen=True)
class Errand:
    """One job that raises what it finds, kills its worker, or says which GPU it was given."""

    title: str
    needs: tuple[Errand, ...] = ()
    size: int = 1
    seed: int = 0

    @property
    def key(self) -> str:
        """Its name: nothing else decides what it does."""
        return self.title

    def run(self, work: Path, draft: Path) -> dict[str, Any]:
        """Do it; each attempt leaves a line."""
        with (work / "attempts").open("a", encoding="utf-8") as attempts:
            attempts.write(f"{self.title}\n")
        if self.title == "refuse":
            raise DataError("is damaged", file="notes.jsonl", line=3)
        if self.title == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        return {"gpu": os.environ.get("CUDA_VISIBLE_DEVICES", "")}


def main() -> None:
    """Run; an error is one line and exit code 2, as of the command."""
    parser = argparse.ArgumentParser()
    parser.add_argument("work", type=Path)
    parser.add_argument("--base", type=Path)
    parser.add_argument("--errand", action="append")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.work.mkdir(parents=True, exist_ok=True)
    try:
        if options.errand:
            workers = workers_for(options.work, jobs=1, ray=True, gpu=True)
            run_grid(
                [Errand(title) for title in options.errand], options.work, workers, Progress(enabled=False)
            )
        else:
            found = run_ie(base=options.base, options=TINY, work=options.work, ray=True, show_progress=False)
            options.out.write_text(json.dumps(found), encoding="utf-8")
    except CoreError as exc:
        sys.stderr.write(f"{exc}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
