"""A child process that measures our side: `python -m fedmedlora_bench.secagg.worker WHAT CASE`.

WHAT is `rounds` (a line in, a round run, its figures out), `site-memory` or `coordinator-memory` (one line of
figures). Time and memory are measured apart, so that neither the start of a process nor the copies that the
other sites' uploads need are in a figure.
"""

from __future__ import annotations

import json
import platform
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict
from importlib.metadata import version
from typing import Any

from fedmedlora_bench.secagg import memory
from fedmedlora_bench.secagg.case import Case
from fedmedlora_bench.secagg.ours import place_of_sums, play_round
from fedmedlora_bench.secagg.suite_cost import suite_cost
from fedmedlora_core import arithmetic

Answers = Iterator[dict[str, Any]]


def rounds(case: Case) -> Answers:
    """Say the versions, then answer each line with the figures of one round."""
    packages = ("numpy", "cryptography")
    loops = "compiled" if arithmetic.loops is arithmetic.compiled else "numpy"
    versions = {name: version(name) for name in packages}
    yield {"python": platform.python_version()} | versions | {"loops": loops}
    place = place_of_sums(case)
    for line in sys.stdin:
        if line.strip() == "suites":
            yield suite_cost(case)
            continue
        played = play_round(case, place)
        if line.strip() == "keep":
            memory.keep(case, played)
        yield asdict(played.figures)


def site_memory(case: Case) -> Answers:
    """Peak memory of one site."""
    yield memory.of_site(case)


def coordinator_memory(case: Case) -> Answers:
    """Peak memory of the coordinator."""
    yield memory.of_coordinator(case)


WORK: dict[str, Callable[[Case], Answers]] = {
    "rounds": rounds,
    "site-memory": site_memory,
    "coordinator-memory": coordinator_memory,
}


def main(arguments: list[str]) -> None:
    """Run one kind of work."""
    what, case = arguments
    for answer in WORK[what](Case.from_json(case)):
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
