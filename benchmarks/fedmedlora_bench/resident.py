"""Resident memory of this process as the kernel accounts for it; Linux only."""

from __future__ import annotations

from pathlib import Path

_STATUS = Path("/proc/self/status")
_CLEAR = Path("/proc/self/clear_refs")
_RESET_PEAK = "5"


def resident() -> int:
    """Bytes that are resident now."""
    return _account("VmRSS")


def peak() -> int:
    """Most bytes that were resident at once, since the process began or the peak was forgotten."""
    return _account("VmHWM")


def forget_peak() -> int:
    """Let the peak begin again from here; returns the bytes that are resident now."""
    _CLEAR.write_text(_RESET_PEAK, encoding="ascii")
    return resident()


def _account(name: str) -> int:
    """Read one line of the kernel's account, in bytes."""
    for line in _STATUS.read_text(encoding="ascii").splitlines():
        key, _, value = line.partition(":")
        if key == name:
            return int(value.split()[0]) * 1024
    raise RuntimeError(f"this system does not say {name}")
