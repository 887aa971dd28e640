"""What the log says so far: the state that the law folds (AUDIT "Law").

Rules:
    * A state is a function of the charter and the entries alone: no clock, no secret, no vector - ids,
      digests and integers only. Coordinator, site and auditor that hold the same log hold the same state.
    * One event changes it in O(log n): long logs are judged in one pass.

What this does not do: judge (the rules), or change anything but through `fold`.
"""

from dataclasses import dataclass, field
from typing import Final, NamedTuple, Self

from fedmedlora_audit.chain import Chain
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import LawError
from fedmedlora_audit.event_data import AggregatePublished, LeftOut, UnmaskRequest, VotesCounted
from fedmedlora_audit.events import Actor, Entry, Saw
from fedmedlora_audit.member_keys import KeyBook
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.privacy_plan import Spending
from fedmedlora_audit.retention import Retention
from fedmedlora_audit.validation_data import ValidationCounted

COUNTS: Final = "statistics"
"""The purpose of a session that sums validation counts."""
Refused = tuple[str, str, int | None, str | None]
"""Id of the site, step, round and sid of a `step.refused`: each is said once (R3)."""


class PendingReceipt(NamedTuple):
    """A site's event that the very next entry must acknowledge (R4)."""

    leaf: str
    site: str
    seq: int
    type: str


class ClosedRound(NamedTuple):
    """What a site needs to catch up over a round it missed."""

    round: int
    sid: str
    ring: str
    weight_sum: int
    next_base: str
    state: str | None = None


@dataclass(slots=True)
class Session:
    """One secure sum, as far as it has come. Lists are id -> digest; they are empty until they are fixed."""

    sid: str
    round: int
    attempt: int
    purpose: str
    suite: str
    base: str
    ready: tuple[str, ...]
    opened_index: int
    advertised: dict[str, str] = field(default_factory=dict)
    u1: dict[str, str] = field(default_factory=dict)
    left_out: tuple[LeftOut, ...] = ()
    view: str = ""
    u1_index: int = -1
    shares: dict[str, str] = field(default_factory=dict)
    u2: dict[str, str] = field(default_factory=dict)
    h_u2: str = ""
    u2_index: int = -1
    updates: dict[str, str] = field(default_factory=dict)
    u3: dict[str, str] = field(default_factory=dict)
    h_u3: str = ""
    u3_index: int = -1
    agreed: dict[str, str] = field(default_factory=dict)  # id -> leaf of its survivors.agreed, 64 hex
    request: UnmaskRequest | None = None
    request_index: int = -1
    responses: dict[str, str] = field(default_factory=dict)
    published: AggregatePublished | None = None
    ring: str = ""
    published_index: int = -1
    accepted: dict[str, int] = field(default_factory=dict)  # id -> entry index; of a vote: its count
    counted: VotesCounted | None = None
    counted_index: int = -1
    tallied: ValidationCounted | None = None
    tallied_index: int = -1
    refused: dict[str, str] = field(default_factory=dict)  # id -> step it refused in this session
    erased: dict[str, int] = field(default_factory=dict)  # id -> entry index of its attempt.erased
    late: set[tuple[str, str]] = field(default_factory=set)  # (type, id) of answers after their step
    disputed: bool = False  # a survivor found another aggregate, or another count than published
    evidence: str = ""  # what the log says of its evidence: "", "kept" or "shredded"

    @property
    def step(self) -> str:
        """The step whose answers are awaited."""
        if self.is_told:
            return (
                "tally" if self.tallied is not None else "count" if self.counted is not None else "aggregate"
            )
        if self.request is not None:
            return "unmask"
        if self.u3:
            return "survivors"
        if self.u2:
            return "upload"
        return "share" if self.u1 else "advertise"

    @property
    def is_told(self) -> bool:
        """Whether what the session was for is in the log: its sum, the count of its votes, or its counts."""
        return self.published is not None or self.counted is not None or self.tallied is not None

    @property
    def family(self) -> tuple[str, str]:
        """Name of the sums that this one could be subtracted from: (base, purpose).

        Counts have none of their own for each base: the notes that are counted are the same in every round.
        """
        return ("" if self.purpose == COUNTS else self.base, self.purpose)

    def is_out(self, site: str) -> bool:
        """Say whether a site gives no further secret answer in this session."""
        return site in self.erased or site in self.refused

    def erased_unopened(self, before: int, *, survivors_only: bool = False) -> int:
        """Count members that erased, having opened nothing, before an entry index (G37).

        Args:
            before: Entry index.
            survivors_only: Count members of U3 alone, as a sparse graph needs it (R6.15.9).
        """
        return sum(
            index < before
            for site, index in self.erased.items()
            if site not in self.responses and (site in self.u3 or not survivors_only)
        )


@dataclass(slots=True)
class Round:
    """One round, as far as it has come."""

    number: int
    base: str
    plan: Entry
    accepted: dict[str, int] = field(default_factory=dict)  # id -> entry index of plan.accepted
    ready: dict[str, int] = field(default_factory=dict)  # id -> entry index of update.ready
    charged: set[str] = field(default_factory=set)  # ids with a dp.spent of this round
    commitments: dict[str, str] = field(default_factory=dict)  # id -> what it will contribute to a graph
    refused: dict[str, str] = field(default_factory=dict)  # id -> plan | train
    sessions: list[Session] = field(default_factory=list)
    failed: set[tuple[str, str]] = field(default_factory=set)  # (site, step) of delivery.failed
    late: set[tuple[str, str]] = field(default_factory=set)  # (type, id) of answers after the round
    outcome: str | None = None  # closed | aborted | rolled_back

    @property
    def summed(self) -> Session | None:
        """The session of updates whose sum was published, if any."""
        return next((s for s in self.sessions if s.published is not None), None)

    @property
    def vote(self) -> Session | None:
        """The last session of a vote on that sum, if any."""
        return next((s for s in reversed(self.sessions) if s.purpose == "score"), None)

    @property
    def counts(self) -> Session | None:
        """The last session of validation counts of that sum, if any."""
        return next((s for s in reversed(self.sessions) if s.purpose == COUNTS), None)

    @property
    def disputed(self) -> bool:
        """Whether a survivor found another sum, or a site another count, than was published."""
        return any(session.disputed for session in self.sessions)

    def attempts(self, purpose: str) -> int:
        """Count the sessions of one purpose."""
        return sum(session.purpose == purpose for session in self.sessions)


@dataclass(slots=True)
class State:
    """Everything the law needs to judge the next event."""

    terms: CharterTerms
    book: KeyBook
    tree: Tree = field(default_factory=Tree)
    positions: dict[str, int] = field(default_factory=dict)  # leaf, 64 hex -> entry index
    chains: dict[str, Chain] = field(default_factory=dict)
    seen: dict[str, int] = field(default_factory=dict)  # id -> size of the last head it saw
    pending: PendingReceipt | None = None
    run: str | None = None
    enrolled: dict[str, int] = field(default_factory=dict)  # id -> entry index
    signed: dict[str, int] = field(default_factory=dict)
    run_opened: bool = False
    run_closed: bool = False
    log_closed: bool = False
    released: str | None = None
    base: str = ""
    optimiser: str | None = None  # digest of the state of the server's optimiser that goes with the base
    rounds: dict[int, Round] = field(default_factory=dict)
    refusals: set[Refused] = field(default_factory=set)
    closed_rounds: list[ClosedRound] = field(default_factory=list)
    sids: dict[str, Session] = field(default_factory=dict)
    consented: dict[tuple[str, str], list[Session]] = field(default_factory=dict)  # by family
    unspent: dict[str, set[str]] = field(default_factory=dict)  # id -> sids whose secrets it may still hold
    spent: dict[str, Spending] = field(default_factory=dict)  # id -> its charges in this log
    retention: Retention = field(default_factory=Retention)
    rotated: dict[tuple[str, str], int] = field(default_factory=dict)  # (id, key) -> rounds planned by then

    @classmethod
    def begin(cls, terms: CharterTerms) -> Self:
        """Return the state of an empty log under this charter."""
        book = KeyBook.begin(terms.members, coordinator_vkey=terms.coordinator_vkey, log_vkey=terms.log_vkey)
        return cls(terms, book, base=terms.initial_adapter, optimiser=terms.initial_state)

    @property
    def size(self) -> int:
        """Number of entries."""
        return self.tree.size

    @property
    def round(self) -> Round | None:
        """The open round, if any."""
        last = self.rounds.get(len(self.rounds))
        return last if last is not None and last.outcome is None else None

    @property
    def remaining(self) -> tuple[str, ...]:
        """Members that have not left, in charter order."""
        return tuple(site for site in self.terms.member_ids if site not in self.book.left)

    @property
    def shortage(self) -> str:
        """Why those who remain cannot carry another round; empty if they can."""
        terms, there = self.terms, self.remaining
        if len(there) < terms.threshold:
            return f"{len(there)} of {terms.n} members remain and a round needs {terms.threshold}"
        custody = terms.custody
        if custody is not None and not any(custody.decrypts(site) for site in there):
            return f"{custody.holder}, which alone holds the CKKS key, has left"
        return ""

    @property
    def session(self) -> Session | None:
        """The live session of the open round, if any."""
        current = self.round
        return current.sessions[-1] if current is not None and current.sessions else None

    def cannot_be_opened(self, session: Session, before: int) -> bool:
        """Say whether an earlier session's sum is out of reach for good, by the log before an index (G37).

        With masks fewer than T shares of any secret are left once T members erased theirs. R6.16.10: with
        CKKS one key opens the sum, so everybody in it who holds the key must have erased unopened.
        """
        custody = self.terms.custody
        if custody is None:
            sparse = self.terms.graph is not None  # R6.15.9
            return session.erased_unopened(before, survivors_only=sparse) >= self.terms.threshold
        return all(
            session.erased.get(site, before) < before and site not in session.responses
            for site in session.u3
            if custody.decrypts(site)
        )

    def head(self, size: int | None = None) -> Saw:
        """Return the head of the first ``size`` entries (all by default), in the form of ``saw``."""
        size = self.size if size is None else size
        return Saw(size=size, root=self.tree.root(size).hex())

    def chain_of(self, actor_id: str) -> Chain:
        """Return where an author stands in this log."""
        return self.chains.get(actor_id, Chain())

    def key_of(self, actor: Actor) -> VerifierKey:
        """Return the key that this actor's next event must be signed with.

        Raises:
            LawError: The actor is no party of this charter (R2).
        """
        key = self.book.event_key_of(actor)
        if key is None:  # R2
            raise LawError("R2", f"{actor.id} is no member of this charter")
        return key
