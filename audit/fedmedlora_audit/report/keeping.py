"""Part 2 of the report, further down: time stamps, legal holds, and what was deleted (AUDIT "Report")."""

from typing import Final

from fedmedlora_audit.chain import event_time
from fedmedlora_audit.events import Event
from fedmedlora_audit.report.model import Keeping, KeepingRow, StampRow
from fedmedlora_audit.retention import RetentionHold, RetentionPruned, RetentionRelease
from fedmedlora_audit.stamps import closing_heads
from fedmedlora_audit.verdict import Verdict

_HOLD_REASONS: Final = {
    "litigation": "a lawsuit",
    "investigation": "an investigation",
    "authority": "a request by an authority",
    "incident": "an incident",
    "other": "another reason",
}


def keeping_of(verdict: Verdict) -> Keeping:
    """Tell how long the log is kept, what was held or deleted, and which rounds an outside clock stamped."""
    retention = verdict.state.retention if verdict.state is not None else None
    rows = [_row(index, event) for index, event in verdict.read]
    years = verdict.terms.retention_years if verdict.terms is not None else None
    ended = retention is not None and retention.closed_at is not None
    held: set[int] = set()
    for _, event in verdict.read:
        if isinstance(event.data, RetentionHold):
            held.add(event.data.hold)
        elif isinstance(event.data, RetentionRelease):
            held.discard(event.data.hold)
    return Keeping(
        years=years,
        until=retention.expires_on(years) if retention and ended and years is not None else "",
        open_holds=tuple(sorted(held)),
        rows=tuple(row for row in rows if row is not None),
        stamps=_stamps(verdict),
        stamps_said=verdict.stamps.sentence,
    )


def _row(index: int, event: Event) -> KeepingRow | None:
    data = event.data
    if isinstance(data, RetentionHold):
        why = _HOLD_REASONS[data.reason]
        said = f"Hold {data.hold} was placed because of {why}: nothing may be deleted."
        return KeepingRow(index, event.time, "legal hold", said)
    if isinstance(data, RetentionRelease):
        return KeepingRow(index, event.time, "hold ended", f"Hold {data.hold} was released.")
    if isinstance(data, RetentionPruned):
        count, last = data.end - data.start, data.end - 1
        gone = f"{count} entries ({data.start} to {last}) were deleted"
        said = f"{gone}; their hashes stay, so what is left can still be proved."
        return KeepingRow(index, event.time, "deletion", said)
    return None


def _stamps(verdict: Verdict) -> tuple[StampRow, ...]:
    """Return one row for each round that was closed; none where no stamp could be judged."""
    judged = verdict.stamps
    if not judged.made:
        return ()
    rows = []
    for size, number in closing_heads(verdict.read).items():
        made = judged.made.get(size)
        time = event_time(made) if made is not None else ""
        rows.append(StampRow(number, size, time, made is not None and size in judged.timely))
    return tuple(rows)
