"""Watching the demo: one live line per party on a terminal, one plain line per phase and round elsewhere."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from fedmedlora_cli.demo.parties import Progress

STEP_WORDS = {
    "plan": "reads the plan",
    "train": "trains at home",
    "advertise": "sends fresh public keys",
    "share": "seals shares of its seeds",
    "upload": "uploads its masked update",
    "survivors": "agrees who is in the sum",
    "unmask": "opens one share per party",
    "aggregate": "checks the sum",
    "count": "counts the votes again",
    "tally": "sums the validation counts again",
    "erase": "erases an old attempt",
}
EVENT_WORDS = {
    "round.plan": "planned",
    "session.opened": "everybody is ready",
    "keys.broadcast": "keys are out",
    "shares.fixed": "shares are fixed",
    "survivors.fixed": "survivors are fixed",
    "unmask.request": "asks to unmask the sum",
    "aggregate.published": "published the sum",
    "round.closed": "closed the round",
    "votes.counted": "counted the votes",
    "validation.counted": "summed the validation counts",
    "round.rolled_back": "rolled the round back",
    "round.aborted": "aborted the round",
    "model.released": "released the adapter",
    "run.closed": "closed the study",
}


@dataclass
class PartyLine:
    """What one party is doing."""

    round: int = 0
    doing: str = ""
    done: int = 0
    total: int = 0


@dataclass
class Watcher:
    """Collects progress lines from the parties and draws them.

    Args:
        console: Where to draw.
        parties: Names in the order they are drawn.
        rounds: Rounds of the study, 0 while unknown.
    """

    console: Console
    parties: tuple[str, ...]
    rounds: int = 0
    lines: dict[str, PartyLine] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _phase: str = ""

    def observe(self, party: str, progress: Progress) -> None:
        """Take one progress line; called from reader threads."""
        with self._lock:
            line = self.lines.setdefault(party, PartyLine())
            line.round = _int(progress.get("round"), line.round)
            if progress.get("event") == "clipped" and progress.get("warning"):
                share = progress.get("permille")
                self.console.print(
                    f"  round {line.round}: the clip changed {share} thousandths of the values"
                )
            event, step = progress.get("event"), progress.get("step")
            if event in EVENT_WORDS:
                line.doing = EVENT_WORDS[str(event)]
                if str(event).startswith("round.") and event != "round.plan" and not self.console.is_terminal:
                    self.console.print(f"  round {line.round}: {line.doing}")
            if step in STEP_WORDS:
                line.doing = STEP_WORDS[str(step)]
                line.done = _int(progress.get("done"), 0)
                line.total = _int(progress.get("total"), 0)

    @contextmanager
    def phase(self, key: str, name: str, *, live: bool = False) -> Iterator[None]:
        """Time a phase and show that it runs.

        Args:
            key: Name of the phase in `seconds`.
            name: What people read.
            live: Draw one line per party while it runs.
        """
        self._phase = name
        started = time.monotonic()
        if not self.console.is_terminal:
            self.console.print(f"{name} …")
            yield
        else:
            view = self._table if live else self._spinner
            with Live(get_renderable=view, console=self.console, refresh_per_second=8, transient=True):
                yield
        elapsed = time.monotonic() - started
        self.seconds[key] = elapsed
        self.console.print(f"[green]✓[/green] {name} ({elapsed:.1f} s)")

    def _spinner(self) -> Spinner:
        return Spinner("dots", text=f" {self._phase}")

    def _table(self) -> Group:
        table = Table.grid(padding=(0, 2))
        with self._lock:
            for name in self.parties:
                line = self.lines.get(name, PartyLine())
                bar = (
                    ProgressBar(total=line.total, completed=line.done, width=20)
                    if line.total > 1
                    else Text(" " * 20)
                )
                rounds = f"round {line.round}/{self.rounds}" if self.rounds else f"round {line.round}"
                table.add_row(f"  [bold]{name}[/bold]", rounds if line.round else "", bar, line.doing)
        return Group(Spinner("dots", text=f" {self._phase}"), table)


def _int(value: object, default: int) -> int:
    return value if isinstance(value, int) else default
