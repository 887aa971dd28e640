"""`--ray`: a sweep and a simulated federation on one and on two Ray nodes, with workers and driver killed.

Ray is an extra; without it these tests are skipped. The nodes of a cluster are processes of this machine with
resources of their own (`ray.cluster_utils`), and each driver is a process, as an operator starts it.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fedmedlora_bench.ie import run_ie
from fedmedlora_testkit.models import write_encoder
from fedmedlora_testkit.ray_grid import TINY

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'fedmedlora[ray]'"
    ),
]
PATIENCE = 300.0
FIGURES = ("systems", "federated_minus", "by_seed")


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_encoder(tmp_path_factory.mktemp("encoder"))


@pytest.fixture(scope="module")
def alone(encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], dict[str, bytes]]:
    """Figures and adapters of the same grid in one process, without Ray."""
    work = tmp_path_factory.mktemp("alone")
    return run_ie(base=encoder, options=TINY, work=work, show_progress=False), adapters(work)


def adapters(work: Path) -> dict[str, bytes]:
    """Every trained adapter's bytes by key of its job."""
    return {
        file.parts[-3]: file.read_bytes() for file in sorted(work.glob("*/adapter/adapter_model.safetensors"))
    }


@dataclass(frozen=True)
class Nodes:
    """A cluster of this machine.

    Args:
        address: Of its head.
        raylets: Process of each node.
    """

    address: str
    raylets: list[int]

    def busy(self) -> list[int]:
        """Process ids of the workers that run a job, one of each node that has any."""
        workers = [[child for child in _children(raylet) if _runs_job(child)] for raylet in self.raylets]
        return [found[0] for found in workers if found]


def _runs_job(process: int) -> bool:
    return b"ray::run_on_node" in _read(Path(f"/proc/{process}/cmdline"))


def _children(parent: int) -> list[int]:
    return [
        int(pid) for file in Path(f"/proc/{parent}/task").glob("*/children") for pid in _read(file).split()
    ]


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError:  # the process has ended
        return b""


@contextmanager
def cluster(count: int) -> Iterator[Nodes]:
    """Start nodes with one core each, and end them."""
    command = [sys.executable, "-m", "fedmedlora_testkit.ray_nodes", str(count)]
    with subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    ) as owner:
        assert owner.stdout is not None
        lines = iter(owner.stdout.readline, "")
        yield Nodes(**json.loads(next(line for line in lines if line.startswith("{"))))
        owner.communicate(timeout=PATIENCE)


def environment() -> dict[str, str]:
    """That of a process that finds these packages and knows of no cluster."""
    own = {key: value for key, value in os.environ.items() if not key.startswith("RAY_")}
    own |= {"PYTHONPATH": os.pathsep.join(entry for entry in sys.path if entry)}
    return own | {"RAY_worker_niceness": "0"}  # Ray's workers give way to all else, and a test would wait


def drive(work: Path, *options: str, address: str | None) -> subprocess.Popen[str]:
    """Start a driver; without an address it makes a node of its own."""
    settings = environment() | ({} if address is None else {"RAY_ADDRESS": address})
    command = [sys.executable, "-m", "fedmedlora_testkit.ray_grid", str(work), *options]
    return subprocess.Popen(command, env=settings, stderr=subprocess.PIPE, text=True)


def watch(driver: subprocess.Popen[str], condition: Callable[[], bool]) -> None:
    """Look until something is so, while a driver runs."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert driver.poll() is None, f"the driver ended first: {driver.communicate()[1][-2000:]}"
        assert time.monotonic() < end, "it never came to that"
        time.sleep(0.02)


def finished(work: Path) -> dict[str, int]:
    """When each finished job was finished."""
    return {file.parent.name: file.stat().st_mtime_ns for file in work.glob("*/result.json")}


def ended(driver: subprocess.Popen[str]) -> str:
    """Wait for a driver that should succeed."""
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 0, said[-2000:]
    return said


def test_one_node_gives_the_bytes_of_one_process(
    encoder: Path, alone: tuple[dict[str, Any], dict[str, bytes]], tmp_path: Path
) -> None:
    out, work = tmp_path / "ie.json", tmp_path / "work"
    ended(drive(work, "--base", str(encoder), "--out", str(out), address=None))
    found = json.loads(out.read_text())
    assert {key: found[key] for key in FIGURES} == {key: alone[0][key] for key in FIGURES}
    assert adapters(work) == alone[1]
    assert len(alone[1]) == 5, "three hospitals, the federation, all notes pooled"


def test_two_nodes_outlive_a_driver_and_a_worker(
    encoder: Path, alone: tuple[dict[str, Any], dict[str, bytes]], tmp_path: Path
) -> None:
    out, work = tmp_path / "ie.json", tmp_path / "work"
    options = ("--base", str(encoder), "--out", str(out))
    with cluster(2) as nodes:
        address = nodes.address
        first = drive(work, *options, address=address)
        watch(first, lambda: len(nodes.busy()) == 2)
        watch(first, lambda: bool(finished(work)))
        first.kill()
        first.communicate()
        kept = finished(work)

        second = drive(work, *options, address=address)
        watch(second, lambda: len(nodes.busy()) == 2)
        victim = nodes.busy()[0]
        os.kill(victim, signal.SIGKILL)
        ended(second)
    after = finished(work)
    assert {key: after[key] for key in kept} == kept, "what was finished before the kill was not run again"
    found = json.loads(out.read_text())
    assert {key: found[key] for key in FIGURES} == {key: alone[0][key] for key in FIGURES}
    assert adapters(work) == alone[1]


def test_what_goes_wrong_on_a_node_is_one_line(tmp_path: Path) -> None:
    with cluster(1) as nodes:
        address = nodes.address

        def errand(title: str) -> tuple[int, str, list[str]]:
            work = tmp_path / title
            driver = drive(work, "--errand", title, address=address)
            _, said = driver.communicate(timeout=PATIENCE)
            return driver.returncode, said, (work / "attempts").read_text().split()

        assert errand("refuse") == (2, "notes.jsonl:3: is damaged\n", ["refuse"])
        code, said, attempts = errand("die")
        assert (code, len(attempts)) == (2, 4)
        assert said.startswith("die: what ran it died 4 times (")
        assert "\n" not in said.strip()
        assert errand("look")[0] == 0
        assert json.loads((tmp_path / "look/look/result.json").read_text())["gpu"] == "0", "one of its own"
    driver = drive(tmp_path / "gone", "--errand", "look", address=address)
    _, said = driver.communicate(timeout=PATIENCE)
    assert driver.returncode == 2
    assert said.startswith(f"the Ray cluster at {address} does not answer: ")
