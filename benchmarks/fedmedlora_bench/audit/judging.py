"""Seconds and memory of the verifier over one bundle, measured in a process of its own.

``python -m fedmedlora_bench.audit.judging BUNDLE TRUST --packed FILE`` (--workers, --repeats) prints one JSON
object. The memory is that of the first pass: a peak cannot be taken back, so that of the packed bundle is
measured in a further process (`--memory`). Then the signatures alone, the verifier in one process, the
verifier in several, and that over the packed bundle run in turn, and the medians count.

Linux only: the high-water mark is reset through /proc.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from fedmedlora_audit.bundle import read_files
from fedmedlora_audit.checkpoint import Checkpoint
from fedmedlora_audit.cosignature import checkpoint_of, cosignature_message, witness_keys
from fedmedlora_audit.events import parse_event
from fedmedlora_audit.note import Claim, VerifierKey, holds, parse_note
from fedmedlora_audit.tiles import read_entries
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import Verdict, verify_bundle
from fedmedlora_bench.resident import forget_peak, peak


def judge_apart(bundle: Path, trust: Path, *, packed: Path, workers: int, repeats: int) -> dict[str, Any]:
    """Measure the verifier over a bundle and over the same bundle packed; see `main`.

    Raises:
        RuntimeError: A process failed; the message is its last line.
    """
    common = [str(trust), "--workers", str(workers), "--repeats", str(repeats)]
    found = _apart(str(bundle), *common, "--packed", str(packed))
    found["packed"] |= _apart(str(packed), *common, "--memory")
    return found


def _apart(*arguments: str) -> dict[str, Any]:
    command = [sys.executable, "-m", "fedmedlora_bench.audit.judging", *arguments]
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip().splitlines()[-1])
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def claims_of(bundle: Path, trust: Trust) -> list[Claim]:
    """Return every signature that the verifier checks in a lawful bundle: events, heads, witnesses."""
    files, _ = read_files(bundle)
    head = checkpoint_of(files["checkpoint"])
    notes, _ = read_entries(files, head.size)
    members = trust.members.items()
    keys = {name: VerifierKey.parse(member.event_vkey) for name, member in members}
    keys["coordinator"] = VerifierKey.parse(trust.coordinator_vkey)
    claims = []
    for note in notes:
        unverified = parse_event(note)
        claims.append(unverified.claim(keys[unverified.event.actor.id]))
    witnesses = witness_keys(trust.members)
    log_key = VerifierKey.parse(trust.log_vkey)
    for path, note in files.items():
        if path == "checkpoint" or path.startswith("heads/"):
            claims.append(log_key.claim(parse_note(note)))
            claims.extend(_cosignatures(note, checkpoint_of(note), witnesses))
    return claims


def _cosignatures(note: bytes, head: Checkpoint, witnesses: dict[str, VerifierKey]) -> list[Claim]:
    return [
        Claim(
            witnesses[line.name].algorithm,
            witnesses[line.name].public,
            line.signature[8:],
            cosignature_message(head, int.from_bytes(line.signature[:8], "big"), witnesses[line.name]),
        )
        for line in parse_note(note).lines
        if line.name in witnesses
    ]


def memory(bundle: Path, trust: Trust, *, workers: int) -> tuple[dict[str, int], Verdict]:
    """Measure the memory of one pass, this process's first."""
    gc.collect()
    base = forget_peak()
    verdict = verify_bundle(bundle, trust, workers=workers)
    above = peak() - base
    worker_peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"peak_above_base_bytes": above, "worker_peak_bytes": worker_peak if workers > 1 else 0}, verdict


def measure(bundle: Path, packed: Path, trust: Trust, *, workers: int, repeats: int) -> dict[str, Any]:
    """Measure memory in a first pass, then seconds in turn."""
    used, verdict = memory(bundle, trust, workers=workers)
    text, events = _text(verdict), verdict.events
    del verdict
    claims = claims_of(bundle, trust)
    passes: dict[str, list[tuple[float, float]]] = {"signatures": [], "one": [], "several": [], "packed": []}
    for _ in range(repeats):
        passes["signatures"].append(_timed(lambda: all(map(holds, claims)))[0])
        for name, path, count in (
            ("one", bundle, 1),
            ("several", bundle, workers),
            ("packed", packed, workers),
        ):
            spent, again = _timed(partial(verify_bundle, path, trust, workers=count))
            passes[name].append(spent)
            if _text(again) != text:
                raise RuntimeError("the verdict depends on the number of workers, or on packing")
    wall = {name: median(spent[0] for spent in found) for name, found in passes.items()}
    cpu = {name: median(spent[1] for spent in found) for name, found in passes.items()}
    return {
        "events": events,
        "signatures": len(claims),
        "verdict": json.loads(text)["verdict"],
        "signature_seconds": wall["signatures"],
        "signature_cpu_seconds": cpu["signatures"],
        "verify_seconds": wall["several"],
        "verify_cpu_seconds": cpu["several"],
        "verify_over_signatures": wall["several"] / wall["signatures"],
        "one_process": {
            "verify_seconds": wall["one"],
            "verify_cpu_seconds": cpu["one"],
            "verify_over_signatures": wall["one"] / wall["signatures"],
            "verify_over_signatures_cpu": cpu["one"] / cpu["signatures"],
        },
        **used,
        "packed": {
            "bytes": packed.stat().st_size,
            "verify_seconds": wall["packed"],
            "verify_cpu_seconds": cpu["packed"],
            "verify_over_folder_cpu": cpu["packed"] / cpu["several"],
        },
    }


def _text(verdict: Verdict) -> str:
    return json.dumps(verdict.to_json())


def _timed(work: Callable[[], Any]) -> tuple[tuple[float, float], Any]:
    """Return seconds of the wall clock and of processors, workers' included, and the result."""
    gc.collect()
    cpu, start = _cpu(), time.perf_counter()
    result = work()
    return (time.perf_counter() - start, _cpu() - cpu), result


def _cpu() -> float:
    used = os.times()
    return used.user + used.system + used.children_user + used.children_system


def main() -> None:
    """Measure one bundle and print what was found."""
    parser = argparse.ArgumentParser()
    parser.add_argument("bundle", type=Path)
    parser.add_argument("trust", type=Path)
    parser.add_argument("--packed", type=Path)
    parser.add_argument("--memory", action="store_true", help="measure the memory of one pass only")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=1)
    options = parser.parse_args()
    trust = Trust.load(options.trust)
    found: dict[str, Any]
    if options.memory:
        found, _ = memory(options.bundle, trust, workers=options.workers)
    else:
        found = measure(
            options.bundle, options.packed, trust, workers=options.workers, repeats=options.repeats
        )
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
