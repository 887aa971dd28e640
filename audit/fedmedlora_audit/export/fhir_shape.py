"""What an exported AuditEvent may hold: fields, value sets and what has to be there (AUDIT "Exports").

A general validator of FHIR judges names and types of fields, not the codes in them; here both are closed.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, get_args

from pydantic import ConfigDict, Field, ValidationError, model_validator

from fedmedlora_audit.errors import ExportError
from fedmedlora_audit.event_data import AbortReason, Closed, RefusalReason
from fedmedlora_audit.events import KINDS
from fedmedlora_audit.export import fhir_codes as codes
from fedmedlora_audit.export.record import Verification

Text = Annotated[str, Field(pattern=r"^\S([^\x00-\x1f]*\S)?$")]
Leaf = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Instant = Annotated[str, Field(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$")]
Uri = Annotated[str, Field(pattern=r"^urn:fedmedlora:[!-~]+$")]
EntityRole = Literal[
    "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13",
    "14", "15", "16", "17", "18", "19", "20", "21", "22", "23", "24",
]  # fmt: skip
REASONS = frozenset((*get_args(AbortReason), *get_args(RefusalReason)))


class Shape(Closed):
    """A closed value whose types are not converted."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Tag(Shape):
    """Whether the bundle was verified."""

    system: Literal["urn:fedmedlora:verification"]
    code: Verification


class Meta(Shape):
    """The one tag."""

    tag: list[Tag] = Field(min_length=1, max_length=1)


class EventId(Shape):
    """The DICOM event id."""

    system: Literal["http://dicom.nema.org/resources/ontology/DCM"]
    code: Literal["110100", "110101", "110106", "110113"]
    display: Text

    @model_validator(mode="after")
    def _caption(self) -> Self:
        if self.display != codes.EVENT_IDS[self.code]:
            raise ValueError("not the caption of the code")
        return self


class Subtype(Shape):
    """The event's own type, with the caption of the table."""

    system: Literal["urn:fedmedlora:flaudit-1:type"]
    code: str
    display: Text

    @model_validator(mode="after")
    def _of_the_schema(self) -> Self:
        if self.code not in KINDS or self.display != codes.TYPES[self.code].caption:
            raise ValueError("no type of event with this caption")
        return self


class AgentCoding(Shape):
    """What part an agent had."""

    system: Literal[
        "http://dicom.nema.org/resources/ontology/DCM",
        "http://terminology.hl7.org/CodeSystem/v3-ParticipationType",
    ]
    code: Literal["110152", "110153", "AUT"]
    display: Text

    @model_validator(mode="after")
    def _of_the_system(self) -> Self:
        if (self.code == "AUT") != (self.system == codes.PARTICIPATION):
            raise ValueError("the code is of another system")
        return self


class AgentType(Shape):
    """One coding."""

    coding: list[AgentCoding] = Field(min_length=1, max_length=1)


class Identifier(Shape):
    """A name in one of our systems."""

    system: Uri
    value: Text


class Reference(Shape):
    """Something known by its identifier; exports hold no links."""

    identifier: Identifier


class Network(Shape):
    """An enrolled endpoint; 1 name, 2 IP address, 3 telephone, 4 e-mail, 5 URI in FHIR's value set."""

    address: Text
    type: Literal["1", "2", "3", "4", "5"]

    @model_validator(mode="after")
    def _no_address_of_a_person(self) -> Self:
        if self.type != "5" or not self.address.startswith(codes.ENDPOINT):
            raise ValueError("an endpoint is named, never addressed")
        return self


class Agent(Shape):
    """A party, or a person by pseudonym."""

    type: AgentType
    who: Reference
    requestor: bool
    network: Network | None = None
    altId: Annotated[str, Field(pattern=r"^[0-9a-f]{8}$")] | None = None  # noqa: N815
    policy: list[Uri] | None = None


class SourceType(Shape):
    """What kind of system wrote the log."""

    system: Literal["http://terminology.hl7.org/CodeSystem/security-source-type"]
    code: Literal["1", "2", "3", "4", "5", "6", "7", "8", "9"]
    display: Text


class Source(Shape):
    """The log."""

    site: Text
    observer: Reference
    type: list[SourceType] = Field(min_length=1)


class EntityType(Shape):
    """Person, system object, organisation or other."""

    system: Literal["http://terminology.hl7.org/CodeSystem/audit-entity-type"]
    code: Literal["1", "2", "3", "4"]
    display: Text


class RoleCoding(Shape):
    """What part an object had."""

    system: Literal["http://terminology.hl7.org/CodeSystem/object-role"]
    code: EntityRole
    display: Text


class Detail(Shape):
    """A named value."""

    type: Annotated[str, Field(pattern=r"^[a-z][a-z0-9._-]{0,63}$")]
    valueString: Text  # noqa: N815


class Entity(Shape):
    """The log entry, or a blob."""

    what: Reference
    type: EntityType
    role: RoleCoding
    detail: list[Detail] = Field(min_length=1)


class PurposeCoding(Shape):
    """Why, in the words of HL7."""

    system: Literal["http://terminology.hl7.org/CodeSystem/v3-ActReason"]
    code: Literal["HRESCH", "HQUALIMP"]
    display: Text


class Purpose(Shape):
    """One coding."""

    coding: list[PurposeCoding] = Field(min_length=1, max_length=1)


class AuditEventShape(Shape):
    """One line of a FHIR export."""

    resourceType: Literal["AuditEvent"]  # noqa: N815
    id: Leaf
    meta: Meta
    type: EventId
    subtype: list[Subtype] = Field(min_length=1, max_length=1)
    action: Literal["C", "R", "U", "D", "E"]
    recorded: Instant
    outcome: Literal["0", "4", "8", "12"]
    outcomeDesc: str | None = None  # noqa: N815
    purposeOfEvent: list[Purpose] | None = None  # noqa: N815
    agent: list[Agent] = Field(min_length=1, max_length=3)
    source: Source
    entity: list[Entity] = Field(min_length=1, max_length=2)

    @model_validator(mode="after")
    def _leads_back(self) -> Self:
        if [agent.requestor for agent in self.agent].count(True) != 1:
            raise ValueError("one agent is the author")
        if self.outcomeDesc is not None and self.outcomeDesc not in REASONS:
            raise ValueError("a reason of no list")
        said = [(d.type, d.valueString) for d in self.entity[0].detail]
        if said[0][0] != "leaf-index" or not said[0][1].isdecimal() or ("leaf-hash", self.id) not in said:
            raise ValueError("the row does not lead back to its entry")
        return self


def check_audit_event(row: Mapping[str, Any]) -> None:
    """Judge an AuditEvent against the value sets of R4B and what our rows hold.

    Raises:
        ExportError: A field is unknown or missing, or a code is of no value set.
    """
    try:
        AuditEventShape.model_validate(row)
    except ValidationError as error:
        where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
        leaf = row.get("id")
        raise ExportError(f"the AuditEvent of leaf {leaf}: field {where or 'of the whole'}") from None
