"""`coordinator hold`, `release`, `prune`: how long the log is kept, and what then goes (AUDIT "Retention").

The law says what may be deleted; nothing here is cleverer than it. The event comes first and the deletion
after it: a kill in between leaves entries that are said to be gone, and the next `prune` deletes them. The
other order could leave a log with holes that nobody explains.
"""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, get_args

from fedmedlora_audit.event_data import Data
from fedmedlora_audit.retention import HoldReason, Range, RetentionHold, RetentionPruned, RetentionRelease
from fedmedlora_audit.tiles import TILE_WIDTH
from fedmedlora_coordinator.errors import ForbiddenError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.ledger import Clock, Keys, Ledger
from fedmedlora_coordinator.placement import log_database
from fedmedlora_coordinator.reports import require_study
from fedmedlora_coordinator.setup import load_event_signer, load_log_signer
from fedmedlora_coordinator.store import LogStore
from fedmedlora_core.errors import ConfigError

HOLD_REASONS: Final[tuple[str, ...]] = get_args(HoldReason)


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)


@dataclass(frozen=True)
class Pruned:
    """What a pruning did.

    Attributes:
        ranges: Ranges of entries that it deleted, those that an earlier one had said and not done included.
        refused: Why nothing further may be deleted, in the law's words; None when nothing forbids it.
    """

    ranges: tuple[Range, ...]
    refused: str | None


def hold(root: Path, reason: str, *, clock: Clock = _now) -> int:
    """Place a legal hold: nothing is deleted until it is released; returns its number.

    Args:
        root: The coordinator's folder; it must not be being served.
        reason: Why, in one of the words of `HOLD_REASONS`; the papers behind it stay with the operator.
        clock: The time of the event.

    Raises:
        ConfigError: No such word; or there is no log yet, it is being served, or closed (the operator's).
        StoreError: The store is damaged or cannot be written.
    """
    if reason not in HOLD_REASONS:
        raise ConfigError(f"the reason of a hold is one of: {', '.join(HOLD_REASONS)}")
    with _opened(root, clock) as (ledger, _):
        number = ledger.state.retention.placed + 1
        data = RetentionHold.model_validate({"hold": number, "reason": reason})
        _write(ledger, "retention.hold", data)
    return number


def release(root: Path, number: int, *, clock: Clock = _now) -> None:
    """Release a legal hold.

    Args:
        root: The coordinator's folder; it must not be being served.
        number: The hold.
        clock: The time of the event.

    Raises:
        ConfigError: There is no such hold in force, or the folder is being served (the operator's).
        StoreError: The store is damaged or cannot be written.
    """
    with _opened(root, clock) as (ledger, _):
        leaf = ledger.state.retention.holds.get(number)
        if leaf is None:
            raise ConfigError(f"hold {number} is not in force")
        _write(ledger, "retention.release", RetentionRelease(hold=number), refs=(leaf,))


def prune(root: Path, *, clock: Clock = _now) -> Pruned:
    """Delete the entries whose years are over; hashes, heads and time stamps stay.

    Args:
        root: The coordinator's folder; it must not be being served.
        clock: The time of the event, which the law compares with the end of the run.

    Raises:
        ConfigError: There is no log yet, or the folder is being served (the operator's).
        StoreError: The store is damaged or cannot be written.
    """
    refused: str | None = None
    with _opened(root, clock) as (ledger, store):
        retention = ledger.state.retention
        for start, end in retention.prunable(TILE_WIDTH):
            data = RetentionPruned(start=start, end=end, root=ledger.state.tree.root(end).hex())
            try:
                ledger.write("retention.pruned", data)
            except ForbiddenError as error:
                refused = str(error)
                break
        if not retention.pruned and refused is None:
            refused = _nothing_to_prune(ledger)
        gone = tuple(span for span in retention.pruned if store.delete_notes(*span))
    return Pruned(gone, refused)


def _nothing_to_prune(ledger: Ledger) -> str:
    if ledger.state.retention.closed_at is None:
        return "the run is not closed: the years have not begun"
    return f"the log has no whole tile of {TILE_WIDTH} entries before its end"


def _write(ledger: Ledger, type_: str, data: Data, refs: tuple[str, ...] = ()) -> None:
    try:
        ledger.write(type_, data, refs=refs)
    except ForbiddenError as error:
        raise ConfigError(str(error)) from None


@contextmanager
def _opened(root: Path, clock: Clock) -> Iterator[tuple[Ledger, LogStore]]:
    """Open a folder's log for writing, as the only process."""
    folder = Folder(root)
    folder.require()
    with folder.locked():
        running = require_study(folder)
        keys = Keys(load_event_signer(folder), load_log_signer(folder))
        store = LogStore(log_database(folder), folder.head)
        try:
            ledger = Ledger(terms=running.terms, store=store, keys=keys, clock=clock)
            if not ledger.size:
                raise ConfigError(f"{root}: the log is empty")
            yield ledger, store
        finally:
            store.close()
