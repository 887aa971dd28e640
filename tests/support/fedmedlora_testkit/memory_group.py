"""A memory cgroup of a test's own: its processes share a limit, and the kernel kills one at the limit."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

_ROOT = Path("/sys/fs/cgroup")
_HOLD = """
import sys
held = []
sys.stdin.readline()
while True:
    held.append(bytearray(b"x") * (1 << 22))
"""


class MemoryGroup:
    """A group with a limit; deleted with `close`.

    Args:
        megabytes: The limit.
    """

    def __init__(self, megabytes: int) -> None:
        """Make the group, or skip the test where the kernel or its guard does not let us."""
        old = (_ROOT / "memory").is_dir()  # version 1 has one tree for each controller
        self._path = (_ROOT / "memory" if old else _ROOT) / f"fedmedlora-test-{os.getpid()}"
        limit = "memory.limit_in_bytes" if old else "memory.max"
        try:
            self._path.mkdir()
            (self._path / limit).write_text(str(megabytes << 20))
        except OSError as exc:
            with suppress(OSError):
                self._path.rmdir()
            pytest.skip(f"no memory cgroup can be made here: {exc.strerror}")

    def command(self, module: str) -> tuple[str, ...]:
        """A command that runs a module in the group, the first there to be killed."""
        code = (
            "import os, pathlib, runpy, sys\n"
            f"pathlib.Path({str(self._path / 'cgroup.procs')!r}).write_text(str(os.getpid()))\n"
            "pathlib.Path('/proc/self/oom_score_adj').write_text('1000')\n"
            f"sys.argv = [{module!r}]\n"
            f"runpy.run_module({module!r}, run_name='__main__')\n"
        )
        return (sys.executable, "-c", code)

    def crowd(self, seconds: float = 60.0) -> None:
        """A neighbour takes all of the group's memory until the kernel has killed a process; then it ends."""
        with subprocess.Popen([sys.executable, "-c", _HOLD], stdin=subprocess.PIPE) as neighbour:
            (self._path / "cgroup.procs").write_text(str(neighbour.pid))
            assert neighbour.stdin is not None
            killed = self.kills()
            neighbour.stdin.write(b"\n")
            neighbour.stdin.flush()
            deadline = time.monotonic() + seconds
            while self.kills() == killed and time.monotonic() < deadline:
                time.sleep(0.01)
            neighbour.kill()

    def kills(self) -> int:
        """How many processes of the group the kernel has killed."""
        found = self._path / "memory.oom_control"  # version 1
        text = (found if found.is_file() else self._path / "memory.events").read_text()
        return int(dict(line.split() for line in text.splitlines())["oom_kill"])

    def close(self) -> None:
        """Delete the group once the last of its processes is gone."""
        deadline = time.monotonic() + 20
        while True:
            try:
                self._path.rmdir()
                return
            except OSError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.02)
