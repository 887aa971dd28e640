"""Attacks on the keeping of the log: holds that do not bind, entries that go too early or unsaid."""

from typing import Any

from fedmedlora_audit import event_data as of
from fedmedlora_audit.retention import RetentionHold, RetentionPruned, RetentionRelease
from fedmedlora_testkit.audit_attacks.registry import ZERO, attack
from fedmedlora_testkit.audit_log import StudyLog

AFTER_THE_YEARS = "2033-01-01T00:00:00Z"
BEFORE_THE_YEARS = "2032-02-28T23:59:59Z"
LENGTH = 530  # two whole tiles and some


def lengthened(log: StudyLog, length: int = LENGTH) -> StudyLog:
    """Make a log longer by heads that the coordinator quotes."""
    while log.tree.size < length:
        head = log.head()
        log.say("coordinator", "audit.exported", of.LogHead(size=head.size, root=head.root))
    return log


def long_log(log: StudyLog) -> StudyLog:
    """A finished study of more than two whole tiles."""
    return lengthened(log.set_up().play_round()).finish()


def hold(log: StudyLog, number: int = 1, **fields: Any) -> bytes:
    data = RetentionHold(hold=number, reason="litigation")
    return log.draft("coordinator", "retention.hold", data, **fields)


def release(log: StudyLog, number: int, refs: list[str]) -> bytes:
    return log.draft("coordinator", "retention.release", RetentionRelease(hold=number), refs=refs)


def pruned(log: StudyLog, start: int = 0, end: int = 512, **fields: Any) -> bytes:
    root = fields.pop("root", log.tree.root(min(end, log.tree.size)).hex())
    fields.setdefault("time", AFTER_THE_YEARS)
    data = RetentionPruned(start=start, end=end, root=root)
    return log.draft("coordinator", "retention.pruned", data, **fields)


@attack("H1")
def hold_number_skipped(log: StudyLog) -> bytes:
    return hold(log.set_up(), 2)


@attack("H1")
def release_of_a_hold_never_placed(log: StudyLog) -> bytes:
    return release(log.set_up(), 1, [log.entries[0].leaf.hex()])


@attack("H1")
def release_of_a_hold_twice(log: StudyLog) -> bytes:
    leaf = log.set_up().add(hold(log)).leaf.hex()
    log.add(release(log, 1, [leaf]))
    return release(log, 1, [leaf])


@attack("E9")
def release_that_names_another_event(log: StudyLog) -> bytes:
    log.set_up().add(hold(log))
    return release(log, 1, [log.entries[0].leaf.hex()])


@attack("H1")
def pruned_before_the_run_was_closed(log: StudyLog) -> bytes:
    return pruned(lengthened(log.set_up()))


@attack("H1")
def pruned_before_the_years_are_over(log: StudyLog) -> bytes:
    return pruned(long_log(log), time=BEFORE_THE_YEARS)


@attack("H1")
def pruned_under_a_hold(log: StudyLog) -> bytes:
    long_log(log).add(hold(log))
    return pruned(log)


@attack("H1")
def pruned_a_part_of_a_tile(log: StudyLog) -> bytes:
    return pruned(long_log(log), end=300)


@attack("H1")
def pruned_twice(log: StudyLog) -> bytes:
    long_log(log).add(pruned(log, end=256))
    return pruned(log)


@attack("H1")
def pruned_the_end_of_the_run(log: StudyLog) -> bytes:
    lengthened(long_log(log), 770)
    return pruned(log, start=512, end=768)


@attack("H1")
def pruned_a_hold(log: StudyLog) -> bytes:
    leaf = log.set_up().add(hold(log)).leaf.hex()
    lengthened(log.play_round()).finish()
    log.add(release(log, 1, [leaf]))
    return pruned(log)


@attack("H1")
def pruned_with_the_root_of_another_history(log: StudyLog) -> bytes:
    return pruned(long_log(log), root=ZERO)


@attack("H1")
def study_goes_on_after_pruning(log: StudyLog) -> bytes:
    long_log(log).add(pruned(log))
    return log.draft("site-a", "step.refused", of.StepRefused(step="plan", reason="policy"))
