"""Codes of the OCSF export (AUDIT "Exports"): class, activities, severities.

A type of event that is missing here cannot be exported; a test compares the table with the schema.
"""

from collections.abc import Mapping
from typing import Final

SCHEMA_VERSION: Final = "1.9.0"
"""The first release with the profile record_integrity."""
CATEGORY: Final = 6  # Application Activity
CLASS: Final = 6003  # API Activity

ACTIVITIES: Final[Mapping[str, tuple[int, str]]] = {
    "C": (1, "Create"),
    "R": (2, "Read"),
    "U": (3, "Update"),
    "D": (4, "Delete"),
    "E": (99, "Execute"),
}
"""Action of an event -> activity_id and its name; there is none for "execute", so that is 99, other."""

INFORMATIONAL, LOW, MEDIUM = 1, 2, 3
SEVERITIES: Final[Mapping[str, int]] = {
    "log.genesis": INFORMATIONAL,
    "site.enrolled": INFORMATIONAL,
    "charter.signed": INFORMATIONAL,
    "run.opened": INFORMATIONAL,
    "round.plan": INFORMATIONAL,
    "plan.accepted": INFORMATIONAL,
    "update.ready": INFORMATIONAL,
    "session.opened": INFORMATIONAL,
    "keys.advertised": INFORMATIONAL,
    "keys.broadcast": INFORMATIONAL,
    "shares.sent": INFORMATIONAL,
    "shares.fixed": INFORMATIONAL,
    "update.submitted": INFORMATIONAL,
    "survivors.fixed": INFORMATIONAL,
    "survivors.agreed": INFORMATIONAL,
    "unmask.request": INFORMATIONAL,
    "unmask.response": INFORMATIONAL,
    "aggregate.published": INFORMATIONAL,
    "aggregate.accepted": INFORMATIONAL,
    "votes.counted": INFORMATIONAL,
    "votes.checked": INFORMATIONAL,
    "validation.counted": INFORMATIONAL,
    "validation.checked": INFORMATIONAL,
    "round.closed": INFORMATIONAL,
    "round.aborted": MEDIUM,
    "receipt": INFORMATIONAL,
    "step.refused": MEDIUM,
    "attempt.erased": INFORMATIONAL,
    "delivery.failed": LOW,
    "evidence.kept": INFORMATIONAL,
    "evidence.shredded": INFORMATIONAL,
    "model.released": INFORMATIONAL,
    "run.closed": INFORMATIONAL,
    "round.rolled_back": MEDIUM,
    "dp.spent": INFORMATIONAL,
    "key.rotated": LOW,
    "key.revoked": MEDIUM,
    "site.left": LOW,
    "audit.exported": INFORMATIONAL,
    "log.closed": INFORMATIONAL,
    "retention.hold": INFORMATIONAL,
    "retention.release": INFORMATIONAL,
    "retention.pruned": LOW,
}
"""How loud a type of event is in a monitoring system: refusals and lost rounds are looked at."""

SHA_256, OTHER, HEX = 3, 99, 1
LEAF_SERIALIZATION: Final = "RFC 6962 leaf: a zero byte and raw_data"
NOTE_SERIALIZATION: Final = "C2SP signed note: raw_data up to its empty line"
SIGNATURE_ALGORITHM: Final = "Ed25519"
