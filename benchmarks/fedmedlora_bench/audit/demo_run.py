"""A finished demo, as what the cost of its log is held against."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_core.errors import ConfigError


@dataclass(frozen=True)
class DemoRun:
    """What a demo's `result.json` says of its rounds.

    Args:
        rounds: Rounds of the study.
        events: Events of its log, those of the set-up included.
        seconds: Wall-clock seconds of all rounds.
    """

    rounds: int
    events: int
    seconds: float

    @classmethod
    def load(cls, file: Path) -> DemoRun:
        """Read a `result.json`.

        Raises:
            ConfigError: The file is missing or no result of a demo (the operator's).
        """
        try:
            found = json.loads(file.read_text(encoding="utf-8"))
            run = cls(
                int(found["study"]["rounds"]),
                int(found["audit"]["events"]),
                float(found["seconds"]["training"]),
            )
        except (OSError, ValueError, KeyError, TypeError):
            raise ConfigError(f"{file}: expected the result.json of a demo") from None
        if run.rounds < 1 or run.events < 1 or not 0 < run.seconds < float("inf"):
            raise ConfigError(f"{file}: a demo has rounds, events and seconds above 0")
        return run

    def share_of_log(self, written: Mapping[str, float]) -> dict[str, float]:
        """Bound the part of the rounds that went into the log.

        Args:
            written: Seconds of each part of an event's way, from the same machine.

        Returns:
            Rounds, events and seconds of the demo, and the share if signing, the coordinator's write and one
            site's mirror had followed one another for every event; in fact the parties work side by side.
        """
        parts = ("site_sign", "coordinator", "site_mirror")
        event = sum(written[f"{part}_seconds_per_event"] for part in parts)
        return {
            "rounds": self.rounds,
            "events": self.events,
            "seconds_per_round": self.seconds / self.rounds,
            "log_share": self.events * event / self.seconds,
        }
