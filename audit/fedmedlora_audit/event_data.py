"""What each type of event says: one closed model per type (AUDIT "Event types").

Rules:
    * R5.1.3: ids, digests, integers and enums only. No free text, no floats, no counts or scores of a single
      site: a field that could carry clinical content does not exist.
    * Every list of ids is sorted and free of repetition, so a set has one spelling.
    * An unknown field is an error.
    * Fields are declared in the order of their names: so they stand in the canonical text (RFC 8785).

What this does not do: say who may write which type when - that is the law.
"""

from typing import Annotated, Final, Literal, TypeVar

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

MAX_INT: Final = 2**53 - 1
"""Largest integer of canonical JSON (RFC 8785)."""

Id = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Vkey = Annotated[str, Field(pattern=r"^[^\s+]{1,128}\+[0-9a-f]{8}\+[A-Za-z0-9+/]{44}$")]
WitnessVkey = Annotated[
    str, Field(pattern=r"^[^\s+]{1,128}\+[0-9a-f]{8}\+([A-Za-z0-9+/]{44}|[A-Za-z0-9+/]{1751}=)$")
]
Proof = Annotated[str, Field(pattern=r"^([A-Za-z0-9+/]{86}==|[A-Za-z0-9+/]{3227}=)$")]
Software = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]{0,63}$")]
Count = Annotated[int, Field(ge=0, le=MAX_INT)]
Round = Annotated[int, Field(ge=1, le=1_000_000)]
Millionths = Annotated[int, Field(ge=1, le=1_000_000)]

Step = Literal[
    "sign",
    "plan",
    "train",
    "advertise",
    "share",
    "upload",
    "survivors",
    "unmask",
    "aggregate",
    "count",
    "tally",
    "erase",
]
Purpose = Literal["update", "statistics", "score"]
Suite = Literal["xwing-aes256ctr/2", "x25519-aes256ctr/2", "ckks/1", "plain/1"]
LeftOutReason = Literal["silent", "duplicate_key", "low_order_key", "malformed_key", "wrong_contribution"]
RefusalReason = Literal[
    "not_in_roster",
    "wrong_key",
    "wrong_charter",
    "wrong_base",
    "wrong_sid",
    "wrong_order",
    "short_roster",
    "short_inbox",
    "short_survivors",
    "not_included",
    "wrong_digest",
    "bad_share",
    "duplicate",
    "both_seeds",
    "late",
    "spent",
    "consent_spent",
    "log_forked",
    "policy",
    "bad_aggregate",
    "wrong_sum",
    "no_evidence",
    "wrong_count",
    "not_finite",
    "training_failed",
    "evaluation_failed",
    "unwitnessed",
    "over_budget",
]
AbortReason = Literal["below_threshold", "refused", "disagreement", "operator", "out_of_bounds", "bad_votes"]


def _sorted_ids(ids: tuple[str, ...]) -> tuple[str, ...]:
    if list(ids) != sorted(set(ids)):
        raise ValueError("ids are sorted and occur once")
    return ids


Ids = Annotated[tuple[Id, ...], AfterValidator(_sorted_ids)]


class Closed(BaseModel):
    """A frozen value in which an unknown field is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Data(Closed):
    """The typed part of an event."""


class IdDigest(Closed):
    """A site and the digest of what it sent."""

    digest: Digest
    id: Id


class LeftOut(Closed):
    """A site that is not in a list, and why."""

    id: Id
    reason: LeftOutReason


_Row = TypeVar("_Row", IdDigest, LeftOut)


def _sorted_rows(rows: tuple[_Row, ...]) -> tuple[_Row, ...]:
    _sorted_ids(tuple(row.id for row in rows))
    return rows


IdDigests = Annotated[tuple[IdDigest, ...], AfterValidator(_sorted_rows)]
LeftOuts = Annotated[tuple[LeftOut, ...], AfterValidator(_sorted_rows)]


# -- the study ------------------------------------------------------------------------------------------


class Genesis(Data):
    """``log.genesis``: this log serves this charter."""

    charter: Digest
    coordinator_vkey: Vkey
    log_vkey: Vkey
    software: Software


class Enrolled(Data):
    """``site.enrolled``: a member of the charter, with its keys."""

    event_vkey: Vkey
    site: Id
    witness_vkey: WitnessVkey


class CharterSigned(Data):
    """``charter.signed``: this member agrees to this charter."""

    charter: Digest


class RunOpened(Data):
    """``run.opened``: all members have signed; training starts from this base adapter."""

    base: Digest
    charter: Digest


class RunClosed(Data):
    """``run.closed``: no further round; ``rounds`` counts the closed ones."""

    rounds: Count


class ModelReleased(Data):
    """``model.released``: the last of ``rounds`` closed rounds; or ``round``, if counts chose it."""

    adapter: Digest
    round: Round | None = None
    rounds: Count


# -- a round --------------------------------------------------------------------------------------------


class Base(Data):
    """``round.plan``, ``plan.accepted``, ``round.aborted``: about this base adapter."""

    base: Digest


class UpdateReady(Data):
    """``update.ready``: an update from this base is waiting; with a graph, what it will contribute (G44)."""

    base: Digest
    graph: Digest | None = None


class RoundClosed(Data):
    """``round.closed``: these survivors accepted the aggregate; the next round starts from ``next_base``."""

    accepted: Ids
    next_base: Digest
    sid: Digest


# -- a session ------------------------------------------------------------------------------------------


class SessionOpened(Data):
    """``session.opened``: one secure sum, over the sites that have an update ready."""

    attempt: Annotated[int, Field(ge=1, le=1000)]
    base: Digest
    purpose: Purpose
    ready: Ids
    sid: Digest
    suite: Suite


class InSession(Data):
    """``keys.advertised``, ``attempt.erased``, ``evidence.kept|shredded``: about this session."""

    sid: Digest


class KeysBroadcast(Data):
    """``keys.broadcast``: U1 with the digest of each site's keys, and who was left out."""

    left_out: LeftOuts
    sid: Digest
    u1: IdDigests
    view: Digest


class SharesSent(Data):
    """``shares.sent``: this site's encrypted shares, made under this view."""

    sid: Digest
    view: Digest


class SharesFixed(Data):
    """``shares.fixed``: U2 with the digest of each site's encrypted shares (G34)."""

    sid: Digest
    u2: IdDigests
    view: Digest


class UpdateSubmitted(Data):
    """``update.submitted``: a masked upload, masked with exactly the U2 of this digest (G34)."""

    h_u2: Digest
    sid: Digest
    view: Digest


class SurvivorsFixed(Data):
    """``survivors.fixed``: U3 with the digest of each masked upload."""

    sid: Digest
    u3: IdDigests
    view: Digest


class SurvivorsAgreed(Data):
    """``survivors.agreed``: consent to open the sum over exactly this U3 (G34, G37)."""

    h_u2: Digest
    h_u3: Digest
    sid: Digest
    view: Digest


class UnmaskRequest(Data):
    """``unmask.request``: whose consent is shown, whose self seeds and whose pair keys are wanted."""

    pair_of: Ids
    self_of: Ids
    sid: Digest
    signers: Ids


class UnmaskResponse(Data):
    """``unmask.response``: shares of self seeds of these sites, of pair keys of those - never both."""

    pair_of: Ids
    self_of: Ids
    sid: Digest


class AggregatePublished(Data):
    """``aggregate.published``: the ring sum, what it decodes to, and the base it leads to (G41).

    With an optimiser of the server: also the state it came from and the one it leads to (R4.9.3).
    """

    delta: Digest
    inputs: IdDigests
    next_base: Digest
    sid: Digest
    state: Digest | None = None
    state_before: Digest | None = None
    weight_sum: Count


class AggregateAccepted(Data):
    """``aggregate.accepted``: this site computed the next base itself and found the same (G41)."""

    next_base: Digest
    ring: Digest
    sid: Digest
    state: Digest | None = None


class VotesCounted(Data):
    """``votes.counted``, ``votes.checked``: of these voters so many found the new adapter worse (G42)."""

    against: Count
    sid: Digest
    voters: Count

    @property
    def rejected(self) -> bool:
        """Whether a majority found the new adapter worse; a tie does not."""
        return 2 * self.against > self.voters


class RolledBack(Data):
    """``round.rolled_back``: the vote of this session refused the aggregate; the base stays."""

    base: Digest
    sid: Digest


# -- answers and oddities -------------------------------------------------------------------------------


class Receipt(Data):
    """``receipt``: the coordinator has this site's event; ``refs`` holds its leaf."""

    seq: Annotated[int, Field(ge=1, le=MAX_INT)]
    site: Id
    type: Annotated[str, Field(pattern=r"^[a-z]+\.[a-z_]+$")]


class StepRefused(Data):
    """``step.refused``: this site will not go on with this step."""

    reason: RefusalReason
    sid: Digest | None = None
    step: Step


class DeliveryFailed(Data):
    """``delivery.failed``: this site gave no answer at this step."""

    site: Id
    step: Step


class DpSpent(Data):
    """``dp.spent``: what one training of a round costs each unit; study constants, so it tells no size.

    Attributes:
        delta: The charter's.
        epsilon_milli: What this study has cost so far at this site, with this charge, rounded up.
        mechanism: What the numbers mean: "dp-sgd" is the Poisson-subsampled Gaussian.
        noise_milli: Noise multiplier in thousandths.
        sampling_micro: Probability with which a unit is drawn into a step, in millionths.
        steps: Steps of this training.
    """

    delta: Annotated[str, Field(pattern=r"^[1-9]e-[1-9][0-9]?$")]
    epsilon_milli: Count
    mechanism: Literal["dp-sgd"]
    noise_milli: Annotated[int, Field(ge=1, le=MAX_INT)]
    sampling_micro: Millionths
    steps: Annotated[int, Field(ge=1, le=1_000_000)]


# -- members and keys over time -------------------------------------------------------------------------


class KeyRotated(Data):
    """``key.rotated``: from the next entry on this key is the member's; signed with its old event key.

    Attributes:
        consent: Signature of the old witness key, for a witness key alone.
        key: Which of the member's keys.
        possession: Signature of the new key over `member_keys.rotation_message`.
        vkey: The new key.
    """

    consent: Proof | None = None
    key: Literal["event", "witness"]
    possession: Proof
    vkey: WitnessVkey


class SiteLeft(Data):
    """``site.left``: this member takes part in nothing further under this charter."""

    charter: Digest


# -- in the closed schema, written by later releases ----------------------------------------------------


class KeyRevoked(Data):
    """``key.revoked``: this key signs nothing any more."""

    key: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    site: Id


class LogHead(Data):
    """``audit.exported``, ``log.closed``: the log up to this size and root."""

    root: Digest
    size: Count
