"""What a site counts for its own operator, on its own machine (OPERATIONS, "Seeing what happens").

Nothing here says how much a hospital has or how well it learns: no note, size, weight, loss, score or number
of optimiser steps. Training is shown in tenths: finer progress would count the steps, and with the charter's
batch size the notes. Every label is of a closed list, and no label names the site.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, get_args

from fedmedlora_audit.event_data import RefusalReason
from fedmedlora_protos.operating.instruments import Instruments, traffic_of

TRAFFIC: Final = ("events", "log", "payloads", "cosignatures")
REFUSALS: Final[tuple[str, ...]] = get_args(RefusalReason)
LEDGER_STATES: Final = ("none", "whole", "damaged", "unread")
TRAINER_REASONS: Final = frozenset({"training_failed", "not_finite", "evaluation_failed"})
TENTHS: Final = 10

_INSTRUMENTS: Final = Instruments("fedmedlora_site")
REGISTRY: Final = _INSTRUMENTS.registry
_gauge, _counter = _INSTRUMENTS.gauge, _INSTRUMENTS.counter

READY: Final = _gauge("ready", "1 if /readyz would say ok")
CONNECTED: Final = _gauge("connected", "1 while the coordinator's log is being streamed here")
AWAY: Final = _gauge("coordinator_away_seconds", "Seconds without the coordinator, 0 while it is there")
CONNECTIONS: Final = _counter("connections", "Times that the coordinator was reached")
ROUND: Final = _gauge("round", "Number of the newest round")
ROUNDS_PLANNED: Final = _gauge("rounds_planned", "Rounds that the charter plans")
ROUNDS_CLOSED: Final = _gauge("rounds_closed", "Rounds that are closed")
STEP: Final = _gauge("step", "1 for the step that the round is in", "step")
TRAINING: Final = _gauge("training_progress", "Share of the round's training that is done, in tenths")
LOG_ENTRIES: Final = _gauge("log_entries", "Entries of this site's mirror of the log")
REFUSED_STEPS: Final = _gauge("refused_steps", "Steps that this site refused, by its journal", "reason")
FORKED: Final = _gauge("log_forked", "1 if this site found that the log contradicts itself or the law")
TRAINER_FAILURES: Final = _gauge("trainer_failures", "Refusals because the trainer gave nothing usable")
EPSILON_SPENT: Final = _gauge(
    "budget_spent_epsilon", "Epsilon that the ledger amounts to, by the site's unit"
)
EPSILON_LIMIT: Final = _gauge("budget_limit_epsilon", "The hospital's own budget; 0 without one")
STUDY_EPSILON_SPENT: Final = _gauge(
    "study_budget_spent_epsilon", "Epsilon of this study's charges, by the study's unit"
)
STUDY_EPSILON_LIMIT: Final = _gauge("study_budget_limit_epsilon", "The study's budget; 0 without one")
LEDGER: Final = _gauge("ledger_state", "1 for the state that the privacy ledger is in", "state")
TRAFFIC_BYTES: Final = _counter(
    "traffic_bytes", "Bytes of messages up and down, by what they carry", "direction", "kind"
)
DISK_FREE: Final = _gauge("disk_free_bytes", "Free bytes on the folder's disk")
DISK_TOTAL: Final = _gauge("disk_total_bytes", "Size of the folder's disk")
CERTIFICATE_DAYS: Final = _gauge("certificate_days_left", "Days until a certificate ends", "certificate")
CLOCK_JUMPS: Final = _counter("clock_jumps", "Jumps of the clock of the day by 5 seconds or more")


@dataclass
class Standing:
    """What this process knows of its own work and no file holds.

    Attributes:
        connected: Whether the log is being streamed here.
        connections: How often the coordinator was reached.
        round: Round of the training under way, 0 for none.
        tenths: How much of it is done.
        short: Whether it lacked memory and waits for more.
    """

    connected: bool = False
    connections: int = 0
    round: int = 0
    tenths: int = 0
    short: bool = False

    def reached(self) -> bool:
        """The coordinator sent a part of the log; tells whether that is news."""
        if self.connected:
            return False
        self.connected = True
        self.connections += 1
        CONNECTIONS.inc()
        return True

    def lost(self) -> bool:
        """The connection is gone; tells whether that is news."""
        was, self.connected = self.connected, False
        return was

    def trained(self, round_number: int, done: int, total: int) -> None:
        """Training is so far: kept in tenths, rounded down."""
        self.round, self.tenths = round_number, TENTHS * done // max(1, total)


def sent(kind: str, count: int) -> None:
    """Count bytes that went up."""
    TRAFFIC_BYTES.labels("up", kind).inc(count)


def received(kind: str, count: int) -> None:
    """Count bytes that came down."""
    TRAFFIC_BYTES.labels("down", kind).inc(count)


def traffic() -> dict[str, dict[str, int]]:
    """Return the bytes so far by direction and kind."""
    return traffic_of(TRAFFIC_BYTES)


def _begin() -> None:
    """Make every counter of a closed list, so that a rate of zero is seen as zero and not as nothing."""
    for way in ("up", "down"):
        for kind in TRAFFIC:
            TRAFFIC_BYTES.labels(way, kind)


_begin()
