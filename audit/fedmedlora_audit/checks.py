"""Every check of the auditor: its id, what it claims in one sentence, and how many things it looks at.

The ids are those of AUDIT "Checks"; the law raises the same ids, so a refusal by the coordinator, by a site
and a finding of the auditor have one name.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

from fedmedlora_audit.stamps import NO_STAMPS


class Check(NamedTuple):
    """A check: its sentence, and the types of events it looks at (empty: every event)."""

    sentence: str
    types: frozenset[str] = frozenset()


def _on(sentence: str, *types: str) -> Check:
    return Check(sentence, frozenset(types))


_SITE_ANSWERS: Final = (
    "keys.advertised",
    "shares.sent",
    "update.submitted",
    "survivors.agreed",
    "unmask.response",
    "aggregate.accepted",
    "votes.checked",
    "validation.checked",
)
_LISTS: Final = ("session.opened", "keys.broadcast", "shares.fixed", "survivors.fixed")

LAW_CHECKS: Final[Mapping[str, Check]] = {
    "E3": Check("Every event was made for this log and this run."),
    "E4": Check("No event occurs twice."),
    "E5": Check("Every author's events are numbered without a gap."),
    "E6": Check("Every event names its author's previous event."),
    "E7": Check("Every head an author saw is a head of this log, covers what it answers, and never shrinks."),
    "E9": Check("Every reference leads to an earlier event of the right kind."),
    "K1": _on(
        "The log begins with the charter; members entered with the charter's keys and all signed it.",
        "log.genesis",
        "site.enrolled",
        "charter.signed",
        "run.opened",
    ),
    "K2": _on(
        "Every later key of a member was brought in by the key before it, which its owner proved to hold.",
        "key.rotated",
    ),
    "K3": _on(
        "Nobody who left spoke again, and rounds went on only while a threshold of the members remained.",
        "site.left",
        "round.plan",
    ),
    "R1": Check("Rounds and steps follow each other in order, one plan per round."),
    "R2": Check("Only members of the charter, and of the session, took part."),
    "R3": Check("Every member spoke once per step: one update, one consent, one answer."),
    "R4": _on(
        "Every site's event has its receipt, and every receipt its event.",
        "receipt",
        "round.closed",
        "round.rolled_back",
    ),
    "R5": _on("The survivors are exactly the uploads received, at least the threshold.", "survivors.fixed"),
    "R6": _on(
        "No site whose upload came in time was declared dropped; no upload that came late was summed.",
        "survivors.fixed",
        "unmask.request",
        "aggregate.published",
    ),
    "U1": _on(
        "At least a threshold of survivors signed the same lists before anything was opened.",
        "survivors.agreed",
        "unmask.request",
        "unmask.response",
    ),
    "U2": _on(
        "Of no site were both the self seed and the pair key asked for or opened.",
        "unmask.request",
        "unmask.response",
    ),
    "U3": _on(
        "Opened were exactly the survivors' self seeds and the dropped sites' pair keys.",
        "unmask.request",
        "unmask.response",
    ),
    "U4": _on(
        "One request per session, and a threshold of openings before the aggregate.",
        "unmask.request",
        "aggregate.published",
        "votes.counted",
        "validation.counted",
    ),
    "U5": _on("The encrypted shares in use are the ones their senders signed.", "shares.fixed"),
    "U6": _on(
        "Under CKKS the published sum is the one that the holder of the key, or T holders, signed.",
        "unmask.response",
        "aggregate.published",
    ),
    "A1": _on("The aggregate's inputs are exactly the survivors' uploads.", "aggregate.published"),
    "A2": _on(
        "The survivors found the same aggregate, and the next round starts from it.",
        "round.plan",
        "aggregate.accepted",
        "round.closed",
        "round.aborted",
        "round.rolled_back",
    ),
    "D1": _on("The privacy spent was recomputed by an independent calculation and agrees.", "dp.spent"),
    "D2": _on(
        "Every charge has the noise, the sampling rate, the steps and the delta of the charter.", "dp.spent"
    ),
    "D3": _on("The privacy spent never decreases and stays within the budget.", "dp.spent"),
    "D4": _on("The noise was never less than planned.", "dp.spent"),
    "D5": _on(
        "Every upload of every round, closed or aborted, stands under a charge that its site logged before.",
        "dp.spent",
        "update.submitted",
    ),
    "M1": _on(
        "The released model is the last accepted aggregate, or the one that the summed counts choose.",
        "model.released",
    ),
    "G13": _on("No new attempt followed once shares of an earlier one were opened.", "session.opened"),
    "G14": _on(
        "No two opened sums from one base differ by fewer than min_sites sites; sums of counts by none.",
        "survivors.fixed",
    ),
    "G33": _on("Every list has at least the charter's threshold of sites.", *_LISTS),
    "G34": _on(
        "One inbox list and one survivor list per session, and every upload was masked with that inbox.",
        "shares.fixed",
        "survivors.fixed",
        "update.submitted",
        "survivors.agreed",
    ),
    "G35": _on(
        "The keys in use are the ones their owners signed; nobody was left out unsaid.", "keys.broadcast"
    ),
    "G36": _on("Every session's id and view follow from its terms and keys.", *_LISTS, *_SITE_ANSWERS),
    "G37": _on(
        "No site consented to a second survivor set from one base unless the first was dead.",
        "keys.advertised",
        "survivors.agreed",
    ),
    "G38": _on(
        "No site that erased its secrets of a session spoke in it again.", "attempt.erased", *_SITE_ANSWERS
    ),
    "G48": _on(
        "Evidence was kept of published sums only, and shredded once, after its round.",
        "evidence.kept",
        "evidence.shredded",
    ),
    "G42": _on(
        "A vote was taken once on each adapter that its voters had checked, and the round ended as it said.",
        "session.opened",
        "votes.counted",
        "votes.checked",
        "round.closed",
        "round.rolled_back",
    ),
    "G49": _on(
        "Validation counts are sums over the same sites, of types that enough of them annotate, and checked.",
        "session.opened",
        "survivors.fixed",
        "validation.counted",
        "validation.checked",
        "round.closed",
    ),
    "H1": _on(
        "Entries were deleted in whole tiles, after the charter's years, under no hold, as the log says.",
        "retention.hold",
        "retention.release",
        "retention.pruned",
    ),
    "G44": _on(
        "Sites commit to a sparse graph if the charter has one, and only then.",
        "update.ready",
    ),
}


def times_applied(judged: Mapping[str, int]) -> dict[str, int]:
    """Count how often each check of the law looked at an event.

    Args:
        judged: Events that the law judged, by type.
    """
    everything = sum(judged.values())
    return {
        check: sum(judged.get(type_, 0) for type_ in looked.types) if looked.types else everything
        for check, looked in LAW_CHECKS.items()
    }


"""Checks that the law makes, event by event."""

FILE_CHECKS: Final[Mapping[str, str]] = {
    "B1": "The bundle holds exactly the files of its signed manifest, unchanged.",
    "T1": "The charter and its keys are those of the trust file.",
    "C1": "The root recomputed from all entries is the checkpoint's, and all tiles are equal.",
    "C2": "The checkpoint is signed by the log's key.",
    "C4": "All heads at hand belong to one history.",
    "C5": "The checkpoint covers every entry, and no entry is missing.",
    "E1": "Every event has the closed schema and one spelling, at most 65,535 bytes.",
    "E2": "Every event is signed by its author's key of the charter; no key is of low order.",
    "G32": "The members and their keys are those the sites have pinned.",
    "G45": "Every event carries exactly one signature line.",
    "P1": "No field of any event holds free text or looks like a personal identifier.",
}
"""Checks that the auditor makes on files and notes."""

HEAD_CHECKS: Final[Mapping[str, str]] = {
    "C6": "Every head fetched from a site is a prefix of this log.",
    "J1": "Every refusal in a site's own journal is in the log.",
}
"""Checks that need heads and journals fetched from the sites."""

WITNESS_CHECKS: Final[Mapping[str, str]] = {
    "C3": "A quorum of the hospitals has cosigned the log's head.",
    "E8": "Events are dated within what the witnesses' clocks allow.",
}
"""Checks that need heads with a quorum of cosignatures."""

UNWITNESSED: Final[Mapping[str, str]] = {
    "C3": "No head in the bundle has a quorum of cosignatures.",
    "E8": "Times are the authors' own claims: without witness times they are not judged.",
}
"""What those checks say of a bundle without such a head."""

NOT_YET: Final[Mapping[str, str]] = {
    "C7": NO_STAMPS,
    "A3": "The sums were not recomputed: that needs evidence beside the bundle (--evidence).",
}
"""Checks without material in this release; one that the charter asks for makes the verdict incomplete."""

DP_CHECKS: Final = ("D1", "D2", "D3", "D4", "D5")
NO_BUDGET: Final = "The study has no differential privacy, so there is no budget to recompute."
"""What the checks of the budget say of a study without one."""
SITE_NOISE_CHECKS: Final[Mapping[str, str]] = {
    "D6": "The rounds that opened a sum cost a site no more than the charter's epsilon, recomputed.",
}
"""Checks of noise inside the masks, from the charter and the log."""
NOTHING_PRUNED: Final = "Nothing was pruned: every entry is in the bundle."
WHOLE_CHECKS: Final = (*(LAW_CHECKS.keys() - {"H1"}), "E1", "E2", "G45", "P1", "E8", "C7", "J1", "A3", "D6")
"""Checks that look at every event: of a log with deleted entries they may fail, and never pass."""

UNJUDGED: Final[Mapping[str, str]] = {**NOT_YET, **UNWITNESSED}
"""What checks say that have nothing to judge, until they have."""
CLAIMS: Final[Mapping[str, str]] = {
    **{name: check.sentence for name, check in LAW_CHECKS.items()},
    **FILE_CHECKS,
    **HEAD_CHECKS,
    **WITNESS_CHECKS,
    **NOT_YET,
    **SITE_NOISE_CHECKS,
}
"""What each check claims when it passes."""
