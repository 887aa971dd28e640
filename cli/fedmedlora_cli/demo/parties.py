"""Running the parties: one-shot commands and long processes of our own console script.

Each party is a separate process that knows only its own folder; the demo passes between them what people
would carry by hand (invitations, cards, the study package) and nothing else.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from fedmedlora_core.errors import CoreError

Progress = Mapping[str, Any]
KILLED = -9


class DemoError(CoreError):
    """A step of the demo failed; the message carries the command and its own last line."""


def command_line(arguments: Sequence[str]) -> list[str]:
    """The console script, run with this interpreter so that no PATH is trusted."""
    return [sys.executable, "-m", "fedmedlora_cli", *arguments]


def environment() -> dict[str, str]:
    """Environment of every party: one thread each, no network look-ups by the libraries."""
    kept = dict(os.environ)
    kept.update(
        OMP_NUM_THREADS="1",
        TOKENIZERS_PARALLELISM="false",
        HF_HUB_OFFLINE="1",
        TRANSFORMERS_OFFLINE="1",
        PYTHONUNBUFFERED="1",
    )
    return kept


@dataclass
class Transcript:
    """The commands that the demo typed, in order, so that a reader can repeat them by hand."""

    path: Path
    lines: list[str] = field(default_factory=list)

    def note(self, arguments: Sequence[str]) -> None:
        """Append one command."""
        self.lines.append("fedmedlora " + " ".join(arguments))
        self.path.write_text("\n".join(self.lines) + "\n", encoding="utf-8")


def run_command(arguments: Sequence[str], transcript: Transcript) -> str:
    """Run one command to its end.

    Args:
        arguments: Arguments of the console script.
        transcript: Where the command is noted.

    Returns:
        What it printed on standard output.

    Raises:
        DemoError: It exited with another code than 0.
    """
    transcript.note(arguments)
    done = subprocess.run(
        command_line(arguments), capture_output=True, text=True, env=environment(), check=False
    )
    if done.returncode != 0:
        raise DemoError(_failure(arguments, done.returncode, done.stderr or done.stdout))
    return done.stdout


def run_commands(batch: Sequence[Sequence[str]], transcript: Transcript) -> None:
    """Run independent commands side by side (see `run_command`)."""
    failures: queue.Queue[DemoError] = queue.Queue()

    def one(arguments: Sequence[str]) -> None:
        try:
            run_command(arguments, transcript)
        except DemoError as exc:
            failures.put(exc)

    threads = [threading.Thread(target=one, args=(arguments,)) for arguments in batch]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if not failures.empty():
        raise failures.get()


class Party:
    """A long-running process of one party; its JSON progress lines go to a callback.

    Args:
        name: Site id or "coordinator".
        arguments: Arguments of the console script.
        transcript: Where the command is noted.
        log: File that receives the process's error output.
        on_progress: Called from a reader thread with (name, line) for each progress line.
    """

    def __init__(
        self,
        name: str,
        arguments: Sequence[str],
        *,
        transcript: Transcript,
        log: Path,
        on_progress: Callable[[str, Progress], None],
    ) -> None:
        """Start the process."""
        transcript.note(arguments)
        self.name = name
        self.arguments = list(arguments)
        self.log = log
        self._on_progress = on_progress
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as errors:
            self.process = subprocess.Popen(
                command_line(arguments),
                stdout=subprocess.PIPE,
                stderr=errors,
                stdin=subprocess.DEVNULL,
                env=environment(),
                text=True,
            )
        self._reader = threading.Thread(target=self._read, args=(self.process.stdout,), daemon=True)
        self._reader.start()

    def _read(self, stream: IO[str] | None) -> None:
        if stream is None:
            return
        with stream:
            for line in stream:
                try:
                    progress = json.loads(line)
                except ValueError:
                    continue
                if isinstance(progress, dict):
                    self._on_progress(self.name, progress)

    @property
    def exit_code(self) -> int | None:
        """Exit code, negative for a signal, or None while it runs."""
        return self.process.poll()

    def wait(self, timeout_seconds: float | None = None) -> int:
        """Wait for the end and for its last progress line."""
        code = self.process.wait(timeout_seconds)
        self._reader.join(timeout=10)
        return code

    def stop(self) -> None:
        """End the process: politely, then not."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self._reader.join(timeout=10)

    def failure(self) -> DemoError:
        """Describe an unexpected end with the last line of the error output."""
        text = self.log.read_text(encoding="utf-8", errors="replace") if self.log.exists() else ""
        return DemoError(_failure(self.arguments, self.exit_code or 0, text))


def _failure(arguments: Sequence[str], code: int, output: str) -> str:
    last = next((line for line in reversed(output.splitlines()) if line.strip()), "no output")
    return f"`fedmedlora {' '.join(arguments[:2])} …` ended with code {code}: {last}"
