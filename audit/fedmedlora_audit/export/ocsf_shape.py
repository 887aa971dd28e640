"""What an exported API Activity may hold: required attributes, enums, numbers that fit (AUDIT "Exports").

The attributes are those that our rows use, of OCSF 1.9.0; anything else is an error.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from fedmedlora_audit.errors import ExportError
from fedmedlora_audit.event_data import MAX_INT, Count, Digest
from fedmedlora_audit.events import KINDS, MAX_EVENT_BYTES, ObjectRole, Peer, Saw
from fedmedlora_audit.export import ocsf_codes as codes
from fedmedlora_audit.export.fhir_shape import REASONS, Shape, Text
from fedmedlora_audit.export.ocsf import milliseconds
from fedmedlora_audit.export.record import Verification
from fedmedlora_audit.merkle import leaf_hash

Id = Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
Label = Literal["verification:verified", "verification:incomplete", "verification:unverified"]


class Product(Shape):
    """Whose log it is."""

    name: Text
    vendor_name: Text


class Metadata(Shape):
    """Where the row is from."""

    version: Literal["1.9.0"]
    profiles: list[Literal["record_integrity"]] = Field(min_length=1, max_length=1)
    product: Product
    uid: Digest
    sequence: Count
    event_code: str
    log_name: Text
    log_version: Literal["flaudit/1"]
    original_time: str
    labels: list[Label] = Field(min_length=1, max_length=1)


class User(Shape):
    """A person by pseudonym."""

    uid: Annotated[str, Field(pattern=r"^u-[0-9a-f]{16}$")]


class Actor(Shape):
    """Who did it."""

    app_uid: Id
    user: User | None = None


class Api(Shape):
    """What was done."""

    operation: str
    version: Literal["flaudit/1"]


class Endpoint(Shape):
    """An enrolled party; never an address."""

    uid: Id


class BlobFacts(Shape):
    """How a blob is named, and its size."""

    alg: Literal["rfc6962-1mib"]
    bytes: Count


class Resource(Shape):
    """A blob."""

    uid: Digest
    type: ObjectRole
    data: BlobFacts


class Fingerprint(Shape):
    """A leaf hash."""

    algorithm_id: Literal[3]
    algorithm: Literal["SHA-256"]
    encoding_id: Literal[1]
    serialization_id: Literal[99]
    serialization: Literal["RFC 6962 leaf: a zero byte and raw_data"]
    value: Digest


class Signature(Shape):
    """How the note was signed; the bytes are in `unmapped`, as the object has no attribute for them."""

    algorithm_id: Literal[99]
    algorithm: Literal["Ed25519"]
    serialization_id: Literal[99]
    serialization: Literal["C2SP signed note: raw_data up to its empty line"]


class PreviousEvent(Shape):
    """The author's event before."""

    uid: Digest
    fingerprint: Fingerprint
    type_uid: Literal[600301, 600302, 600303, 600304, 600399] | None = None


class Attestation(Shape):
    """Integrity of the log entry."""

    uid: Digest
    authority_uid: Id
    chain_uid: Text
    fingerprint: Fingerprint
    signatures: list[Signature] = Field(min_length=1, max_length=1)
    prev_event: PreviousEvent | None = None


class Unmapped(Shape):
    """What the class has no attribute for."""

    leaf_index: Count
    leaf_hash: Digest
    verification: Verification
    signature_b64: Annotated[str, Field(pattern=r"^[A-Za-z0-9+/]{91}=$")]
    signature_key_id: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")]
    run: Id
    seq: Count
    saw: dict[str, Any]
    refs: list[Digest]
    data: dict[str, Any]
    receipt_index: Count | None = None
    round: Count | None = None
    purpose: Literal["HRESCH", "HQUALIMP"] | None = None
    policy: Digest | None = None
    peer: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _of_the_schema(self) -> Self:
        Saw.model_validate(self.saw)
        if self.peer is not None:
            Peer.model_validate(self.peer)
        return self


class ApiActivityShape(Shape):
    """One line of an OCSF export."""

    activity_id: Literal[1, 2, 3, 4, 99]
    activity_name: Literal["Create", "Read", "Update", "Delete", "Execute"]
    category_uid: Literal[6]
    class_uid: Literal[6003]
    type_uid: int
    severity_id: Literal[1, 2, 3]
    status_id: Literal[1, 2]
    status_code: str | None = None
    time: Annotated[int, Field(ge=-MAX_INT, le=MAX_INT)]
    metadata: Metadata
    actor: Actor
    api: Api
    src_endpoint: Endpoint
    dst_endpoint: Endpoint | None = None
    resources: list[Resource] | None = Field(default=None, min_length=1, max_length=1)
    attestation_list: list[Attestation] = Field(min_length=1, max_length=1)
    raw_data: Annotated[str, Field(max_length=MAX_EVENT_BYTES)]
    unmapped: Unmapped

    @model_validator(mode="after")
    def _sums_fit(self) -> Self:
        if self.type_uid != self.class_uid * 100 + self.activity_id:
            raise ValueError("type_uid is class_uid * 100 + activity_id")
        if (self.activity_id, self.activity_name) not in codes.ACTIVITIES.values():
            raise ValueError("not the name of the activity")
        if self.api.operation not in KINDS or self.metadata.event_code != self.api.operation:
            raise ValueError("no type of event")
        if self.time != milliseconds(self.metadata.original_time):
            raise ValueError("time is in milliseconds since 1970")
        if self.status_code is not None and self.status_code not in REASONS:
            raise ValueError("a reason of no list")
        return self

    @model_validator(mode="after")
    def _leads_back(self) -> Self:
        attestation = self.attestation_list[0]
        named = {self.metadata.uid, self.unmapped.leaf_hash, attestation.uid, attestation.fingerprint.value}
        if named != {leaf_hash(self.raw_data.encode()).hex()}:
            raise ValueError("the fingerprint is not that of raw_data")
        if self.metadata.sequence != self.unmapped.leaf_index:
            raise ValueError("two indexes")
        return self


def check_api_activity(row: Mapping[str, Any]) -> None:
    """Judge an API Activity: required attributes, enums, and the numbers that must fit each other.

    Raises:
        ExportError: An attribute is unknown or missing, or a value is of no enum.
    """
    try:
        ApiActivityShape.model_validate(row)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        index = row.get("unmapped", {}).get("leaf_index")
        raise ExportError(f"the API Activity of entry {index}: field {where or 'of the whole'}") from None
