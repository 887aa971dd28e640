"""The federation that is attacked: a coordinator's process, a process for each site, and the attacker's."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

from fedmedlora_bench.federation_folders import FederationPlan, make_folders
from fedmedlora_bench.hostile.papers import make_papers
from fedmedlora_bench.local_processes import cpu_seconds, free_ports, start_module
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_core.errors import ConfigError

__all__ = ["WITHOUT_LIMITS", "Centre"]

WITHOUT_LIMITS: Final = {
    "connections": 100_000,
    "connections_per_address": 100_000,
    "new_connections_per_second": 1e6,
    "connections_per_site": 100_000,
    "streams_per_connection": 1000,
    "calls_per_second": 1e6,
    "handshake_seconds": 120,
}
"""Settings of `[peers]` that nobody meets."""
_COUNTED: Final = {
    "fedmedlora_coordinator_refused_calls": "reason",
    "fedmedlora_coordinator_limited_calls": "limit",
    "fedmedlora_coordinator_unread_calls": "method",
}


class Centre:
    """A running federation under attack; a context manager that ends every process.

    Attributes:
        ports: Of the federation and enrolment listeners, and of the metrics.
    """

    def __init__(
        self, root: Path, *, sites: int, rounds: int, dimension: int, limits: bool, scheduling: str
    ) -> None:
        """Make the folders, and start nothing."""
        self._root = root
        self.ports = free_ports(3)
        members = tuple(f"site-{number}" for number in range(1, sites + 1))
        addresses = (f"127.0.0.1:{self.ports[0]}", f"127.0.0.1:{self.ports[1]}")
        self._folders = make_folders(
            root / "federation", FederationPlan(members, rounds, dimension, addresses=addresses)
        )
        self._set_up(limits)
        self._scheduling = scheduling
        make_papers(root / "papers", self._folders, members[-1])
        self._members = members
        self._processes: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Centre:
        """Start the coordinator, the sites and the attacker."""
        folder = str(self._folders.coordinator)
        serve = ["fedmedlora_cli", "coordinator", "serve", "--dir", folder, "--until-closed", "--progress"]
        self._coordinator = self._start("coordinator", serve, stdout=subprocess.PIPE)
        for site in self._members:
            self._start(site, ["fedmedlora_cli", "site", "run", "--dir", str(self._folders.site(site))])
        papers = str(self._root / "papers")
        attacker = ["fedmedlora_bench.hostile.attacker", str(self.ports[0]), papers, self._scheduling]
        self._attacker = self._start(
            "attacker", attacker, stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=1
        )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End every process."""
        for process in self._processes:
            process.kill()
            process.wait()
            for pipe in filter(None, (process.stdin, process.stdout)):
                with suppress(BrokenPipeError):  # what the dead one has not read
                    pipe.close()

    def events(self) -> Iterator[tuple[str, float]]:
        """Read the coordinator's progress to its end: each event with the monotonic second it was seen."""
        for line in self._coordinator.stdout or ():
            yield json.loads(line)["event"], time.monotonic()
        if self._coordinator.wait(60):
            raise ConfigError(
                f"the coordinator ended with {self._coordinator.returncode}: {self._last_words()}"
            )

    def attack(self, name: str) -> None:
        """Begin an attack."""
        self._tell_attacker(name)

    def end_attack(self) -> dict[str, float]:
        """End it, and return what became of it."""
        self._tell_attacker("")
        line = self._attacker.stdout.readline() if self._attacker.stdout is not None else ""
        if not line:
            raise ConfigError(f"the attacker ended: {self._last_words('attacker')}")
        found: dict[str, float] = json.loads(line)
        return found

    def coordinator_seconds(self) -> float:
        """Processor time of the coordinator so far."""
        return cpu_seconds(self._coordinator.pid)

    def refused(self) -> dict[str, float]:
        """What the coordinator's metrics count as refused, by reason, limit, or method of an unread call."""
        page = f"http://127.0.0.1:{self.ports[2]}/metrics"
        with urllib.request.urlopen(page, timeout=20) as reply:  # nosec B310 - the scheme is written above
            text = reply.read().decode("utf-8")
        found: dict[str, float] = {}
        for family in text_string_to_metric_families(text):
            label = _COUNTED.get(family.name)
            for sample in family.samples if label is not None else ():
                found[f"{label}={sample.labels[str(label)]}"] = sample.value
        return found

    def _set_up(self, limits: bool) -> None:
        path = Folder(self._folders.coordinator).config
        settings = CoordinatorSettings.load(path)
        metrics = settings.metrics.model_copy(update={"listen": str(self.ports[2])})
        peers = settings.peers.model_copy(update={} if limits else WITHOUT_LIMITS)
        changed = settings.model_copy(update={"metrics": metrics, "peers": peers})
        path.write_text(changed.to_toml(), encoding="utf-8")

    def _tell_attacker(self, line: str) -> None:
        if self._attacker.stdin is None or self._attacker.poll() is not None:
            raise ConfigError(f"the attacker ended: {self._last_words('attacker')}")
        self._attacker.stdin.write(line + "\n")
        self._attacker.stdin.flush()

    def _start(self, name: str, arguments: list[str], **more: Any) -> subprocess.Popen[str]:
        """Start a module, to be ended with the others."""
        process = start_module(arguments, self._root / f"{name}.log", **more)
        self._processes.append(process)
        return process

    def _last_words(self, name: str = "coordinator") -> str:
        lines = (self._root / f"{name}.log").read_text(encoding="utf-8").strip().splitlines()
        return lines[-1] if lines else "it said nothing"
