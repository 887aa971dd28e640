"""Progress bars of long benchmarks, on standard error and only where a person looks at it."""

from __future__ import annotations

from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn
from rich.progress import Progress as RichProgress

__all__ = ["Progress"]


class Progress:
    """One bar for the work at hand.

    Args:
        enabled: Draw at all; nothing is drawn when standard error is no terminal.
    """

    def __init__(self, *, enabled: bool) -> None:
        """Prepare the bar without drawing it."""
        console = Console(stderr=True)
        self._bar = RichProgress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
            disable=not (enabled and console.is_terminal),
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Progress:
        """Start drawing."""
        self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop drawing."""
        self._bar.stop()

    def begin(self, text: str, total: int) -> None:
        """Start the bar of a new piece of work; the finished one stays above it."""
        self._task = self._bar.add_task(text, total=total)

    def advance(self, text: str | None = None) -> None:
        """Move the bar by one, with a new text if given."""
        if self._task is not None:
            if text is not None:
                self._bar.update(self._task, description=text)
            self._bar.advance(self._task)

    def say(self, text: str) -> None:
        """Print a line above the bars."""
        if not self._bar.disable:
            self._bar.console.print(text)
