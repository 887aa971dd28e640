"""Judges a bundle from which entries were deleted: whether that was lawful (H1, AUDIT "Retention").

Of such a log the law cannot be judged: it folds every event. What can be judged is what is left: that all
hashes lead to the signed root, that each missing range is one that ``retention.pruned`` names, that this came
after the charter's years and under no hold, and form and signature of the events that are left.

What this cannot see: a hold whose own event was deleted against the law. Holds are numbered, so one before a
hold that is left shows; all of them gone shows only in a member's copy of the log.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Final

from fedmedlora_audit.chain import event_time
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.events import Event, entry_of
from fedmedlora_audit.finding import Finding
from fedmedlora_audit.law import State
from fedmedlora_audit.law.remains import pass_over, recall
from fedmedlora_audit.law.retention_rules import AFTER_PRUNING
from fedmedlora_audit.law.rule import ROUND_ANSWERS, STEP_OF_ANSWER
from fedmedlora_audit.retention import Range
from fedmedlora_audit.stamps import SKEW_SECONDS
from fedmedlora_audit.tiles import Remains

GONE: Final = "{count} entries were deleted (H1): what needs them cannot be judged."

NO_CLOCK: Final = "Without the auditor's clock nobody can tell a deletion that was dated ahead."
KEPT_TAIL: Final = "A quorum has cosigned all but the last entries, which speak of the log's keeping alone."
LATE_TAIL: Final = (
    "A quorum has cosigned all but the last entries, which are its keeping and late words without effect."
)
_WITHOUT_EFFECT: Final = frozenset({"attempt.erased", "receipt", *ROUND_ANSWERS, *STEP_OF_ANSWER})


def tail_sentence(events: Sequence[tuple[int, Event]], start: int) -> str | None:
    """Say what the entries after the last cosigned head are, if they need no quorum; None if they do.

    Members are gone by then, so what is said of the log's keeping needs none. Neither does a site that comes
    back after the run's end with an answer, which is late by then and has no effect (ADR 0011), or says that
    it has erased what it held of an attempt. Of the study itself every other word needs a quorum.

    Args:
        events: The events that are left, with their indexes.
        start: Number of entries that a quorum has cosigned; the run has to be closed by then.
    """
    tail = {event.type for index, event in events if index >= start}
    closed = any(event.type == "run.closed" and index < start for index, event in events)
    if not closed or tail - AFTER_PRUNING - _WITHOUT_EFFECT:
        return None
    return LATE_TAIL if tail & _WITHOUT_EFFECT else KEPT_TAIL


@dataclass(slots=True)
class RetentionJudged:
    """What became of check H1.

    Attributes:
        findings: Every retention event that breaks a rule, and every range that is missing unsaid.
        events: Retention events looked at.
        sentence: What was deleted.
    """

    sentence: str
    events: int
    findings: list[Finding] = field(default_factory=list)


def gone_of(remains: Remains) -> str:
    """Return what a check says that needs entries which were deleted."""
    return GONE.format(count=sum(end - start for start, end in remains.missing))


def judge_remains(
    terms: CharterTerms, remains: Remains, events: Mapping[int, Event], now: datetime | None
) -> RetentionJudged:
    """Judge whether what is missing was deleted lawfully.

    Args:
        terms: The charter, whose years count.
        remains: What is left of the log.
        events: The events that are left and can be read, by index; signatures are judged elsewhere.
        now: The auditor's clock, if any. The date of a deletion is the coordinator's own word: an early one
            has to be dated ahead, and that shows until the years are over.
    """
    state, findings = State.begin(terms), list[Finding]()
    latest = "9" if now is None else event_time(now + timedelta(seconds=SKEW_SECONDS))
    for index in range(remains.tree.size):
        event = events.get(index)
        if event is None:
            pass_over(state, remains.tree.leaf(index))
            continue
        for error in recall(state, entry_of(index, remains.notes[index], event)):
            findings.append(Finding(error.check, error.sentence, index))
        if event.type == "retention.pruned" and event.time > latest:
            findings.append(Finding("H1", f"entries were deleted on {event.time}, which is not yet", index))
    for start, end in _unsaid(remains.missing, state.retention.pruned):
        sentence = f"entries {start} to {end - 1} are missing and no retention.pruned says so"
        findings += [Finding("H1", sentence, start), Finding("C5", sentence, start)]
    ranges = ", ".join(f"{start} to {end - 1}" for start, end in remains.missing)
    sentence = f"Entries {ranges} were deleted after {terms.retention_years} years, under no legal hold."
    return RetentionJudged(sentence, len(state.retention.events), findings)


def _unsaid(missing: list[Range], pruned: list[Range]) -> list[Range]:
    """Return the parts of missing ranges that no retention event names."""
    left = list(missing)
    for start, end in pruned:
        parts = [((a, min(b, start)), (max(a, end), b)) for a, b in left]
        left = [part for pair in parts for part in pair if part[0] < part[1]]
    return left
