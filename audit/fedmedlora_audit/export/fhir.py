"""FHIR R4B AuditEvent, one resource a line, shaped after IHE BALP (AUDIT "Exports").

No conformance to BALP is claimed: the calls of a study are not FHIR REST, so `type` is a DICOM event id and
`subtype` is the event's own type. Who wrote the event is the source agent, who it went to the destination.
The signature has no place in an AuditEvent; the leaf hash leads back to it.
"""

from typing import Any

import rfc8785

from fedmedlora_audit.events import Event, Object
from fedmedlora_audit.export import fhir_codes as codes
from fedmedlora_audit.export.record import Record

Json = dict[str, Any]


def audit_event(record: Record) -> Json:
    """Return the AuditEvent of an entry; its `id` is the leaf hash.

    Raises:
        KeyError: The event's type has no code (our mistake; a test compares the tables).
    """
    event = record.entry.event
    kind = codes.TYPES[event.type]
    row: Json = {
        "resourceType": "AuditEvent",
        "id": record.leaf,
        "meta": {"tag": [{"system": codes.VERIFICATION, "code": record.verification}]},
        "type": _coding(codes.DCM, kind.event_id, codes.EVENT_IDS[kind.event_id]),
        "subtype": [_coding(codes.EVENT_TYPE, event.type, kind.caption)],
        "action": event.action,
        "recorded": event.time,
        "outcome": str(event.outcome),
        "agent": _agents(record),
        "source": {
            "site": event.log,
            "observer": _identified(codes.LOG, event.log),
            "type": [_coding(codes.SOURCE_TYPE, "4", "Application Server")],
        },
        "entity": [_entry(record), *(_blob(item) for item in event.objects)],
    }
    if record.reason is not None:
        row["outcomeDesc"] = record.reason
    if event.purpose is not None:
        coding = _coding(codes.ACT_REASON, event.purpose, codes.PURPOSES[event.purpose])
        row["purposeOfEvent"] = [{"coding": [coding]}]
    return row


def _coding(system: str, code: str, display: str) -> Json:
    return {"system": system, "code": code, "display": display}


def _identified(system: str, value: str) -> Json:
    return {"identifier": {"system": system, "value": value}}


def _agents(record: Record) -> list[Json]:
    """Name the author, the party at the other end, and the person by pseudonym, where there are such."""
    event = record.entry.event
    author = {**_agent("110153", event.actor.id, requestor=True), "altId": event.actor.key}
    if event.policy is not None:
        author["policy"] = [codes.POLICY + event.policy]
    agents = [author]
    other = record.other_party()
    if other is not None:
        agents.append(_agent("110152", other, requestor=False))
    if event.user is not None:
        coding = _coding(codes.PARTICIPATION, "AUT", "author (originator)")
        who = _identified(codes.USER, event.user)
        agents.append({"type": {"coding": [coding]}, "who": who, "requestor": False})
    return agents


def _agent(role: str, party: str, *, requestor: bool) -> Json:
    """Return a party as an agent; its address is the name it is enrolled under (5: URI)."""
    return {
        "type": {"coding": [_coding(codes.DCM, role, codes.AGENTS[role])]},
        "who": _identified(codes.ACTOR, party),
        "requestor": requestor,
        "network": {"address": codes.ENDPOINT + party, "type": "5"},
    }


def _entry(record: Record) -> Json:
    """Return the log entry as an object, with all that an AuditEvent has no field for."""
    event = record.entry.event
    details = [
        ("leaf-index", str(record.entry.index)),
        ("leaf-hash", record.leaf),
        ("log-origin", event.log),
        ("run", event.run),
        ("seq", str(event.seq)),
        ("prev", event.prev),
        ("saw-size", str(event.saw.size)),
        ("saw-root", event.saw.root),
    ]
    if record.receipt is not None:
        details.append(("receipt-index", str(record.receipt)))
    if event.round is not None:
        details.append(("round", str(event.round)))
    if event.peer is not None:
        details += [("peer-rpc", event.peer.rpc), ("peer-tls", event.peer.tls)]
    details += [("ref", ref) for ref in event.refs]
    details += _data(event)
    return _object(codes.LEAF, record.leaf, "13", details)


def _data(event: Event) -> list[tuple[str, str]]:
    """Return the typed part of an event, lists as canonical JSON."""
    fields = event.data.model_dump(mode="json", exclude_none=True)
    return [
        (f"data.{name}", str(value) if isinstance(value, str | int) else rfc8785.dumps(value).decode())
        for name, value in sorted(fields.items())
    ]


def _blob(item: Object) -> Json:
    details = [("role", item.role), ("alg", item.alg), ("bytes", str(item.bytes))]
    return _object(codes.BLOB, item.digest, codes.OBJECT_ROLES[item.role], details)


def _object(system: str, value: str, role: str, details: list[tuple[str, str]]) -> Json:
    return {
        "what": _identified(system, value),
        "type": _coding(codes.ENTITY_TYPE, "2", "System Object"),
        "role": _coding(codes.OBJECT_ROLE, role, codes.ROLES[role]),
        "detail": [{"type": name, "valueString": text} for name, text in details],
    }
