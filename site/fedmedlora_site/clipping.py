"""What the clip took away: this site's own share of clipped values and the study's mean (PROTOCOL §4.5).

The own share stays here: it goes into the masked sum and nowhere else. The study's mean comes out of the
published sum. One JSON object a line; a torn last line is dropped.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from fedmedlora_site.durable import append, drop_torn_line


class ClippingRecord:
    """Shares of clipped values by round, in thousandths.

    Args:
        path: The file; it need not exist.
        repair: Drop a torn last line from the file; False when an agent may be at work on it.
    """

    def __init__(self, path: Path, *, repair: bool = False) -> None:
        """Read what an earlier run wrote."""
        self._path = path
        self.own: dict[str, int] = {}
        self.study: dict[str, float] = {}
        self.warned: set[int] = set()
        if path.is_file():
            if repair:
                drop_torn_line(path)
            for line in path.read_bytes().split(b"\n")[:-1]:
                try:
                    self._take(json.loads(line))
                except (ValueError, KeyError, TypeError):
                    continue

    def record_own(self, round_number: int, permille: int) -> None:
        """Keep this site's own share of a round."""
        self._write({"round": round_number, "own_permille": permille})

    def record_study(self, round_number: int, permille: float, *, warned: bool) -> None:
        """Keep the study's mean of a round, and whether it was above the charter's limit."""
        self._write({"round": round_number, "study_permille": round(permille, 1), "warned": warned})

    def _write(self, line: dict[str, Any]) -> None:
        append(self._path, json.dumps(line, sort_keys=True).encode() + b"\n")
        self._take(line)

    def _take(self, line: dict[str, Any]) -> None:
        number = int(line["round"])
        if "own_permille" in line:
            self.own[str(number)] = int(line["own_permille"])
        else:
            self.study[str(number)] = float(line["study_permille"])
            if line["warned"]:
                self.warned.add(number)
