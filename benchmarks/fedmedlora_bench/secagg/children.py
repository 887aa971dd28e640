"""Child processes that answer one line of JSON for each line they get, so that passes can take turns."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from fedmedlora_bench.secagg.case import Case
from fedmedlora_core.errors import CoreError

PEER_SCRIPT = Path(__file__).with_name("peer_flwr.py")
_WORKER = "fedmedlora_bench.secagg.worker"
_TAIL_LINES = 12


class MeasurementError(CoreError):
    """A child process died or broke its protocol."""


class Child:
    """A child that waits until it is asked; it dies with the `with` block.

    Args:
        command: What to start.
        log: File for its standard error.
        environment: Variables beside this process's own.
    """

    def __init__(self, command: Sequence[str], log: Path, environment: dict[str, str] | None = None) -> None:
        """Start it."""
        self._log = log
        with log.open("wb") as errors:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env={**os.environ, **(environment or {})},
            )

    def __enter__(self) -> Child:
        """Nothing more to start."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop it."""
        if error is not None:
            self._process.kill()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        self._process.wait()

    def read(self) -> dict[str, Any]:
        """Read its next line.

        Raises:
            MeasurementError: It died or said something else.
        """
        line = self._process.stdout.readline() if self._process.stdout else ""
        try:
            answer = json.loads(line)
        except ValueError:
            self._process.kill()
            raise MeasurementError(f"a measuring process stopped: {self._last_words()}") from None
        return dict(answer)

    def ask(self, request: str = "round") -> dict[str, Any]:
        """Ask for one more answer."""
        if self._process.stdin is None or self._process.poll() is not None:
            return self.read()
        self._process.stdin.write(request + "\n")
        self._process.stdin.flush()
        return self.read()

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        return " | ".join(lines[-_TAIL_LINES:]) or "no message"


def our_child(what: str, case: Case) -> Child:
    """Start a child of our own code, with this process's import path.

    Args:
        what: Its kind of work, see `worker`.
        case: The conditions.
    """
    path = os.pathsep.join(entry for entry in sys.path if entry)
    command = [sys.executable, "-m", _WORKER, what, case.to_json()]
    return Child(command, Path(case.folder) / f"{what}.log", {"PYTHONPATH": path})


def peer_child(python: Path, case: Case) -> Child:
    """Start the peer in its own environment, without anything of ours on its import path."""
    command = [str(python), "-I", str(PEER_SCRIPT), case.to_json()]
    return Child(command, Path(case.folder) / "peer.log")
