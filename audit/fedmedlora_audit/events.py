"""Events: what a party says, in canonical JSON, signed by itself (schema ``flaudit/1``, AUDIT "Events").

Rules:
    * The text of an event is one line of RFC 8785 canonical JSON and a newline; the leaf is the hash of the
      whole note. Whoever parses also writes again and compares, so an event has exactly one spelling:
      duplicate keys, ``1.0`` for ``1`` and every reordering are refused (E1).
    * The schema is closed: per type one data model, one author role, one action and outcome, fixed objects.
    * At most 65,535 bytes, so that an event fits an entry of a tile.

What this does not do: judge whether the event may be said now (the law), or whose key counts (the charter).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, Literal, NamedTuple, Self, cast

import rfc8785
from pydantic import (
    AfterValidator,
    Field,
    SerializeAsAny,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_serializer,
    model_validator,
)

from fedmedlora_audit import event_data as of
from fedmedlora_audit import retention as keep
from fedmedlora_audit import validation_data as validation
from fedmedlora_audit.errors import EventError
from fedmedlora_audit.event_data import AbortReason, Closed, Count, Data, Digest, Id, Round
from fedmedlora_audit.event_types import EventType
from fedmedlora_audit.merkle import leaf_hash
from fedmedlora_audit.note import Claim, NoteSigner, UnverifiedNote, VerifierKey, holds, parse_note

SCHEMA: Final = "flaudit/1"
MAX_EVENT_BYTES: Final = 65_535
COORDINATOR_ID: Final = "coordinator"

Role = Literal["coordinator", "site"]
Action = Literal["C", "R", "U", "D", "E"]
Outcome = Literal[0, 4, 8, 12]
ObjectRole = Literal[
    "keys", "shares", "masked-update", "opened-shares", "decrypted-sum", "ring-sum", "adapter"
]


class Kind(NamedTuple):
    """What is fixed by an event's type."""

    author: Role
    data: type[Data]
    action: Action
    in_round: bool | None = True  # None: either
    object_role: ObjectRole | None = None
    outcome: Outcome = 0


KINDS: Final[Mapping[str, Kind]] = {
    "log.genesis": Kind("coordinator", of.Genesis, "C", False),
    "site.enrolled": Kind("coordinator", of.Enrolled, "C", False),
    "charter.signed": Kind("site", of.CharterSigned, "E", False),
    "run.opened": Kind("coordinator", of.RunOpened, "E", False),
    "round.plan": Kind("coordinator", of.Base, "C"),
    "plan.accepted": Kind("site", of.Base, "E"),
    "update.ready": Kind("site", of.UpdateReady, "E"),
    "session.opened": Kind("coordinator", of.SessionOpened, "C"),
    "keys.advertised": Kind("site", of.InSession, "E", True, "keys"),
    "keys.broadcast": Kind("coordinator", of.KeysBroadcast, "E"),
    "shares.sent": Kind("site", of.SharesSent, "E", True, "shares"),
    "shares.fixed": Kind("coordinator", of.SharesFixed, "E"),
    "update.submitted": Kind("site", of.UpdateSubmitted, "E", True, "masked-update"),
    "survivors.fixed": Kind("coordinator", of.SurvivorsFixed, "E"),
    "survivors.agreed": Kind("site", of.SurvivorsAgreed, "E"),
    "unmask.request": Kind("coordinator", of.UnmaskRequest, "E"),
    "unmask.response": Kind("site", of.UnmaskResponse, "E", True, "opened-shares"),
    "aggregate.published": Kind("coordinator", of.AggregatePublished, "C", True, "ring-sum"),
    "aggregate.accepted": Kind("site", of.AggregateAccepted, "E"),
    "votes.counted": Kind("coordinator", of.VotesCounted, "C"),
    "votes.checked": Kind("site", of.VotesCounted, "E"),
    "validation.counted": Kind("coordinator", validation.ValidationCounted, "C"),
    "validation.checked": Kind("site", validation.ValidationCounted, "E"),
    "round.closed": Kind("coordinator", of.RoundClosed, "U"),
    "round.aborted": Kind("coordinator", of.Base, "E", outcome=8),
    "receipt": Kind("coordinator", of.Receipt, "E", None),
    "step.refused": Kind("site", of.StepRefused, "E", None, outcome=8),
    "attempt.erased": Kind("site", of.InSession, "D"),
    "delivery.failed": Kind("coordinator", of.DeliveryFailed, "E", outcome=4),
    "evidence.kept": Kind("coordinator", of.InSession, "C"),
    "evidence.shredded": Kind("coordinator", of.InSession, "D"),
    "model.released": Kind("coordinator", of.ModelReleased, "C", False),
    "run.closed": Kind("coordinator", of.RunClosed, "E", False),
    "round.rolled_back": Kind("coordinator", of.RolledBack, "U", outcome=8),
    "dp.spent": Kind("site", of.DpSpent, "E"),
    "key.rotated": Kind("site", of.KeyRotated, "U", False),
    "key.revoked": Kind("coordinator", of.KeyRevoked, "D", None),
    "site.left": Kind("site", of.SiteLeft, "D", False),
    "audit.exported": Kind("coordinator", of.LogHead, "R", None),
    "log.closed": Kind("coordinator", of.LogHead, "E", None),
    "retention.hold": Kind("coordinator", keep.RetentionHold, "C", False),
    "retention.release": Kind("coordinator", keep.RetentionRelease, "E", False),
    "retention.pruned": Kind("coordinator", keep.RetentionPruned, "D", False),
}


def _moment(time: str) -> str:
    datetime.fromisoformat(time)  # a ValueError for 31 February, or hour 25
    return time


# R5.1.4
Time = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}-[01][0-9]-[0-3][0-9]T[0-2][0-9]:[0-5][0-9]:[0-5][0-9]Z$"),
    AfterValidator(_moment),
]


class Actor(Closed):
    """Who speaks, and the id of the key that signs."""

    id: Id
    key: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    role: Role


class Saw(Closed):
    """The last head the author had verified when it spoke."""

    root: Digest
    size: Count


class Peer(Closed):
    """The other end of the call that led to this event."""

    id: Id
    rpc: Annotated[str, Field(pattern=r"^[A-Za-z]{1,32}$")]
    tls: Digest


class Object(Closed):
    """A blob that goes with the event, named by digest and size."""

    alg: Literal["rfc6962-1mib"] = "rfc6962-1mib"
    bytes: Count
    digest: Digest
    role: ObjectRole


class Event(Closed):
    """One event of the log. Optional fields are absent from the text when None."""

    schema_: Literal["flaudit/1"] = Field(default="flaudit/1", alias="schema")
    log: Annotated[str, Field(pattern=r"^[A-Za-z0-9./:_-]{1,128}$")]
    type: EventType
    actor: Actor
    user: Annotated[str, Field(pattern=r"^u-[0-9a-f]{16}$")] | None = None
    seq: Annotated[int, Field(ge=1, le=of.MAX_INT)]
    prev: Digest
    saw: Saw
    time: Time
    run: Id
    round: Round | None = None
    action: Action
    outcome: Outcome
    reason: AbortReason | None = None
    purpose: Literal["HRESCH", "HQUALIMP"] | None = None
    peer: Peer | None = None
    objects: tuple[Object, ...] = Field(max_length=1)
    refs: tuple[Digest, ...] = Field(max_length=512)
    policy: Digest | None = None
    data: SerializeAsAny[Data]

    @field_validator("data", mode="before")
    @classmethod
    def _data_of_the_type(cls, value: object, info: ValidationInfo) -> Data:
        kind = KINDS.get(info.data.get("type", ""))
        if kind is None:
            raise ValueError("no such type of event")
        if isinstance(value, Data):
            if type(value) is not kind.data:
                raise ValueError("data of another type of event")
            return value
        return kind.data.model_validate(value)

    @model_validator(mode="after")
    def _fixed_by_the_type(self) -> Self:
        kind = KINDS[self.type]
        if (self.actor.role, self.action, self.outcome) != (kind.author, kind.action, kind.outcome):
            raise ValueError("author role, action and outcome are fixed by the type")
        if (self.actor.role == "coordinator") != (self.actor.id == COORDINATOR_ID):
            raise ValueError("the id 'coordinator' belongs to the coordinator alone")
        if kind.in_round is not None and kind.in_round != (self.round is not None):
            raise ValueError("a round number where the type has none, or none where it has one")
        if (self.reason is not None) != (self.type == "round.aborted"):
            raise ValueError("a reason belongs to round.aborted, and that has one")
        roles = [item.role for item in self.objects]
        optional = (self.type, roles) in (
            ("model.released", ["adapter"]),
            ("unmask.response", ["decrypted-sum"]),
        )
        if roles != ([kind.object_role] if kind.object_role else []) and not optional:
            raise ValueError("the objects of an event are fixed by its type")
        if len(set(self.refs)) != len(self.refs):
            raise ValueError("refs occur once")
        return self

    @model_serializer(mode="wrap")
    def _without_none(self, handler: Any) -> dict[str, Any]:
        fields: dict[str, Any] = handler(self)
        return {name: fields[name] for name in sorted(fields) if fields[name] is not None}

    @property
    def sid(self) -> str | None:
        """The session this event speaks of, if any."""
        return getattr(self.data, "sid", None)

    @property
    def object_digest(self) -> str:
        """The digest of the event's one object (only for types that have one)."""
        return self.objects[0].digest

    def canonical_json(self) -> bytes:
        """Return the one spelling of this event (RFC 8785)."""
        return rfc8785.dumps(_plain(self.model_dump(by_alias=True)))

    def is_written(self, text: bytes) -> bool:
        """Tell whether this is the one spelling of the event, without the price of `canonical_json`."""
        # No floats, no integers beyond 2^53, every model declared in the order of its keys: compact JSON is
        # RFC 8785 then. A text that differs is asked again of the library that knows the whole standard.
        quick = self.model_dump_json(by_alias=True, exclude_none=True).encode()
        return quick == text or self.canonical_json() == text


def _plain(value: object) -> Any:
    """Turn tuples into lists and drop optional fields that are absent."""
    if isinstance(value, dict):
        return {name: _plain(part) for name, part in value.items() if part is not None}
    if isinstance(value, tuple | list):
        return [_plain(part) for part in value]
    return value


@dataclass(frozen=True, slots=True)
class UnverifiedEvent:
    """An event of the right form whose signature nobody has checked yet."""

    event: Event
    note: UnverifiedNote

    def verify(self, key: VerifierKey) -> Event:
        """Return the event if this key signed it.

        Raises:
            NoteError: The signature does not hold, is not alone, or is of another key.
        """
        return self.taken(key, held=holds(self.claim(key)))

    def claim(self, key: VerifierKey) -> Claim:
        """Return what has to hold for this key to have signed it; see `VerifierKey.claim_alone`."""
        return key.claim_alone(self.note)

    def taken(self, key: VerifierKey, *, held: bool) -> Event:
        """Return the event if the claim was found to hold; raises as `verify` does otherwise."""
        key.need(held)
        if self.event.actor.key != key.key_id:
            raise EventError("the event names another key than the one that signed", check="E2")
        return self.event


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of the log.

    Attributes:
        index: Position in the log.
        leaf: Leaf hash of the note, 32 bytes.
        note: The signed bytes.
        event: What they say.
    """

    index: int
    leaf: bytes
    note: bytes
    event: Event


def encode_event(event: Event, signer: NoteSigner) -> bytes:
    """Sign an event with its author's key; returns the note.

    Raises:
        EventError: The event names another key, or is too large.
    """
    if event.actor.key != signer.key_id:
        raise EventError("the event names another key than the one that signs", check="E2")
    note = signer.sign(event.canonical_json().decode() + "\n")
    if len(note) > MAX_EVENT_BYTES:
        raise EventError(f"an event has at most {MAX_EVENT_BYTES} bytes, got {len(note)}")
    return note


def parse_event(note: bytes) -> UnverifiedEvent:
    """Read a note as an event without checking the signature: to learn whose key to ask for.

    Raises:
        NoteError: The bytes are no note.
        EventError: The text is not the canonical text of a valid event.
    """
    if len(note) > MAX_EVENT_BYTES:
        raise EventError(f"an event has at most {MAX_EVENT_BYTES} bytes, got {len(note)}")
    parsed = parse_note(note)
    text = parsed.text.encode()
    try:
        event = Event.model_validate_json(text)
        canonical = text.endswith(b"\n") and event.is_written(text[:-1])
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        raise EventError(f"not an event of schema {SCHEMA}: field {where or 'data'}") from None
    except (ValueError, RecursionError):
        raise EventError(f"not an event of schema {SCHEMA}") from None
    if not canonical:
        raise EventError("an event is written in canonical JSON, followed by one newline")
    return UnverifiedEvent(event, parsed)


def open_event(note: bytes, key: VerifierKey) -> Event:
    """Return the event of a note signed by this key.

    Raises:
        NoteError: The signature does not hold.
        EventError: The text is not the canonical text of a valid event.
    """
    return parse_event(note).verify(key)


def entry_of(index: int, note: bytes, event: Event) -> Entry:
    """Make the entry of an opened event."""
    return Entry(index, leaf_hash(note), note, event)


def make_event(fields: Mapping[str, object]) -> Event:
    """Build an event from its fields, with action and outcome filled in by the type.

    Raises:
        EventError: The fields are not an event (the caller's mistake).
    """
    kind = KINDS.get(cast(str, fields.get("type")))
    if kind is None:
        raise EventError("no such type of event")
    try:
        return Event.model_validate({"action": kind.action, "outcome": kind.outcome, **fields})
    except ValidationError as error:
        first = error.errors(include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise EventError(f"not an event of schema {SCHEMA}: {where} {first['msg']}") from None
