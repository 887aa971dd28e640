"""What a report holds: eight parts of ids, digests, numbers and our own sentences (AUDIT "Report")."""

from dataclasses import asdict, dataclass
from typing import Any, Literal

Word = Literal["pass", "fail", "incomplete"]


@dataclass(frozen=True, slots=True)
class Fingerprint:
    """A key to be compared by telephone: SHA-256 of the public key, in groups of four digits."""

    party: str
    key: str
    fingerprint: str


@dataclass(frozen=True, slots=True)
class Scope:
    """Part 1: what was judged, by what, and with whose keys.

    Attributes:
        runs: Ids of the runs in the log, in its order.
        followed: How many entries, from the first on, the law could be applied to; times, people and oddities
            are told of these alone.
        first_time: Time of the first event, as its author dated it; empty if no event could be read.
        last_time: Time of the last event that could be followed.
        exporter: Who signed the list of files; None if nobody known did.
        software: What the coordinator ran, as it says itself.
        verifier: What judged.
        verifier_digest: SHA-256 of the sources that judged, 64 hex.
        judged_at: When, by the clock of the machine that judged.
    """

    study: str
    origin: str
    runs: tuple[str, ...]
    events: int
    followed: int
    root: str
    first_time: str
    last_time: str
    exporter: str | None
    software: str
    verifier: str
    verifier_digest: str
    judged_at: str
    charter: str
    charter_is_trusted: bool
    members: int
    threshold: int | None
    colluding: int | None
    secured_by: str
    fingerprints: tuple[Fingerprint, ...]


@dataclass(frozen=True, slots=True)
class WitnessRow:
    """Part 2: one member as a witness.

    Attributes:
        cosigned: How many of the heads with a quorum it cosigned.
        last_size: Entries under the last of them; None if it cosigned none.
        last_time: When, by its own clock; empty if none.
        fetched: agrees, differs, or not fetched.
        fetched_size: Entries under the head that was fetched from it.
    """

    site: str
    cosigned: int
    last_size: int | None
    last_time: str
    fetched: Literal["agrees", "differs", "not fetched"]
    fetched_size: int | None


@dataclass(frozen=True, slots=True)
class Witnesses:
    """Part 2: who stands behind the log's heads."""

    quorum: int
    demanded: bool
    quorum_heads: int
    covered: int
    rows: tuple[WitnessRow, ...]


@dataclass(frozen=True, slots=True)
class StampRow:
    """Part 2: a closed round, as an outside clock knows it.

    Attributes:
        size: Entries under the head that closes the round.
        time: When the authority stamped it; empty if there is no stamp that holds.
        timely: Whether that was before the next event.
    """

    round: int
    size: int
    time: str
    timely: bool


@dataclass(frozen=True, slots=True)
class KeepingRow:
    """Part 2: a legal hold, its end, or a deletion."""

    index: int
    time: str
    kind: Literal["legal hold", "hold ended", "deletion"]
    sentence: str


@dataclass(frozen=True, slots=True)
class Keeping:
    """Part 2: how the log is kept, and by whose clock.

    Attributes:
        years: How long it is kept whole after the end of the run; None if the charter cannot be read.
        until: When those years are over; empty if the run has not ended or the log could not be followed.
        open_holds: Numbers of the holds that were not released.
        rows: Holds and deletions, in the order of the log.
        stamps: One row for each closed round; empty if no stamp holds.
        stamps_said: What became of the stamps, in one sentence.
    """

    years: int | None
    until: str
    open_holds: tuple[int, ...]
    rows: tuple[KeepingRow, ...]
    stamps: tuple[StampRow, ...]
    stamps_said: str


@dataclass(frozen=True, slots=True)
class CheckRow:
    """Part 3: one check.

    Attributes:
        claim: What holds if it passes.
        remark: What is wrong, or why it was not judged; empty if it passed and there is no more to say.
        demanded: Whether the study's charter asks for it beyond the law.
    """

    id: str
    area: str
    claim: str
    result: Literal["pass", "fail", "not judged"]
    count: int
    first: int | None
    remark: str
    demanded: bool


@dataclass(frozen=True, slots=True)
class FindingRow:
    """Part 3: one thing that is wrong, with the event or the file to blame."""

    check: str
    sentence: str
    index: int | None
    file: str | None
    said_by: str
    type: str


@dataclass(frozen=True, slots=True)
class Missing:
    """A member that is not in a sum, and the step from which it was missing."""

    site: str
    since: str


@dataclass(frozen=True, slots=True)
class RoundRow:
    """Part 4: one round.

    Attributes:
        members: Sites whose uploads are in the sum.
        self_of: Sites whose own masks were taken off the sum.
        pair_of: Sites that had dropped out, whose masks shared with others were taken off.
        opened_by: Sites that answered the request to open.
        aggregate: Digest of the published sum; empty if none.
        next_base: Digest of the adapter after the round.
        epsilon_milli: The most that any one site has spent up to and with this round, in thousandths, as
            logged; None without differential privacy.
        budget_milli: What all rounds together may cost; None without differential privacy.
        voters: Sites that voted on the new adapter; None without a vote.
        against: How many of them found it worse.
        validated_permille: F1 of the summed validation counts, in thousandths; None without any.
    """

    round: int
    outcome: str
    attempts: int
    members: tuple[str, ...]
    missing: tuple[Missing, ...]
    threshold: int
    self_of: tuple[str, ...]
    pair_of: tuple[str, ...]
    opened_by: tuple[str, ...]
    aggregate: str
    next_base: str
    epsilon_milli: int | None
    budget_milli: int | None
    voters: int | None
    against: int | None
    validated_permille: int | None


@dataclass(frozen=True, slots=True)
class PersonRow:
    """Part 5: one party, its keys, and what became of them."""

    party: str
    key_id: str
    witness_key_id: str
    enrolled_at: str
    signed_at: str
    acts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Oddity:
    """Part 6: something that is allowed and not everyday."""

    index: int
    time: str
    round: int | None
    kind: str
    who: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Report:
    """An audit's report; see the parts.

    Attributes:
        headline: The verdict in one sentence.
        meaning: What it means and what to do, for somebody who is no cryptographer.
        first_fault: The first event at fault in one sentence; empty if there is none.
        findings: The first few findings of each check.
        findings_left: How many more there are, by check.
        rounds_known: Whether the law could be followed to the end; without it there are no rounds.
        privacy: What is known of the privacy budget.
        limits: Part 7: what this does not prove.
        repeat: Part 8: the command that gives the same verdict again.
    """

    verdict: Word
    headline: str
    meaning: str
    first_fault: str
    scope: Scope
    witnesses: Witnesses
    keeping: Keeping
    checks: tuple[CheckRow, ...]
    findings: tuple[FindingRow, ...]
    findings_left: tuple[tuple[str, int], ...]
    rounds: tuple[RoundRow, ...]
    rounds_known: bool
    privacy: str
    people: tuple[PersonRow, ...]
    oddities: tuple[Oddity, ...]
    limits: tuple[str, ...]
    repeat: str

    def to_json(self) -> dict[str, Any]:
        """Return the report as plain JSON values, with its schema."""
        return {"schema": "flreport/1", **asdict(self)}
