"""What `coordinator status` shows: what the folder says, what the process says, and what is alarming."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.reports import status
from fedmedlora_protos.operating.alarms import AWAY_SECONDS, STUCK_SECONDS, Alarm, vital_alarms
from fedmedlora_protos.operating.live_file import ailments, is_running, read_live

SLOW_WRITE_MS: Final = 250.0
_LIVE_ONLY: Final = (
    "step_seconds", "connected", "away_seconds", "silent_steps", "refused_steps", "aborted_reasons",
    "log_bytes", "cosigned_entries", "cosigned_heads", "head_agrees", "traffic", "refused_calls",
    "limited_calls", "store_write_ms", "blob_bytes", "disk_free_bytes", "disk_total_bytes",
    "certificate_days", "clock_jumps", "problems",
)  # fmt: skip
_PATIENT: Final = frozenset({"train", "idle", "charter", "closed"})  # may take days, or wait for nobody


def look(root: Path) -> dict[str, Any]:
    """Read everything once: flat, for people and for scripts.

    Args:
        root: The coordinator's folder; it may be being served.

    Raises:
        ConfigError: It is not a coordinator's folder.
        StoreError: The store cannot be read or breaks the law.
    """
    found = status(root)
    return joined(found, live(root))


def live(root: Path) -> dict[str, Any] | None:
    """Read what the serving process said last; None if none ever did."""
    return read_live(Folder(root).live)


def health(root: Path) -> list[str]:
    """Return why the serving process is not well; nothing when it is.

    Raises:
        ConfigError: It is not a coordinator's folder.
    """
    folder = Folder(root)
    folder.require()
    return ailments(folder.live)


def joined(found: Mapping[str, Any], said: Mapping[str, Any] | None) -> dict[str, Any]:
    """Put what a process said beside what the folder says; without a process, what it said last.

    Args:
        found: `reports.status`.
        said: The live file.
    """
    running = is_running(said)
    known = {key: said[key] for key in _LIVE_ONLY if said is not None and key in said}
    if not running:
        known = {key: value for key, value in known.items() if key not in ("connected", "step_seconds")}
        known |= {"connected": [], "away_seconds": {}, "problems": []}
    for key in ("round", "step", "waiting_for", "entries"):  # newer than the folder was read
        if running and said is not None and key in said:
            known[key] = said[key]
    merged = {**found, **known, "running": running}
    return {**merged, "alarms": [[alarm.name, alarm.sentence] for alarm in alarms(merged)]}


def alarms(facts: Mapping[str, Any]) -> list[Alarm]:
    """Return what an operator should look at now, worst first."""
    if facts.get("study") is None:
        return vital_alarms(facts)
    going = not facts.get("run_closed")
    found = _doubts(facts)
    if going and not facts["running"]:
        found.append(Alarm("ProcessDown", "no process serves this folder, and the study is not closed"))
    if going:
        found += _delays(facts)
    if facts.get("aborted"):
        reasons = ", ".join(f"{n} {reason}" for reason, n in (facts.get("aborted_reasons") or {}).items())
        found.append(
            Alarm("RoundAborted", f"{facts['aborted']} rounds were aborted: {reasons or 'see the log'}")
        )
    refused = {
        reason: n for reason, n in (facts.get("refused_steps") or {}).items() if reason != "log_forked"
    }
    if refused:
        found.append(Alarm("StepRefused", ", ".join(f"{n} {reason}" for reason, n in refused.items())))
    limited = sum((facts.get("limited_calls") or {}).values())
    limited += sum((facts.get("refused_calls") or {}).get(reason, 0) for reason in ("too_many", "too_large"))
    if limited:
        found.append(Alarm("LimitsHit", f"{limited} calls were held to a limit since the start"))
    if facts.get("store_write_ms", 0.0) > SLOW_WRITE_MS:
        found.append(Alarm("StoreSlow", f"a durable write takes {facts['store_write_ms']:.0f} ms"))
    return [*found, *vital_alarms(facts)]


def _doubts(facts: Mapping[str, Any]) -> list[Alarm]:
    """Signs that there are two histories."""
    found = []
    if facts.get("head_agrees") is False:
        found.append(Alarm("LogAndHeadDisagree", "the store's last head is not the head file's"))
    if forked := (facts.get("refused_steps") or {}).get("log_forked"):
        found.append(Alarm("LogAndHeadDisagree", f"{forked} times a site says that the log is forked"))
    return found


def _delays(facts: Mapping[str, Any]) -> list[Alarm]:
    found = [
        Alarm("SiteAway", f"site {site} has been away for {seconds / 60:.0f} minutes")
        for site, seconds in sorted((facts.get("away_seconds") or {}).items())
        if seconds > AWAY_SECONDS
    ]
    stuck = facts.get("step_seconds", 0.0)
    if facts.get("step") not in _PATIENT and stuck > STUCK_SECONDS:
        found.append(Alarm("RoundStuck", f"step {facts['step']} has lasted {stuck / 60:.0f} minutes"))
    return found
