"""Exports: the events of a bundle in the forms that other systems read (AUDIT "Exports").

Rules:
    * An export is a view. Every row names the leaf index and the leaf hash of its entry, so that a reader can
      go back to the bundle and its proofs; the row itself proves nothing.
    * A row says only what the entry says: times, ids, digests, numbers, enums, and captions fixed by type.
    * A row is judged against the value sets of its form before it leaves; one that does not fit is an error
      of ours, and no file is written.
    * The same entries give the same bytes.

What this does not do: judge a bundle (`verify`), or write files (the shell).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final, Literal, get_args

import rfc8785

from fedmedlora_audit.export.fhir import audit_event
from fedmedlora_audit.export.fhir_shape import check_audit_event
from fedmedlora_audit.export.native import check_native, native_row
from fedmedlora_audit.export.ocsf import api_activity
from fedmedlora_audit.export.ocsf_shape import check_api_activity
from fedmedlora_audit.export.record import Record

Format = Literal["jsonl", "fhir", "ocsf"]
FORMATS: Final[tuple[Format, ...]] = get_args(Format)

_MAPPINGS: Final[Mapping[str, Callable[[Record], dict[str, Any]]]] = {
    "jsonl": native_row,
    "fhir": audit_event,
    "ocsf": api_activity,
}
_CHECKS: Final[Mapping[str, Callable[[Mapping[str, Any]], None]]] = {
    "jsonl": check_native,
    "fhir": check_audit_event,
    "ocsf": check_api_activity,
}


def export_line(record: Record, form: Format) -> bytes:
    """Return one row as a line of canonical JSON with its newline, judged before it is returned.

    Args:
        record: The entry, and what was made of the bundle it is from.
        form: What to write it as.

    Raises:
        ExportError: The row does not fit the value sets of its form (our mistake).
    """
    row = _MAPPINGS[form](record)
    _CHECKS[form](row)
    return rfc8785.dumps(row) + b"\n"
