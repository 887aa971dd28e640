"""The whole measurement: passes of both sides in turn, medians, ratios, memory and machine."""

from __future__ import annotations

import os
import platform
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fedmedlora_bench.progress import Progress
from fedmedlora_bench.secagg.case import Case, cores
from fedmedlora_bench.secagg.children import Child, our_child, peer_child
from fedmedlora_bench.secagg.stopwatch import Parts, median_parts
from fedmedlora_core.errors import ConfigError

SCHEMA = "fedmedlora-bench-secagg/1"
PEER_ENVIRONMENT = Path(".venv-peer")
_MEMORY = ("site-memory", "coordinator-memory")


@dataclass(frozen=True)
class Peer:
    """A peer by name and the Python that has it installed."""

    name: str
    python: Path

    @classmethod
    def installed(cls, name: str, environment: Path = PEER_ENVIRONMENT) -> Peer:
        """Find a peer's environment.

        Raises:
            ConfigError: It is not there (the operator's).
        """
        if name != "flwr":
            raise ConfigError(f"no peer is called '{name}'; there is flwr")
        python = environment / "bin" / "python"
        if not python.exists():
            raise ConfigError(f"{environment} is missing: run `make bench-peer`")
        return cls(name, python.absolute())


def run_secagg(case: Case, *, repeats: int, peer: Peer | None, progress: bool = True) -> dict[str, Any]:
    """Measure one round of secure aggregation on our side and, if asked, on a peer's.

    Both sides get the same updates. After a warm-up pass of each, the passes take turns.

    Args:
        case: The conditions; its folder is made here.
        repeats: Counted passes of each side; >= 1.
        peer: Whom to run beside.
        progress: Draw a bar on a terminal.

    Returns:
        The figures as `--json` writes them.

    Raises:
        MeasurementError: A child process failed.
        ConfigError: No repeats.
    """
    if repeats < 1:
        raise ConfigError("at least one repeat")
    with tempfile.TemporaryDirectory(prefix="fedmedlora-bench-") as folder, Progress(enabled=progress) as bar:
        case = replace(case, folder=folder)
        bar.begin("secure aggregation", 2 + (repeats + 1) * (2 if peer else 1) + len(_MEMORY))
        bar.advance("drawing the updates")
        case.draw_updates()
        ours, theirs, versions, suites = _take_turns(case, repeats, peer, bar)
        memory = {}
        for what in _MEMORY:
            bar.advance(what.replace("-", " "))
            with our_child(what, case) as child:
                memory[what.partition("-")[0]] = child.read()
        bar.advance("done")
        return _result(case, ours, theirs) | {
            "repeats": repeats,
            "key_agreement": suites,
            "memory": memory,
            "versions": versions,
            "machine": machine(),
        }


Passes = list[dict[str, Any]]


def _take_turns(
    case: Case, repeats: int, peer: Peer | None, bar: Progress
) -> tuple[Passes, Passes, dict[str, Any], dict[str, Any]]:
    """Run the warm-up and the counted passes; returns both sides' passes, versions and the suites' cost."""
    ours: Passes = []
    theirs: Passes = []
    with ExitStack() as stack:
        us = stack.enter_context(our_child("rounds", case))
        versions = {"ours": us.read()}
        them: Child | None = None
        if peer is not None:
            them = stack.enter_context(peer_child(peer.python, case))
            versions["peer"] = them.read()
            bar.advance(f"{peer.name}: warm-up")
            them.ask()
        bar.advance("ours: warm-up")
        us.ask("keep")
        suites = us.ask("suites")
        for number in range(1, repeats + 1):
            if them is not None and peer is not None:
                bar.advance(f"{peer.name}: pass {number} of {repeats}")
                theirs.append(them.ask() | {"name": peer.name})
                mean = np.fromfile(theirs[-1].pop("mean"), dtype=np.float32)
                theirs[-1]["max_error"] = case.deviation(mean)
            bar.advance(f"ours: pass {number} of {repeats}")
            ours.append(us.ask())
    return ours, theirs, versions, suites


def _result(case: Case, ours: Passes, theirs: Passes) -> dict[str, Any]:
    """Condense the passes of both sides."""
    mine, peer = _side(ours), _side(theirs) if theirs else None
    ratios = {
        f"{role}_{kind}_ratio": _ratio(peer, mine, role, kind) if peer else None
        for kind in ("wall", "cpu")
        for role in ("client", "coordinator")
    }
    masks = [parts["wall"]["masks"] for one in ours for parts in one["clients"]]
    raw = [seconds for one in ours for seconds in one["raw_aes"]]
    return {
        "schema": SCHEMA,
        "params": case.params,
        "sites": case.sites,
        "dropped": case.drop,
        "threshold": case.threshold,
        "wire_bits": case.wire_bits,
        "threads": case.threads,
        "suite": case.suite,
        "peer": theirs[0]["name"] if theirs else None,
        **ratios,
        "upload_bytes_per_value": ours[0]["upload_bytes"] / case.params,
        "peer_upload_bytes_per_value": theirs[0]["upload_bytes"] / case.params if theirs else None,
        "mask_over_raw_aes_ratio": median(m / r for m, r in zip(masks, raw, strict=True)),
        "raw_aes_seconds": median(raw),
        "hash_check_seconds": median(one["hash_check"] for one in ours),
        "seconds": {"ours": mine} | ({"peer": peer} if peer else {}),
        "max_error": max(one["max_error"] for one in ours),
        "error_bound": ours[0]["error_bound"],
        "peer_max_error": max(one["max_error"] for one in theirs) if theirs else None,
    }


def _side(passes: Passes) -> dict[str, Parts]:
    """Medians of one side: a client's over all clients of all passes, the coordinator's over the passes."""
    return {
        "client": median_parts([parts for one in passes for parts in one["clients"]]),
        "coordinator": median_parts([one["coordinator"] for one in passes]),
    }


def _ratio(peer: dict[str, Parts], ours: dict[str, Parts], role: str, kind: str) -> float:
    """How many times our seconds the peer takes."""
    theirs, mine = ((side[role]["wall"] if kind == "wall" else side[role]["cpu"]) for side in (peer, ours))
    return theirs["total"] / mine["total"]


def machine() -> dict[str, Any]:
    """Say what the figures are figures of."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file():
        lines = info.read_text(encoding="utf-8").splitlines()
        names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
        model = names[0] if names else model
    return {"cores": cores(), "cpu": model, "system": platform.system(), "load": os.getloadavg()[0]}
