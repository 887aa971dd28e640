"""The processes of one site that train together: started, handed each job, and ended by the first of them.

The trainer that the agent started is number 0 and speaks with it. It starts the others, which get every
training job as it does and whose results are not looked at: all of them end with the same adapter. They meet
at a file in a folder that only this user can enter, and talk over the loopback interface.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Final

SHORT_EXIT: Final = 128 + signal.SIGKILL
"""Exit code of a trainer's process that says: killed, or out of memory, as a shell says it of one killed."""
_LOOPBACK = {"GLOO_SOCKET_IFNAME": "lo", "NCCL_SOCKET_IFNAME": "lo"}


@dataclass(frozen=True)
class Place:
    """Which of the processes this one is.

    Args:
        number: From 0; the one that speaks with the agent.
        size: How many there are.
        meeting: File where they meet.
    """

    number: int = 0
    size: int = 1
    meeting: Path = Path()

    @classmethod
    def parse(cls, arguments: list[str]) -> Place:
        """Read the arguments of a process that this module started; without any it is the first."""
        return cls(int(arguments[0]), int(arguments[1]), Path(arguments[2])) if arguments else cls()


class Crew:
    """The other processes, as the first one sees them.

    Args:
        size: How many processes there are in all.
        module: What each of them runs.
    """

    def __init__(self, size: int, module: str) -> None:
        """Start them."""
        os.environ.update(_LOOPBACK)
        self._folder = tempfile.TemporaryDirectory(prefix="fedmedlora-crew-")
        self.place = Place(0, size, Path(self._folder.name) / "meeting")
        self._members = [self._start(number, module) for number in range(1, size)]
        for member in self._members:
            threading.Thread(target=_watch, args=(member,), daemon=True).start()

    def send(self, line: str) -> None:
        """Hand a job to all of them."""
        for member in self._members:
            if member.stdin is not None:
                member.stdin.write(line if line.endswith("\n") else line + "\n")
                member.stdin.flush()

    def _start(self, number: int, module: str) -> subprocess.Popen[str]:
        arguments = [str(number), str(self.place.size), str(self.place.meeting)]
        return subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            text=True,
        )


def _watch(member: subprocess.Popen[str]) -> None:
    """End this process when another one of the crew has died: it would wait for it without end."""
    code = member.wait()
    sys.stderr.write(f"a process of the training ended with code {code}\n")
    sys.stderr.flush()
    os._exit(SHORT_EXIT if code in (-signal.SIGKILL, SHORT_EXIT) else 3)
