"""`status --watch`: one screen that refreshes beside a running process, and after it; q or Ctrl-C ends it."""

from __future__ import annotations

import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from rich.console import Console, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

REFRESH_SECONDS: Final = 1.0
_SHARE_OF_TIME: Final = 10  # reading a folder whole may take a tenth of the time, not more
Facts = dict[str, Any]


@dataclass
class Reader:
    """Reads a folder whole when its log grew, and the cheap live file each time.

    Args:
        whole: Reads the folder; signatures of the log are checked, so that it takes a while.
        live: Reads what the process said last.
        joined: Puts both together.
        errors: What `whole` may raise in passing, when there is something to show already.
    """

    whole: Callable[[], Facts]
    live: Callable[[], Facts | None]
    joined: Callable[[Mapping[str, Any], Mapping[str, Any] | None], Facts]
    errors: tuple[type[Exception], ...] = ()
    _found: Facts = field(default_factory=dict)
    _entries: object = object()
    _next: float = 0.0
    _unread: list[list[str]] = field(default_factory=list)

    def read(self) -> Facts:
        """Return the facts of this moment."""
        said, began = self.live(), time.monotonic()
        entries = None if said is None else (said.get("entries"), said["fresh"])
        if began >= self._next and (entries != self._entries or not self._found):
            self._read_whole(entries)
            took = time.monotonic() - began
            self._next = began + max(REFRESH_SECONDS, _SHARE_OF_TIME * took)
        facts = self.joined(self._found, said)
        return {**facts, "alarms": [*facts["alarms"], *self._unread]}

    def _read_whole(self, entries: object) -> None:
        try:
            self._found, self._entries, self._unread = self.whole(), entries, []
        except self.errors as error:
            if not self._found:
                raise
            self._unread = [["NotReady", f"the folder cannot be read now: {error}"]]


def watch(reader: Reader, render: Callable[[Facts], RenderableType]) -> None:
    """Show one screen until q or Ctrl-C.

    Args:
        reader: Where the facts come from.
        render: What is drawn of them.
    """
    console, drawn = Console(), False
    with (
        single_keys(sys.stdin.fileno()) as keys,
        Live(console=console, screen=True, auto_refresh=False) as screen,
        suppress(KeyboardInterrupt),
    ):
        while keys(0.0 if not drawn else REFRESH_SECONDS) not in ("q", "Q", "\x04"):
            screen.update(render(reader.read()), refresh=True)
            drawn = True


def is_terminal() -> bool:
    """Tell whether there is somebody to watch and to press q."""
    return sys.stdin.isatty() and sys.stdout.isatty()


@contextmanager
def single_keys(descriptor: int) -> Iterator[Callable[[float], str]]:
    """Read single keys without Enter; yields a function that waits so long for one."""
    before = termios.tcgetattr(descriptor)

    def next_key(seconds: float) -> str:
        ready, _, _ = select.select([descriptor], [], [], seconds)
        return os.read(descriptor, 1).decode("ascii", "replace") if ready else ""

    try:
        tty.setcbreak(descriptor)
        yield next_key
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


def size_text(count: float) -> str:
    """Write bytes for people."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if count < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def time_text(seconds: float) -> str:
    """Write a duration for people."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return f"{whole // 60} min" if whole < 7200 else f"{whole // 3600} h {whole % 3600 // 60} min"


def facts_table(rows: list[tuple[str, str]]) -> Table:
    """Names and values in two columns."""
    table = Table.grid(padding=(0, 2))
    for name, value in rows:
        table.add_row(Text(name, style="dim"), Text(value))
    return table


def bar(total: int, done: int) -> Table:
    """A bar of progress on a line of its own."""
    table = Table.grid()
    table.add_row(ProgressBar(total=max(1, total), completed=done, width=60))
    return table


def vital_rows(facts: Facts) -> list[tuple[str, str]]:
    """Disk and certificates, as both parties have them."""
    rows = []
    if "disk_free_bytes" in facts:
        free, total = size_text(facts["disk_free_bytes"]), size_text(facts["disk_total_bytes"])
        rows.append(("disk", f"{free} of {total} are free"))
    if days := facts.get("certificate_days"):
        rows.append(
            ("certificates", ", ".join(f"{name} {left:.0f} days" for name, left in sorted(days.items())))
        )
    return rows


def alarm_lines(facts: Facts) -> list[Text]:
    """One line for each alarm; what to do stands in docs/OPERATIONS.md under its name."""
    if not facts["alarms"]:
        return [Text("no alarms", style="green")]
    return [Text(f"! {name}: {sentence}", style="bold red") for name, sentence in facts["alarms"]]
