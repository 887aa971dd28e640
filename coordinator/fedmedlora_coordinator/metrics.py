"""What the coordinator counts for its operator (OPERATIONS, "Seeing what happens").

One registry a process, as Prometheus has it. Every label is of a closed list, but for the ids of sites, which
the coordinator knows. Nothing here follows from a note, an update, a weight or a score: none comes here.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal, get_args

from fedmedlora_audit.event_data import AbortReason, RefusalReason
from fedmedlora_protos.operating.instruments import Instruments, traffic_of
from fedmedlora_protos.wire import Reason

METHODS: Final = ("Submit", "Watch", "PutChunk", "GetChunk", "Cosign", "Enroll", "Check", "other")
STATUSES: Final = (
    "OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS",
    "PERMISSION_DENIED", "RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE",
    "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
)  # fmt: skip
TRAFFIC: Final = ("events", "log", "payloads", "cosignatures", "enrolment", "other")
Limit = Literal[
    "rate", "bytes", "streams", "connections", "uploads", "message_size", "slow", "not_tls", "other"
]
REFUSALS: Final[tuple[str, ...]] = get_args(RefusalReason)
ABORTS: Final[tuple[str, ...]] = get_args(AbortReason)
OUTCOMES: Final = ("open", "closed", "rolled_back", "aborted")

_INSTRUMENTS: Final = Instruments("fedmedlora_coordinator")
REGISTRY: Final = _INSTRUMENTS.registry
_gauge, _counter = _INSTRUMENTS.gauge, _INSTRUMENTS.counter

READY: Final = _gauge("ready", "1 if /readyz would say ok")
ROUND: Final = _gauge("round", "Number of the newest round")
ROUNDS_PLANNED: Final = _gauge("rounds_planned", "Rounds that the charter plans")
STEP: Final = _gauge("step", "1 for the step that the round is in", "step")
STEP_SECONDS: Final = _gauge("step_seconds", "Seconds in this step, since it began or this process started")
MEMBERS: Final = _gauge("members", "Members of the study")
THRESHOLD: Final = _gauge("threshold", "Answers that a step needs")
CONNECTED: Final = _gauge("site_connected", "1 if the site holds a stream open", "site")
AWAITED: Final = _gauge("site_awaited", "1 if this step still waits for the site", "site")
AWAY: Final = _gauge("site_away_seconds", "Seconds since the site was last there, 0 while it is", "site")
SILENT: Final = _gauge("site_silent_steps", "Steps that the log says the site did not answer", "site")
ROUNDS: Final = _gauge("rounds", "Rounds of the log by how they ended, and why", "outcome", "reason")
REFUSED_STEPS: Final = _gauge("refused_steps", "Steps that sites refused, by the log", "reason")
LOG_ENTRIES: Final = _gauge("log_entries", "Entries of the log")
LOG_BYTES: Final = _gauge("log_bytes", "Bytes of the log's notes")
COSIGNED: Final = _gauge("cosigned_entries", "Size of the newest head with a quorum of witnesses")
COSIGNED_HEADS: Final = _gauge("cosigned_heads", "Heads with a quorum of witnesses")
HEAD_AGREES: Final = _gauge("head_agrees", "1 if the store's last head is the head file's; 0 may be a fork")
BLOB_BYTES: Final = _gauge("blob_bytes", "Bytes of payloads on the disk")
DISK_FREE: Final = _gauge("disk_free_bytes", "Free bytes on the folder's disk")
DISK_TOTAL: Final = _gauge("disk_total_bytes", "Size of the folder's disk")
CERTIFICATE_DAYS: Final = _gauge("certificate_days_left", "Days until a certificate ends", "certificate")
CLOCK_JUMPS: Final = _counter("clock_jumps", "Jumps of the clock of the day by 5 seconds or more")
EVENTS: Final = _counter("events", "Entries appended by this process", "author")
CALLS: Final = _counter("calls", "Calls that ended, by method and gRPC status", "method", "status")
UNREAD: Final = _counter(
    "unread_calls", "Calls whose message never came whole: larger than allowed, or cut off", "method"
)
CALL_SECONDS: Final = _INSTRUMENTS.histogram(
    "call_seconds",
    "Duration of calls; Watch streams are left out",
    "method",
    buckets=(0.005, 0.02, 0.1, 0.5, 2.0, 10.0, 60.0),
)
REFUSED: Final = _counter("refused_calls", "Calls that were refused, by reason", "reason")
LIMITED: Final = _counter("limited_calls", "Peers that were held to a limit, by limit", "limit")
TRAFFIC_BYTES: Final = _counter(
    "traffic_bytes", "Bytes of messages in and out, by what they carry", "direction", "kind"
)
STORE_SECONDS: Final = _INSTRUMENTS.histogram(
    "store_write_seconds",
    "Duration of one durable write of the log",
    buckets=(0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0),
)


def limited(limit: Limit | str) -> None:
    """Count a peer that was held to a limit; one that the list does not have counts as "other"."""
    LIMITED.labels(limit if limit in get_args(Limit) else "other").inc()


@contextmanager
def store_write() -> Iterator[None]:
    """Measure one durable write."""
    with STORE_SECONDS.time():
        yield


def store_write_ms() -> float:
    """Return the mean duration of the durable writes so far, in milliseconds; 0.0 before the first."""
    samples = [sample for metric in STORE_SECONDS.collect() for sample in metric.samples]
    found = {sample.name.rpartition("_")[2]: sample.value for sample in samples if not sample.labels}
    return round(1000 * found["sum"] / found["count"], 1) if found["count"] else 0.0


def received(kind: str, count: int) -> None:
    """Count bytes that came in."""
    TRAFFIC_BYTES.labels("in", kind).inc(count)


def sent(kind: str, count: int) -> None:
    """Count bytes that went out."""
    TRAFFIC_BYTES.labels("out", kind).inc(count)


def traffic() -> dict[str, dict[str, int]]:
    """Return the bytes so far by direction and kind."""
    return traffic_of(TRAFFIC_BYTES)


def _begin() -> None:
    """Make every counter of a closed list, so that a rate of zero is seen as zero and not as nothing.

    Gauges that follow from the log come with the first pulse, with what the log says: a restart is no jump.
    """
    HEAD_AGREES.set(1)
    for reason in Reason:
        REFUSED.labels(reason.value)
    for limit in get_args(Limit):
        LIMITED.labels(limit)
    for way in ("in", "out"):
        for kind in TRAFFIC:
            TRAFFIC_BYTES.labels(way, kind)
    for method in METHODS:
        UNREAD.labels(method)
    for author in ("coordinator", "site"):
        EVENTS.labels(author)


_begin()
