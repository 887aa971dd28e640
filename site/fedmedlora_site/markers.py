"""Durable markers: what this site must never do twice, whatever restarts in between (PROTOCOL §5.4).

A marker is on the disk before the answer it stands for is signed. The file belongs to the site, not to a run
or a study: the consent rule holds per base adapter, across attempts, rounds, studies and logs, because the
difference of two sums from one base can be one site's update.

One JSON object a line. A torn last line is dropped: its answer was never signed. Anything else that does not
parse stops the site, since a lost marker could let it answer twice.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fedmedlora_site.durable import append, drop_torn_line
from fedmedlora_site.errors import FolderError


@dataclass(frozen=True)
class Consent:
    """One survivor set that this site agreed to.

    Args:
        sid: The session.
        base: Digest of the base adapter.
        survivors: The ids of U3, sorted.
        purpose: "update", "score" for a vote on `base`, or "statistics" for counts, whose `base` is the
            charter: sums of different things give no difference.
    """

    sid: str
    base: str
    survivors: tuple[str, ...]
    purpose: str = "update"


class Markers:
    """The markers of one site.

    Args:
        path: `markers.jsonl`; made when missing.

    Raises:
        FolderError: The file is damaged before its last line.
    """

    def __init__(self, path: Path) -> None:
        """Read the markers of earlier runs."""
        self._path = path
        self._seen: dict[str, int] = {}
        self._consents: list[Consent] = []
        self._released: dict[str, str] = {}
        self._erased: set[str] = set()
        if path.is_file():
            drop_torn_line(path)
        lines = path.read_bytes().split(b"\n") if path.is_file() else [b""]
        for number, line in enumerate(lines[:-1], start=1):
            try:
                self._fold(json.loads(line))
            except (ValueError, KeyError, TypeError):
                raise FolderError(f"{path}:{number}: damaged; the site must not run without it") from None

    def mark_seen(self, sid: str, *, round_number: int) -> None:
        """Record that this site makes keys for a session; before they are advertised."""
        self._write({"kind": "seen", "sid": sid, "round": round_number})

    def mark_consented(self, consent: Consent) -> None:
        """Record a consent; before `survivors.agreed` is signed."""
        record = {"kind": "consented", "sid": consent.sid, "base": consent.base, "purpose": consent.purpose}
        self._write({**record, "survivors": list(consent.survivors)})

    def mark_released(self, sid: str, *, update: str) -> None:
        """Record that an update's unmasking is released; before `unmask.response` is signed."""
        self._write({"kind": "released", "sid": sid, "update": update})

    def mark_erased(self, sid: str) -> None:
        """Record that nothing of a session is left and it will never be answered; before saying so."""
        self._write({"kind": "erased", "sid": sid})

    def seen(self, sid: str) -> bool:
        """Whether this site made keys for the session at any time."""
        return sid in self._seen

    def erased(self, sid: str) -> bool:
        """Whether the session was given up."""
        return sid in self._erased

    def open_sessions(self) -> Sequence[str]:
        """Sessions that were seen and not given up, oldest first."""
        return [sid for sid in self._seen if sid not in self._erased]

    def consents(self, base: str, purpose: str = "update") -> Sequence[Consent]:
        """Every consent given from a base adapter to sums of one purpose, oldest first."""
        return [c for c in self._consents if (c.base, c.purpose) == (base, purpose)]

    def released_in(self, update: str) -> str | None:
        """The session in which an update was released, or None."""
        return self._released.get(update)

    def _write(self, record: dict[str, Any]) -> None:
        append(self._path, json.dumps(record, sort_keys=True).encode() + b"\n")
        self._fold(record)

    def _fold(self, record: dict[str, Any]) -> None:
        kind, sid = record["kind"], str(record["sid"])
        if kind == "seen":
            self._seen[sid] = int(record["round"])
        elif kind == "consented":
            survivors = tuple(str(site) for site in record["survivors"])
            purpose = str(record.get("purpose", "update"))  # absent before there were votes
            self._consents.append(Consent(sid, str(record["base"]), survivors, purpose))
        elif kind == "released":
            self._released[str(record["update"])] = sid
        elif kind == "erased":
            self._erased.add(sid)
        else:
            raise ValueError(kind)
