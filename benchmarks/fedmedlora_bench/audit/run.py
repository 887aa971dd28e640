"""What the audit trail costs: judging a whole study, and one event on its way into the log."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fedmedlora_bench.audit.demo_run import DemoRun
from fedmedlora_bench.audit.judging import judge_apart
from fedmedlora_bench.audit.study_log import StudyLog
from fedmedlora_bench.progress import Progress
from fedmedlora_bench.secagg.case import cores
from fedmedlora_bench.secagg.run import machine

MEMORY_FOLDER = Path("/dev/shm")  # noqa: S108 # nothing outlives the run # nosec B108
"""Where the log that only gets judged is made, where there is one; durable writes are measured apart."""
WRITTEN_ROUNDS = 3


def run_audit(
    *,
    rounds: int,
    sites: int,
    workers: int | None = None,
    repeats: int = 3,
    demo: DemoRun | None = None,
    progress: Progress,
) -> dict[str, Any]:
    """Measure everything in one run.

    Args:
        rounds: Rounds of the log that is judged; >= 1.
        sites: Members; >= 4.
        workers: Processes of the verifier; all cores when None.
        repeats: Passes of the verifier; medians.
        demo: A demo whose rounds the cost of the log is held against.
        progress: Where to draw.

    Returns:
        The figures; ``load`` is the machine's load average before and after.
    """
    count, before = workers or cores(), os.getloadavg()[0]
    progress.begin("write path, on the disk", min(rounds, WRITTEN_ROUNDS))
    written = _written(min(rounds, WRITTEN_ROUNDS), sites, progress.advance)
    progress.begin("a lawful log", rounds)
    with tempfile.TemporaryDirectory() as folder:
        bundle, packed, trust = (Path(folder) / name for name in ("bundle", "bundle.tar.gz", "trust.json"))
        _make((bundle, packed), trust, rounds, sites, progress.advance)
        size = sum(path.stat().st_size for path in bundle.rglob("*") if path.is_file())
        progress.begin("judging it", 1)
        judged = judge_apart(bundle, trust, packed=packed, workers=count, repeats=repeats)
        progress.advance()
    return {
        "schema": "fedmedlora-bench-audit/1",
        "rounds": rounds,
        "sites": sites,
        "workers": count,
        "repeats": repeats,
        **judged,
        "bundle_bytes": size,
        "bundle_bytes_per_event": size / judged["events"],
        "write": written,
        **({} if demo is None else {"demo": demo.share_of_log(written)}),
        "load": {"before": before, "after": os.getloadavg()[0]},
        "machine": machine(),
    }


def _make(
    bundles: tuple[Path, Path], trust: Path, rounds: int, sites: int, on_round: Callable[[], None]
) -> None:
    memory = MEMORY_FOLDER if os.access(MEMORY_FOLDER, os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        log = StudyLog(Path(folder), rounds=rounds, sites=sites).play(on_round)
        for bundle in bundles:
            log.write_bundle(bundle)
        log.trust.write(trust)
        log.close()


def _written(rounds: int, sites: int, on_round: Callable[[], None]) -> dict[str, Any]:
    """Seconds of each part of the write path for one event, and of the log in one round."""
    with tempfile.TemporaryDirectory() as folder:
        log = StudyLog(Path(folder), rounds=rounds, sites=sites).play(on_round)
        log.close()
        spent, events = log.spent, log.ledger.size
        grown = sum(entry.event.round is not None for entry in log.ledger.entries) / rounds
        own = spent.events["site_sign"] / sites / rounds
    coordinator, mirror = spent.per_event("coordinator"), spent.per_event("site_mirror")
    sign = spent.per_event("site_sign")
    return {
        "rounds": rounds,
        "events": events,
        "events_per_round": grown,
        "site_sign_seconds_per_event": sign,
        "coordinator_seconds_per_event": coordinator,
        "site_mirror_seconds_per_event": mirror,
        "coordinator_seconds_per_round": coordinator * grown,
        "site_seconds_per_round": mirror * grown + sign * own,
    }
