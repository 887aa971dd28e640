"""The walkthrough of docs/OPERATIONS.md as a script: who types which block, in the document's order.

A block belongs to the bold line before it: "**At every site, left running:**". Nothing that a block says is
repeated here, so the document and what is tested cannot disagree.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from fedmedlora_cli.demo.parties import environment
from fedmedlora_testkit.namespaces import Namespaces
from fedmedlora_testkit.repository import ROOT

HEADING: Final = "From bare hosts to a released adapter"
LEFT_RUNNING: Final = ", left running"
PATIENCE_SECONDS: Final = 600.0
"""Until a typed command or a process counts as stuck; far more than any takes."""

_BLOCK = re.compile(r"^\*\*At ([^*]+):\*\*\n\n```sh\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_SHELL = ("bash", "--noprofile", "--norc", "-euc")


@dataclass(frozen=True)
class Block:
    """One fenced block of the document.

    Attributes:
        section: The heading that it stands under.
        role: Who types it, as the document says: "every site".
        running: Whether it is left running.
        text: What is typed.
    """

    section: str
    role: str
    running: bool
    text: str


def read_blocks() -> list[Block]:
    """Every block of the walkthrough, in order.

    Raises:
        ValueError: A fenced block has no line before it that says who types it.
    """
    document = (ROOT / "docs/OPERATIONS.md").read_text(encoding="utf-8")
    chapter = document.split(f"\n## {HEADING}\n", 1)[1].split("\n## ", 1)[0]
    found = []
    for part in chapter.split("\n### ")[1:]:
        section, _, body = part.partition("\n")
        matches = _BLOCK.findall(body)
        if len(matches) * 2 != len(re.findall("^```", body, re.MULTILINE)):
            raise ValueError(f"docs/OPERATIONS.md, '{section}': a block does not say who types it")
        for who, text in matches:
            role = who.removesuffix(LEFT_RUNNING)
            found.append(Block(section, role, role != who, text))
    return found


def documented_variables() -> frozenset[str]:
    """Names of the variables that the walkthrough has people set."""
    document = (ROOT / "docs/OPERATIONS.md").read_text(encoding="utf-8")
    table = document.split("Set these in each shell before you begin:\n", 1)[1].split("\n\nWhat lies", 1)[0]
    return frozenset(re.findall(r"^\| `([A-Z_]+)` \|", table, re.MULTILINE))


def write_command(folder: Path) -> Path:
    """Make a folder whose `fedmedlora` runs the code under test with this interpreter."""
    folder.mkdir()
    command = folder / "fedmedlora"
    command.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m fedmedlora_cli "$@"\n')
    command.chmod(0o755)
    return folder


@dataclass
class Typist:
    """Types blocks on hosts, and ends what was left running there.

    Args:
        hosts: The namespaces that stand for the hosts.
        commands: Folder in which `fedmedlora` lies.
        logs: Where the output of what is left running goes.
        variables: By host, what its shell has set.
    """

    hosts: Namespaces
    commands: Path
    logs: Path
    variables: Mapping[str, Mapping[str, str]]
    running: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    def type_at(self, hosts: Sequence[str], block: Block) -> None:
        """Type a block on each host, side by side; one that is left running takes the last one's place."""
        if block.running:
            for host in hosts:
                self.start(host, block)
            return
        with ThreadPoolExecutor(len(hosts)) as hands:
            list(hands.map(lambda host: self._finish(host, block), hosts))

    def _finish(self, host: str, block: Block) -> None:
        done = subprocess.run(
            self._line(host, block.text),
            env=self._environment(host), capture_output=True, timeout=PATIENCE_SECONDS, check=False,
        )  # fmt: skip
        said = (done.stdout + done.stderr).decode(errors="replace")
        assert done.returncode == 0, f"{block.section}, at {host}:\n{block.text}\n{said}"

    def start(self, host: str, block: Block, more: str = "") -> None:
        """Type a block and leave it running; `more` is a fault that the process is to have."""
        self.stop(host)
        self.logs.mkdir(exist_ok=True)
        with (self.logs / f"{host}.txt").open("ab") as out:
            self.running[host] = subprocess.Popen(
                self._line(host, f"exec {block.text.rstrip()} {more}"),
                env=self._environment(host), stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            )  # fmt: skip

    def ended(self, host: str) -> int:
        """Wait for the end of what runs on a host; its exit code."""
        code = self.running[host].wait(PATIENCE_SECONDS)
        del self.running[host]
        return code

    def kill(self, host: str) -> None:
        """Kill -9 what runs on a host, which must still be at work."""
        self.running[host].send_signal(signal.SIGKILL)
        assert self.ended(host) == -signal.SIGKILL, f"{host} had ended before it was killed"

    def stop(self, host: str) -> None:
        """End what runs on a host in order, if anything does."""
        process = self.running.get(host)
        if process is None:
            return
        process.terminate()
        assert self.ended(host) == 0, self.said(host)

    def stop_all(self) -> None:
        """Leave nothing behind, whatever happened."""
        for process in self.running.values():
            process.kill()
            process.wait()
        self.running.clear()

    def said(self, host: str) -> str:
        """What the processes on a host have printed so far."""
        return (self.logs / f"{host}.txt").read_text(errors="replace")

    def _line(self, host: str, text: str) -> list[str]:
        return [*self.hosts.inside(host), *_SHELL, text]

    def _environment(self, host: str) -> dict[str, str]:
        kept = environment()
        path = f"{self.commands}{os.pathsep}{kept['PATH']}"
        return {**kept, "PATH": path, **self.variables[host]}


def of_section(blocks: Sequence[Block], *sections: str) -> Iterator[Block]:
    """The blocks under some headings, in the document's order."""
    return (block for block in blocks if block.section in sections)
