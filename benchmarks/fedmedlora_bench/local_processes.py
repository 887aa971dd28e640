"""Processes of this environment that a benchmark starts on this machine, and what they used."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

__all__ = ["cpu_seconds", "free_ports", "start_module"]

_TICK: Final = 1 / os.sysconf("SC_CLK_TCK")


def start_module(arguments: list[str], log: Path, **more: Any) -> subprocess.Popen[str]:
    """Start a module of this environment, one thread; what it says on standard error goes to a file.

    Args:
        arguments: The module and its arguments.
        log: The file; it is appended to.
        more: Further arguments of `subprocess.Popen`.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    with log.open("a", encoding="utf-8") as file:
        return subprocess.Popen(
            [sys.executable, "-m", *arguments], stderr=file, env=environment, text=True, **more
        )


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a running process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) * _TICK


def free_ports(count: int) -> list[int]:
    """Find free loopback ports (another process could take one before we do; then the start says so)."""
    holders = [socket.socket() for _ in range(count)]
    try:
        for holder in holders:
            holder.bind(("127.0.0.1", 0))
        return [int(holder.getsockname()[1]) for holder in holders]
    finally:
        for holder in holders:
            holder.close()
