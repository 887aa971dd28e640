"""The site's journal: every refusal, on disk before the coordinator hears of it (PROTOCOL §7).

The coordinator owns the log and could leave a refusal out. An auditor who collects the journals
(`audit verify --heads`) sees what the log lacks. One JSON object a line; a torn last line is dropped.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path

from fedmedlora_site.durable import append, drop_torn_line


@dataclass(frozen=True)
class Refusal:
    """One refused step.

    Args:
        time: "YYYY-MM-DDTHH:MM:SSZ".
        step: The refused step.
        reason: Reason enum of `step.refused`.
        round: Round, or None outside rounds.
        sid: Session, or None outside sessions.
        sentence: What was found, for this site's operator; never patient text.
        size: Size of the mirror at the time.
        root: Root of the mirror at the time, hex.
    """

    time: str
    step: str
    reason: str
    round: int | None
    sid: str | None
    sentence: str
    size: int
    root: str


class Journal:
    """Appends refusals and remembers which steps were refused.

    Args:
        path: The file.
        create: Make an empty journal, so that an auditor can tell "nothing refused" from "not handed in".
        repair: Drop a torn last line from the file; False when an agent may be at work on it.
    """

    def __init__(self, path: Path, *, create: bool = False, repair: bool = False) -> None:
        """Read what an earlier run wrote."""
        if create and not path.exists():
            append(path, b"")
        self._path = path
        self._refusals: list[Refusal] = []
        if path.is_file():
            if repair:
                drop_torn_line(path)
            for line in path.read_bytes().split(b"\n")[:-1]:
                try:
                    self._refusals.append(Refusal(**json.loads(line)))
                except (ValueError, TypeError):
                    continue

    @property
    def refusals(self) -> tuple[Refusal, ...]:
        """All refusals so far."""
        return tuple(self._refusals)

    def reasons(self) -> dict[str, int]:
        """Count the refusals by reason, in the order of their first."""
        return dict(Counter(refusal.reason for refusal in self._refusals))

    def record(self, refusal: Refusal) -> None:
        """Write a refusal; durable when this returns."""
        append(self._path, json.dumps(asdict(refusal), sort_keys=True).encode() + b"\n")
        self._refusals.append(refusal)

    def has(self, step: str, round_number: int | None, sid: str | None) -> bool:
        """Whether this step was refused before."""
        return any((r.step, r.round, r.sid) == (step, round_number, sid) for r in self._refusals)
