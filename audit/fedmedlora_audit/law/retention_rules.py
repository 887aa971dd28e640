"""Rules of retention: what holds bind, and what may be deleted when (H1). The schema says who says it.

They need nothing but what `Retention` remembers and the hashes of the tree, so they are judged of a log whose
entries are gone just as of a whole one.
"""

from collections.abc import Mapping
from typing import Final

from fedmedlora_audit.errors import LawError
from fedmedlora_audit.event_data import Data
from fedmedlora_audit.events import Event
from fedmedlora_audit.law.rule import Rule, need
from fedmedlora_audit.law.state import State
from fedmedlora_audit.retention import RetentionHold, RetentionPruned, RetentionRelease
from fedmedlora_audit.tiles import TILE_WIDTH

AFTER_PRUNING: Final = frozenset(
    {"retention.hold", "retention.release", "retention.pruned", "audit.exported", "log.closed"}
)
"""What may still be said of a log with deleted entries: nobody can judge anything else any more."""


def only_keeping_after_pruning(state: State, event: Event, _data: Data) -> None:
    """H1: once entries are deleted, the log says nothing more of the study itself."""
    allowed = not state.retention.pruned or event.type in AFTER_PRUNING
    need(allowed, "H1", f"{event.type} in a log whose entries were deleted")


def holds_are_numbered(state: State, _event: Event, data: RetentionHold) -> None:
    """H1: holds are numbered without a gap, so one that was deleted shows."""
    expected = state.retention.placed + 1
    need(data.hold == expected, "H1", f"the next hold is number {expected}, not {data.hold}")


def releases_an_open_hold(state: State, event: Event, data: RetentionRelease) -> None:
    """H1, E9: a release ends one hold that is in force, and names its event."""
    leaf = state.retention.holds.get(data.hold)
    if leaf is None:
        raise LawError("H1", f"hold {data.hold} is not in force")
    need(event.refs == (leaf,), "E9", "a release refers to its hold")


def no_hold_in_force(state: State, _event: Event, _data: RetentionPruned) -> None:
    """H1: nothing is deleted under a legal hold."""
    holds = ", ".join(str(number) for number in sorted(state.retention.holds))
    need(not holds, "H1", f"entries are deleted while hold {holds} is in force")


def years_are_over(state: State, event: Event, _data: RetentionPruned) -> None:
    """H1: entries are kept for the charter's years after the end of the run."""
    if state.retention.closed_at is None:
        raise LawError("H1", "entries are deleted before the run was closed")
    first = state.retention.expires_on(state.terms.retention_years)
    need(event.time >= first, "H1", f"entries are deleted before {first}")


def prunes_whole_tiles_of_the_run(state: State, _event: Event, data: RetentionPruned) -> None:
    """H1: what is deleted are whole tiles of the run, in order, each once, and never a retention event."""
    retention, start, end = state.retention, data.start, data.end
    whole = start % TILE_WIDTH == 0 and end % TILE_WIDTH == 0 and start < end
    need(whole, "H1", f"entries {start} to {end - 1} are not whole tiles of {TILE_WIDTH}")
    done = retention.pruned[-1][1] if retention.pruned else 0
    need(start >= done, "H1", f"entries before {done} were deleted already")
    limit = retention.closed_at or 0
    need(end <= limit, "H1", f"the end of the run, entry {limit}, is never deleted")
    kept = [index for index in retention.events if start <= index < end]
    need(
        not kept, "H1", f"entry {kept[0] if kept else 0} speaks of retention or of keys and is never deleted"
    )


def names_what_it_deletes(state: State, _event: Event, data: RetentionPruned) -> None:
    """H1: the event carries the root over what is gone, and it is the root of this log."""
    true_root = state.tree.root(min(data.end, state.size)).hex()
    need(data.root == true_root, "H1", "the root over the deleted entries is of another history")


RULES: Final[Mapping[str, tuple[Rule, ...]]] = {
    "retention.hold": (holds_are_numbered,),
    "retention.release": (releases_an_open_hold,),
    "retention.pruned": (
        years_are_over,
        no_hold_in_force,
        prunes_whole_tiles_of_the_run,
        names_what_it_deletes,
    ),
}
