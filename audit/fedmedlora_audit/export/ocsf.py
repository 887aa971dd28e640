"""OCSF API Activity (6003) with the profile record_integrity, one event a line (AUDIT "Exports").

The attestation speaks of the log entry, not of this row: its fingerprint is the leaf hash, and `raw_data` is
the signed note, so both can be checked from the row. That is said in `serialization` (99, other).
"""

from datetime import UTC, datetime
from typing import Any

from fedmedlora_audit.events import Event
from fedmedlora_audit.export import ocsf_codes as codes
from fedmedlora_audit.export.record import Record

Json = dict[str, Any]


def api_activity(record: Record) -> Json:
    """Return the API Activity of an entry; its `metadata.uid` is the leaf hash.

    Raises:
        KeyError: The event's type has no severity (our mistake; a test compares the tables).
    """
    event = record.entry.event
    activity, name = codes.ACTIVITIES[event.action]
    row: Json = {
        "activity_id": activity,
        "activity_name": name,
        "category_uid": codes.CATEGORY,
        "class_uid": codes.CLASS,
        "type_uid": type_uid(event),
        "severity_id": codes.SEVERITIES[event.type],
        "status_id": 1 if event.outcome == 0 else 2,
        "time": milliseconds(event.time),
        "metadata": _metadata(record),
        "actor": {"app_uid": event.actor.id},
        "api": {"operation": event.type, "version": event.schema_},
        "src_endpoint": {"uid": event.actor.id},
        "attestation_list": [_attestation(record)],
        "raw_data": record.entry.note.decode(),
        "unmapped": _unmapped(record),
    }
    if record.reason is not None:
        row["status_code"] = record.reason
    if event.user is not None:
        row["actor"]["user"] = {"uid": event.user}
    other = record.other_party()
    if other is not None:
        row["dst_endpoint"] = {"uid": other}
    if event.objects:
        row["resources"] = [
            {"uid": item.digest, "type": item.role, "data": {"alg": item.alg, "bytes": item.bytes}}
            for item in event.objects
        ]
    return row


def type_uid(event: Event) -> int:
    """Return the class and the activity in one number."""
    return codes.CLASS * 100 + codes.ACTIVITIES[event.action][0]


def milliseconds(time: str) -> int:
    """Return a moment as milliseconds since 1970, without floats."""
    moment = datetime.fromisoformat(time).astimezone(UTC)
    since = moment - datetime(1970, 1, 1, tzinfo=UTC)
    return (since.days * 86_400 + since.seconds) * 1000


def _metadata(record: Record) -> Json:
    event = record.entry.event
    return {
        "version": codes.SCHEMA_VERSION,
        "profiles": ["record_integrity"],
        "product": {"name": "fedmedlora", "vendor_name": "fedmedlora"},
        "uid": record.leaf,
        "sequence": record.entry.index,
        "event_code": event.type,
        "log_name": event.log,
        "log_version": event.schema_,
        "original_time": event.time,
        "labels": [f"verification:{record.verification}"],
    }


def _attestation(record: Record) -> Json:
    event = record.entry.event
    attestation: Json = {
        "uid": record.leaf,
        "authority_uid": event.actor.id,
        "chain_uid": f"{event.log}#{event.actor.id}",
        "fingerprint": _fingerprint(record.leaf),
        "signatures": [
            {
                "algorithm_id": codes.OTHER,
                "algorithm": codes.SIGNATURE_ALGORITHM,
                "serialization_id": codes.OTHER,
                "serialization": codes.NOTE_SERIALIZATION,
            }
        ],
    }
    if event.seq > 1:
        attestation["prev_event"] = {"uid": event.prev, "fingerprint": _fingerprint(event.prev)}
        if record.previous is not None:
            attestation["prev_event"]["type_uid"] = type_uid(record.previous)
    return attestation


def _fingerprint(leaf: str) -> Json:
    return {
        "algorithm_id": codes.SHA_256,
        "algorithm": "SHA-256",
        "encoding_id": codes.HEX,
        "serialization_id": codes.OTHER,
        "serialization": codes.LEAF_SERIALIZATION,
        "value": leaf,
    }


def _unmapped(record: Record) -> Json:
    """Return what has no attribute in the class."""
    event = record.entry.event
    found: Json = {
        "leaf_index": record.entry.index,
        "leaf_hash": record.leaf,
        "verification": record.verification,
        "signature_b64": record.signature_base64,
        "signature_key_id": event.actor.key,
        "run": event.run,
        "seq": event.seq,
        "saw": event.saw.model_dump(mode="json"),
        "refs": list(event.refs),
        "data": event.data.model_dump(mode="json", exclude_none=True),
    }
    optional = {
        "receipt_index": record.receipt,
        "round": event.round,
        "purpose": event.purpose,
        "policy": event.policy,
        "peer": event.peer.model_dump(mode="json") if event.peer is not None else None,
    }
    return {**found, **{name: value for name, value in optional.items() if value is not None}}
