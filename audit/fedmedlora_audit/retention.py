"""Retention: legal holds, and entries that were deleted lawfully (AUDIT "Retention").

A log of a study is kept whole for the years that its charter says, counted from ``run.closed``. Then entries
may be deleted, in whole tiles; their hashes, all heads and all stamps stay, so every proof of what is left
still leads to the same roots. A hold forbids any deletion until it is released.

What this does not do: judge an event (`law.retention_rules`), or delete anything.
"""

from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from pydantic import Field

from fedmedlora_audit.event_data import Count, Data, Digest

DEFAULT_YEARS: Final = 6
MAX_YEARS: Final = 100

HoldReason = Literal["litigation", "investigation", "authority", "incident", "other"]
HoldNumber = Annotated[int, Field(ge=1, le=1_000_000)]
Range = tuple[int, int]
"""Indexes of the first entry and of the one after the last."""


class RetentionHold(Data):
    """``retention.hold``: nothing is deleted until this hold is released; holds are numbered from 1."""

    hold: HoldNumber
    reason: HoldReason


class RetentionRelease(Data):
    """``retention.release``: this hold has ended; ``refs`` names its event."""

    hold: HoldNumber


class RetentionPruned(Data):
    """``retention.pruned``: the entries from ``start`` to before ``end`` are deleted; their hashes stay.

    ``root`` is the root of the first ``end`` entries, so the event itself says what was deleted.
    """

    end: Count
    root: Digest
    start: Count


@dataclass(slots=True)
class Retention:
    """What the log says of its own keeping.

    Attributes:
        holds: Leaf (64 hex) of each open hold, by number.
        placed: How many holds there ever were.
        pruned: Ranges that were deleted, in order.
        events: Indexes of all events of retention, keys and leaving; none of them may be deleted.
        closed_at: Index of ``run.closed``, or None.
        closed_on: What it says of its time.
    """

    holds: dict[int, str] = field(default_factory=dict)
    placed: int = 0
    pruned: list[Range] = field(default_factory=list)
    events: list[int] = field(default_factory=list)
    closed_at: int | None = None
    closed_on: str = ""

    def expires_on(self, years: int) -> str:
        """Return the time from which entries may be deleted, in the form of an event's time."""
        return f"{int(self.closed_on[:4]) + years:04d}{self.closed_on[4:]}"

    def prunable(self, width: int) -> list[Range]:
        """Return what may be deleted once the years are over: whole tiles before the end of the run.

        Tiles with retention events stay, and what is deleted already is left out.

        Args:
            width: Entries of a tile.
        """
        done = self.pruned[-1][1] if self.pruned else 0
        limit = (self.closed_at or 0) // width * width
        keep = {index // width for index in self.events}
        ranges: list[Range] = []
        for start in range(done, limit, width):
            if start // width in keep:
                continue
            if ranges and ranges[-1][1] == start:
                ranges[-1] = (ranges[-1][0], start + width)
            else:
                ranges.append((start, start + width))
        return ranges
