"""`bench load`: one coordinator process under the load of many sites, over TLS on this machine.

The coordinator is `fedmedlora coordinator serve`; the sites live in a few processes (`load_sites`). Nothing
is left out but the training and the network's slowness. The coordinator's memory is what the kernel says of
its process; its seconds are processor time and hold on a busy machine, while a round's time is the wall's.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from fedmedlora_bench.federation_folders import FederationPlan, Folders, make_folders
from fedmedlora_bench.local_processes import cpu_seconds, free_ports, start_module
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.study import Study

__all__ = ["LoadPlan", "load_line", "run_load", "slope"]

VECTOR_BYTES: Final = 4
_STEPS: Final = {
    "round.plan": "training",
    "session.opened": "keys",
    "shares.fixed": "masking",
    "survivors.fixed": "opening",
    "aggregate.published": "checking",
}


@dataclass(frozen=True)
class LoadPlan:
    """What is to be run.

    Attributes:
        sites: Numbers of sites, one federation each.
        dimension: Values of an update.
        rounds: Rounds of each study.
        hosts: Processes that the sites live in.
        seconds: After which a federation is given up.
    """

    sites: Sequence[int]
    dimension: int = 1_300_000
    rounds: int = 1
    hosts: int = 4
    seconds: float = 3600.0

    def __post_init__(self) -> None:
        """Refuse what no study is.

        Raises:
            ConfigError: A number is out of its range (the caller's).
        """
        if not self.sites or not all(3 <= count <= 500 for count in self.sites):
            raise ConfigError("--sites: a study has 3 to 500 of them here")
        if self.dimension < 2 or self.dimension % 2 or self.rounds < 1 or self.hosts < 1:
            raise ConfigError("--dimension is even, and there is at least one round and one process")


def run_load(plan: LoadPlan, *, said: Callable[[str], None]) -> dict[str, Any]:
    """Run one federation for each number of sites.

    Args:
        plan: What to run.
        said: Told of each that is over.

    Raises:
        ConfigError: A federation did not come to its end; the message is the last line of a process.
    """
    runs = []
    for count in sorted(plan.sites):
        with tempfile.TemporaryDirectory() as folder:
            runs.append(_Load(Path(folder), plan, count).run())
        said(load_line(runs[-1]))
    return {
        "dimension": plan.dimension,
        "rounds": plan.rounds,
        "cores": len(os.sched_getaffinity(0)),
        "bytes_per_site": slope(runs),
        "runs": runs,
    }


def slope(runs: Sequence[Mapping[str, Any]]) -> float:
    """Bytes that the coordinator's peak grows by with each site, from the smallest to the largest run."""
    first, last = runs[0], runs[-1]
    sites = last["sites"] - first["sites"]
    grown = last["coordinator"]["peak_bytes"] - first["coordinator"]["peak_bytes"]
    return float(grown / sites) if sites else 0.0


def load_line(run: Mapping[str, Any]) -> str:
    """Say what one federation took, in one line for people."""
    coordinator = run["coordinator"]
    return (
        f"{run['sites']} sites: a round in {run['round_seconds']:.0f} s, coordinator "
        f"{coordinator['seconds']:.0f} s of processor time and {coordinator['peak_bytes'] / 1e6:.0f} MB "
        f"({coordinator['ready_bytes'] / 1e6:.0f} MB before the round), "
        f"{coordinator['sent_bytes'] / 1e9:.2f} GB sent; a site {run['site']['seconds']:.1f} s"
    )


class _Load:
    """One federation."""

    def __init__(self, root: Path, plan: LoadPlan, count: int) -> None:
        self._root, self._plan, self._count = root, plan, count
        self._at: dict[str, list[float]] = {}
        self._coordinator = {"peak_bytes": 0, "ready_bytes": 0, "seconds": 0.0}

    def run(self) -> dict[str, Any]:
        """Make the folders, start all processes, and wait for the end."""
        folders = make_folders(self._root / "federation", self._federation())
        coordinator = start_module(
            [
                "fedmedlora_cli",
                "coordinator",
                "serve",
                "--dir",
                str(folders.coordinator),
                "--until-closed",
                "--progress",
            ],
            self._root / "coordinator.log",
            stdout=subprocess.PIPE,
        )
        hosts = self._start_hosts(folders)
        try:
            self._follow(coordinator)
            for process in (coordinator, *hosts.values()):
                if process.wait(120):
                    raise ConfigError(f"a process ended with {process.returncode}: {self._last_words()}")
        finally:
            for process in (coordinator, *hosts.values()):
                process.kill()
                process.wait()
        costs = [json.loads(path.read_text(encoding="utf-8")) for path in hosts]
        return self._result(costs, folders.study)

    def _federation(self) -> FederationPlan:
        members = tuple(f"site-{number:03d}" for number in range(1, self._count + 1))
        ports = free_ports(2)
        addresses = (f"127.0.0.1:{ports[0]}", f"127.0.0.1:{ports[1]}")
        return FederationPlan(members, self._plan.rounds, self._plan.dimension, addresses=addresses)

    def _start_hosts(self, folders: Folders) -> dict[Path, subprocess.Popen[str]]:
        members = folders.study.member_ids
        hosts = {}
        for number in range(min(self._plan.hosts, self._count)):
            out = self._root / f"host-{number}.json"
            own = [str(folders.site(site)) for site in members[number :: self._plan.hosts]]
            command = ["fedmedlora_bench.load_sites", str(out), *own]
            hosts[out] = start_module(command, self._root / f"host-{number}.log")
        return hosts

    def _follow(self, coordinator: subprocess.Popen[str]) -> None:
        """Read the coordinator's progress to its end, and its account with the kernel at every line."""
        deadline = time.monotonic() + self._plan.seconds
        for line in coordinator.stdout or ():
            now, event = time.monotonic(), json.loads(line)["event"]
            self._at.setdefault(event, []).append(now)
            self._account(coordinator.pid, ready=event == "round.plan" and len(self._at[event]) == 1)
            if now > deadline:
                raise ConfigError(f"{self._count} sites: not over after {self._plan.seconds:.0f} s")

    def _account(self, pid: int, *, ready: bool) -> None:
        try:
            status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
            seconds = cpu_seconds(pid)
        except OSError:
            return  # it has just ended
        sizes = {line.split(":")[0]: line.split()[1] for line in status.splitlines() if line.startswith("Vm")}
        if ready and "VmRSS" in sizes:
            self._coordinator["ready_bytes"] = int(sizes["VmRSS"]) * 1024
        self._coordinator["peak_bytes"] = int(sizes.get("VmHWM", 0)) * 1024 or self._coordinator["peak_bytes"]
        self._coordinator["seconds"] = seconds

    def _last_words(self) -> str:
        for path in sorted(self._root.glob("*.log")):
            lines = path.read_text(encoding="utf-8").strip().splitlines()
            if lines:
                return f"{path.stem}: {lines[-1]}"
        return "it said nothing"

    def _result(self, costs: Sequence[Mapping[str, Any]], study: Study) -> dict[str, Any]:
        closed = self._at.get("round.closed", [])
        if len(closed) != self._plan.rounds:
            raise ConfigError(f"{self._count} sites: {len(closed)} rounds closed; {self._last_words()}")
        times = [end - begin for begin, end in zip(self._at["round.plan"], closed, strict=True)]
        marks = [(name, self._at[event][0]) for event, name in _STEPS.items()] + [("", closed[0])]
        steps = {name: after - at for (name, at), (_, after) in itertools.pairwise(marks)}
        sent, received = (sum(cost.get(key, 0) for cost in costs) for key in ("sent", "received"))
        seconds = sum(cost["seconds"] for cost in costs)
        return {
            "sites": self._count,
            "threshold": study.threshold,
            "graph": "complete" if study.secure_aggregation.graph is None else "sparse",
            "round_seconds": sum(times) / len(times),
            "steps": {name: round(value, 2) for name, value in steps.items()},
            "coordinator": {**self._coordinator, "received_bytes": sent, "sent_bytes": received},
            "site": {
                "seconds": seconds / self._count,
                "sent_bytes": sent // self._count,
                "received_bytes": received // self._count,
            },
            "hosts": [{"sites": cost["sites"], "peak_bytes": cost["peak_bytes"]} for cost in costs],
        }
