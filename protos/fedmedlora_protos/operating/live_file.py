"""The file in which a running process says what it alone knows: who is connected, how far it is, what hurts.

`status --watch` and `health` read it beside the process and after it. It is replaced whole and never synced:
nothing depends on it, and a full disk must not be made worse by it.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

FRESH_SECONDS: Final = 30.0


def write_live(path: Path, facts: Mapping[str, Any]) -> None:
    """Replace the file; a disk that refuses is passed over in silence, since `facts` says so elsewhere."""
    temporary = path.with_name(f".{path.name}.tmp")
    with suppress(OSError):
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(json.dumps({**facts, "at": time.time()}).encode())
        temporary.replace(path)


def read_live(path: Path) -> dict[str, Any] | None:
    """Return what a process wrote last, and as `fresh` whether that was a moment ago; None for nothing."""
    try:
        found = json.loads(path.read_bytes())
        fresh = abs(time.time() - float(found["at"])) < FRESH_SECONDS
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return {**found, "fresh": fresh}


def ailments(path: Path) -> list[str]:
    """Return why the process behind a live file is not well; nothing when it is (`health`, for probes)."""
    found = read_live(path)
    if found is None:
        return ["not_running"]
    if not found["fresh"]:
        return ["silent"]
    return [str(problem) for problem in found.get("problems", ())]


def is_running(live: Mapping[str, Any] | None) -> bool:
    """Tell whether the process behind what was read was there a moment ago and was not ending."""
    return live is not None and bool(live["fresh"]) and "stopping" not in live.get("problems", ())
