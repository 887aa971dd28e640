"""`fedmedlora bench step`: our training step and a bare PEFT loop, each in processes of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fedmedlora_bench.cost.estimates import Workload, training_bytes
from fedmedlora_bench.cost.models import write_random
from fedmedlora_bench.cost.run import MOST_STEP_RATIO
from fedmedlora_bench.cost.shapes import shape_of
from fedmedlora_bench.ie.setting import profile_text
from fedmedlora_bench.secagg.run import machine
from fedmedlora_bench.step.plan import StepPlan
from fedmedlora_bench.step.side import Place, Side, SideFigures
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.profile import Profile

__all__ = ["MOST_BYTES", "run_step"]

MOST_BYTES = 16 * 2**30
"""Of a GPU that an 8B model under QLoRA has to fit."""
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}

Say = Callable[[str], None]


def run_step(plan: StepPlan, *, say: Say, work: Path | None = None) -> dict[str, Any]:
    """Measure both sides one after the other.

    Args:
        plan: What is measured.
        say: Progress.
        work: Folder that keeps the random weights for the next run; a temporary one when None.

    Returns:
        Memory and tokens a second of each side, and the bounds where they are measured on a GPU.

    Raises:
        ConfigError: This machine lacks what the plan asks for, or a process failed (the operator's).
    """
    profile = plan.settings()
    devices = plan.devices(profile)
    with tempfile.TemporaryDirectory(prefix="fedmedlora-step-") as scratch:
        folder = plan.base or _weights(plan, profile, work or Path(scratch), say)
        sides: dict[str, Any] = {}
        # With layers spread there is no bare loop that a reader would write: ours stands alone.
        for side in ("ours",) if plan.shard else ("ours", "bare"):
            say(f"{plan.profile}: {plan.steps} steps, {side}")
            found = _run_side(plan, profile, folder, devices, side, Path(scratch))  # type: ignore[arg-type]
            sides[side] = _figures(profile, found)
    return _result(plan, profile, sides)


def _weights(plan: StepPlan, profile: Profile, root: Path, say: Say) -> Path:
    """Random weights; those of an earlier run in the same folder are taken again."""
    name = profile.base.architecture if profile.base else ""
    folder = root / (f"{name}-small" if plan.small else name)
    if (folder / "config.json").is_file():
        return folder
    root.mkdir(parents=True, exist_ok=True)
    needed = 0 if plan.small else 2 * shape_of(profile).parameters
    free = shutil.disk_usage(root).free
    if free < needed:
        raise ConfigError(
            f"{root}: the random weights need {needed / 1e9:.0f} GB, {free / 1e9:.0f} GB are free;"
            " name another folder with --work"
        )
    say(f"{plan.profile}: writing random weights")
    draft = folder.with_name(f".{folder.name}")
    shutil.rmtree(draft, ignore_errors=True)
    write_random(profile, draft, small=plan.small)
    return draft.rename(folder)


def _run_side(
    plan: StepPlan, profile: Profile, folder: Path, devices: Sequence[str], side: Side, scratch: Path
) -> list[SideFigures]:
    """Start the processes of one side and wait for their figures."""
    meeting = scratch / f"meeting-{side}"
    environment = {**os.environ, **_LOOPBACK, "OMP_NUM_THREADS": "1", "MALLOC_TRIM_THRESHOLD_": "0"}
    environment["PYTHONPATH"] = os.pathsep.join(entry for entry in sys.path if entry)
    running = []
    for number, device in enumerate(devices):
        place = Place(
            side, profile_text(profile), str(folder), device, number, len(devices), str(meeting),
            plan.shard, plan.steps,
        )  # fmt: skip
        command = [sys.executable, "-m", "fedmedlora_bench.step.side", json.dumps(asdict(place))]
        running.append(
            subprocess.Popen(
                command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
            )
        )
    return _collect(running, side)


def _collect(running: Sequence[subprocess.Popen[str]], side: str) -> list[SideFigures]:
    """Figures of all processes; when one fails the others, which wait for it, are ended."""
    try:
        found = []
        for process in running:
            said, complained = process.communicate()
            if process.returncode:
                lines = complained.strip().splitlines() or [f"ended with code {process.returncode}"]
                raise ConfigError(f"{side}: {lines[-1][:300]}")
            found.append(SideFigures(**json.loads(said.splitlines()[-1])))
        return found
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.communicate()


def _figures(profile: Profile, found: Sequence[SideFigures]) -> dict[str, Any]:
    """One side: memory of the process that took most, seconds of the slowest."""
    seconds = max(one.step_seconds for one in found)
    tokens = profile.training.batch_size * profile.training.max_tokens * len(found)
    return {
        "loaded_bytes": max(one.loaded_bytes for one in found),
        "peak_bytes": max(one.peak_bytes for one in found),
        "reserved_bytes": max(one.reserved_bytes for one in found),
        "step_seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "first_loss": sum(one.first_loss for one in found) / len(found),
        "device": found[0].device,
    }


def _result(plan: StepPlan, profile: Profile, sides: Mapping[str, Any]) -> dict[str, Any]:
    training, ours, bare = profile.training, sides["ours"], sides.get("bare")
    load = Workload(training.batch_size, training.max_tokens)
    measured = ours["device"] != "cpu"
    ratio = None if bare is None else ours["tokens_per_second"] / bare["tokens_per_second"]
    wanted = {"peak_bytes": MOST_BYTES, "throughput_ratio": 1 / MOST_STEP_RATIO} if measured else None
    return {
        "command": "bench step",
        "profile": plan.profile,
        "base_name": profile.base.name if profile.base else "",
        "weights": "given" if plan.base else "random",
        "small": plan.small,
        "processes": plan.processes,
        "shard": plan.shard,
        "rows": training.batch_size,
        "tokens": training.max_tokens,
        "steps": plan.steps,
        "quantisation": training.quantisation,
        "compute_dtype": training.compute_dtype,
        "gradient_checkpointing": bool(training.gradient_checkpointing),
        "ours": ours,
        "bare": bare,
        "throughput_ratio": ratio,
        "loss_difference": None if bare is None else abs(ours["first_loss"] - bare["first_loss"]),
        "computed_peak_bytes": None if plan.small else training_bytes(shape_of(profile), profile, load),
        "wanted": wanted,
        "met": None if wanted is None else _met(ours, ratio, wanted),
        "versions": {name: version(name) for name in ("torch", "transformers", "peft")},
        "machine": machine(),
    }


def _met(ours: Mapping[str, Any], ratio: float | None, wanted: Mapping[str, float]) -> bool:
    fits = ours["peak_bytes"] <= wanted["peak_bytes"]
    return fits and (ratio is None or ratio >= wanted["throughput_ratio"])
