"""Codes of the FHIR export: what each type of event and each blob is called there (AUDIT "Exports").

A type of event that is missing here cannot be exported; a test compares the table with the schema.
"""

from collections.abc import Mapping
from typing import Final, NamedTuple

DCM: Final = "http://dicom.nema.org/resources/ontology/DCM"
EVENT_TYPE: Final = "urn:fedmedlora:flaudit-1:type"
ACTOR: Final = "urn:fedmedlora:actor"
USER: Final = "urn:fedmedlora:user"
LOG: Final = "urn:fedmedlora:log"
LEAF: Final = "urn:fedmedlora:leaf:rfc6962-sha256"
BLOB: Final = "urn:fedmedlora:blob:rfc6962-1mib"
ENDPOINT: Final = "urn:fedmedlora:endpoint:"
POLICY: Final = "urn:fedmedlora:policy:sha256:"
VERIFICATION: Final = "urn:fedmedlora:verification"
ENTITY_TYPE: Final = "http://terminology.hl7.org/CodeSystem/audit-entity-type"
OBJECT_ROLE: Final = "http://terminology.hl7.org/CodeSystem/object-role"
SOURCE_TYPE: Final = "http://terminology.hl7.org/CodeSystem/security-source-type"
PARTICIPATION: Final = "http://terminology.hl7.org/CodeSystem/v3-ParticipationType"
ACT_REASON: Final = "http://terminology.hl7.org/CodeSystem/v3-ActReason"

EVENT_IDS: Final[Mapping[str, str]] = {
    "110100": "Application Activity",
    "110101": "Audit Log Used",
    "110106": "Export",
    "110113": "Security Alert",
}
"""DICOM event ids in use; none of them says that a call was FHIR REST."""
ROLES: Final[Mapping[str, str]] = {"4": "Domain Resource", "13": "Security Resource"}
AGENTS: Final[Mapping[str, str]] = {"110152": "Destination Role ID", "110153": "Source Role ID"}
PURPOSES: Final[Mapping[str, str]] = {
    "HRESCH": "healthcare research",
    "HQUALIMP": "health quality improvement",
}


class Type(NamedTuple):
    """What a type of event is called: the DICOM event id and a caption."""

    event_id: str
    caption: str


TYPES: Final[Mapping[str, Type]] = {
    "log.genesis": Type("110100", "Log begun"),
    "site.enrolled": Type("110113", "Site enrolled"),
    "charter.signed": Type("110100", "Charter signed"),
    "run.opened": Type("110100", "Run opened"),
    "round.plan": Type("110100", "Round planned"),
    "plan.accepted": Type("110100", "Plan accepted"),
    "update.ready": Type("110100", "Update ready"),
    "session.opened": Type("110100", "Session opened"),
    "keys.advertised": Type("110100", "Keys advertised"),
    "keys.broadcast": Type("110100", "Keys broadcast"),
    "shares.sent": Type("110100", "Shares sent"),
    "shares.fixed": Type("110100", "Shares fixed"),
    "update.submitted": Type("110100", "Masked update submitted"),
    "survivors.fixed": Type("110100", "Survivors fixed"),
    "survivors.agreed": Type("110100", "Survivors agreed"),
    "unmask.request": Type("110100", "Shares asked for"),
    "unmask.response": Type("110100", "Shares opened"),
    "aggregate.published": Type("110100", "Sum published"),
    "aggregate.accepted": Type("110100", "Sum accepted"),
    "votes.counted": Type("110100", "Votes counted"),
    "votes.checked": Type("110100", "Count checked"),
    "validation.counted": Type("110100", "Validation counts summed"),
    "validation.checked": Type("110100", "Validation counts checked"),
    "round.closed": Type("110100", "Round closed"),
    "round.aborted": Type("110100", "Round aborted"),
    "receipt": Type("110100", "Receipt given"),
    "step.refused": Type("110113", "Step refused"),
    "attempt.erased": Type("110100", "Secrets of a session erased"),
    "delivery.failed": Type("110100", "Delivery failed"),
    "evidence.kept": Type("110100", "Evidence kept"),
    "evidence.shredded": Type("110100", "Evidence shredded"),
    "model.released": Type("110106", "Model released"),
    "run.closed": Type("110100", "Run closed"),
    "round.rolled_back": Type("110100", "Round rolled back"),
    "dp.spent": Type("110100", "Privacy budget spent"),
    "key.rotated": Type("110113", "Keys rotated"),
    "key.revoked": Type("110113", "Key revoked"),
    "site.left": Type("110113", "Site left"),
    "audit.exported": Type("110101", "Audit log exported"),
    "log.closed": Type("110100", "Log closed"),
    "retention.hold": Type("110100", "Legal hold placed"),
    "retention.release": Type("110100", "Legal hold released"),
    "retention.pruned": Type("110100", "Entries deleted after their time"),
}

OBJECT_ROLES: Final[Mapping[str, str]] = {
    "keys": "13",
    "shares": "13",
    "opened-shares": "13",
    "masked-update": "4",
    "decrypted-sum": "4",
    "ring-sum": "4",
    "adapter": "4",
}
"""Role of a blob as a FHIR object: key material of a session, or something that is computed with."""
