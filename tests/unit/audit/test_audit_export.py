"""Exports: every type of event in every form, back to the proof, and codes that are of no value set."""

import base64
import copy
import json
from collections.abc import Callable, Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, get_args

import pytest
import rfc8785
from fhir.resources.R4B.auditevent import AuditEvent
from pydantic import ValidationError

from fedmedlora_audit.bundle import read_files
from fedmedlora_audit.errors import BundleError, ExportError
from fedmedlora_audit.events import KINDS, ObjectRole
from fedmedlora_audit.export import FORMATS, Format, export_line
from fedmedlora_audit.export import fhir_codes as fhir
from fedmedlora_audit.export import ocsf_codes as ocsf
from fedmedlora_audit.export.fhir import audit_event
from fedmedlora_audit.export.fhir_shape import check_audit_event
from fedmedlora_audit.export.native import check_native, native_row, note_of
from fedmedlora_audit.export.ocsf import api_activity
from fedmedlora_audit.export.ocsf_shape import check_api_activity
from fedmedlora_audit.export.record import Record, read_records
from fedmedlora_audit.merkle import leaf_hash, verify_inclusion
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.tiles import read_entries
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog
from fedmedlora_testkit.audit_samples import D, sample_entry

LOG = StudyLog().play(2, {"upload": ["site-d"]})
MADE = Forger(LOG)
FULL = {
    "user": "u-0123456789abcdef",
    "purpose": "HRESCH",
    "policy": D,
    "peer": {"id": "site-b", "rpc": "Submit", "tls": D},
}
"""Optional fields that no event of this release carries, but the schema allows."""


def record(type_: str, **fields: Any) -> Record:
    return Record(sample_entry(LOG, type_, 7, **fields), 8, None, "verified")


def test_every_type_and_blob_of_the_schema_has_its_codes() -> None:
    assert set(KINDS) == set(fhir.TYPES) == set(ocsf.SEVERITIES)
    assert {kind.event_id for kind in fhir.TYPES.values()} == set(fhir.EVENT_IDS)
    assert set(fhir.OBJECT_ROLES) == set(get_args(ObjectRole))


def test_a_type_without_a_code_cannot_be_exported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir, "TYPES", {k: v for k, v in fhir.TYPES.items() if k != "round.plan"})
    monkeypatch.setattr(ocsf, "SEVERITIES", {k: v for k, v in ocsf.SEVERITIES.items() if k != "round.plan"})
    for form in ("fhir", "ocsf"):
        with pytest.raises(KeyError):
            export_line(record("round.plan"), form)


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("type_", sorted(KINDS))
def test_fhir_row_of_every_type_is_an_audit_event_of_r4b(type_: str, full: bool) -> None:
    line = export_line(record(type_, **(FULL if full else {})), "fhir")
    read = AuditEvent.model_validate_json(line)
    again = json.loads(read.model_dump_json())
    mine = json.loads(line)
    assert datetime.fromisoformat(again.pop("recorded")) == datetime.fromisoformat(mine.pop("recorded"))
    assert again == mine


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("type_", sorted(KINDS))
def test_ocsf_row_of_every_type_has_what_the_class_requires(type_: str, full: bool) -> None:
    made = record(type_, **(FULL if full else {}))
    row = json.loads(export_line(made, "ocsf"))
    required = {
        "activity_id", "category_uid", "class_uid", "type_uid", "severity_id", "time", "metadata",
        "actor", "api", "src_endpoint",
    }  # fmt: skip
    assert required <= set(row)
    assert row["type_uid"] == 600300 + row["activity_id"]
    assert row["time"] == 1772324107000  # 2026-03-01T00:15:07Z
    assert row["unmapped"]["data"] == json.loads(made.entry.event.canonical_json())["data"]


@pytest.mark.parametrize("type_", sorted(KINDS))
def test_native_row_of_every_type_is_the_note_again(type_: str) -> None:
    made = record(type_, **FULL)
    row = json.loads(export_line(made, "jsonl"))
    assert note_of(row) == made.entry.note


# -- back to the proof


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MADE.seal(tmp_path_factory.mktemp("exported") / "bundle")


def rows_of(bundle: Path, form: Format) -> list[dict[str, Any]]:
    records = read_records(bundle, verify_bundle(bundle, MADE.trust))
    return [json.loads(export_line(record, form)) for record in records]


def place_of(row: Mapping[str, Any], form: Format) -> tuple[int, str, int | None]:
    """Leaf index, leaf hash and receipt index, as a reader of that form finds them."""
    if form == "fhir":
        said = {detail["type"]: detail["valueString"] for detail in row["entity"][0]["detail"]}
        receipt = int(said["receipt-index"]) if "receipt-index" in said else None
        return int(said["leaf-index"]), said["leaf-hash"], receipt
    found = row["unmapped"] if form == "ocsf" else row
    return found["leaf_index"], found["leaf_hash"], found.get("receipt_index")


@pytest.mark.parametrize("form", FORMATS)
def test_every_row_leads_to_its_entry_and_proof_in_the_bundle(form: Format, bundle: Path) -> None:
    files, _ = read_files(bundle)
    notes, _ = read_entries(files, len(LOG.entries))
    root = LOG.tree.root()
    rows = rows_of(bundle, form)
    assert len(rows) == len(notes)
    for expected, row in enumerate(rows):
        index, leaf, receipt = place_of(row, form)
        assert (index, leaf) == (expected, leaf_hash(notes[expected]).hex())
        proof = LOG.tree.inclusion_proof(index, len(notes))
        verify_inclusion(leaf=bytes.fromhex(leaf), index=index, size=len(notes), proof=proof, root=root)
        event = LOG.entries[index].event
        if event.actor.role == "site":
            assert receipt is not None
            assert LOG.entries[receipt].event.type == "receipt"
            assert leaf in LOG.entries[receipt].event.refs
        else:
            assert receipt is None


def test_an_ocsf_row_can_be_checked_without_the_bundle(bundle: Path) -> None:
    keys = {name: VerifierKey.parse(author.signer.vkey) for name, author in LOG.authors.items()}
    last: dict[str, Any] = {}
    for row in rows_of(bundle, "ocsf"):
        note = row["raw_data"].encode()
        attestation = row["attestation_list"][0]
        assert attestation["fingerprint"]["value"] == leaf_hash(note).hex()
        author = attestation["authority_uid"]
        keys[author].open(note)
        blob = base64.b64decode(row["unmapped"]["signature_b64"])
        assert blob[:4].hex() == row["unmapped"]["signature_key_id"] == keys[author].key_id
        before = last.get(author)
        if before is None:
            assert "prev_event" not in attestation
        else:
            assert attestation["prev_event"] == {
                "uid": before["metadata"]["uid"],
                "type_uid": before["type_uid"],
                "fingerprint": before["attestation_list"][0]["fingerprint"],
            }
            assert attestation["chain_uid"] == before["attestation_list"][0]["chain_uid"]
        last[author] = row


def texts_of(value: object) -> set[str]:
    """Every text in a row that is not the name of a field."""
    if isinstance(value, dict):
        return set().union(*(texts_of(part) for part in value.values()))
    if isinstance(value, list):
        return set().union(*(texts_of(part) for part in value))
    return {value} if isinstance(value, str) else set()


def test_rows_hold_nothing_but_the_entry_its_place_and_fixed_captions(bundle: Path) -> None:
    fixed = {text for module in (fhir, ocsf) for text in flat(vars(module))}
    fixed |= {
        "AuditEvent",
        "2",
        "4",
        "5",
        "System Object",
        "Application Server",
        "AUT",
        "author (originator)",
    }
    fixed |= {"record_integrity", "fedmedlora", "SHA-256", "verified", "verification:verified"}
    names = {"leaf-index", "leaf-hash", "log-origin", "run", "seq", "prev", "saw-size", "saw-root", "ref"}
    fixed |= names | {"receipt-index", "round", "role", "alg", "bytes"}
    for made in read_records(bundle, verify_bundle(bundle, MADE.trust)):
        note = made.entry.note.decode()
        places = {made.leaf, str(made.entry.index), str(made.receipt)}
        for row in (audit_event(made), api_activity(made)):
            for text in texts_of(row) - fixed - places:
                tail = text.removeprefix(fhir.ENDPOINT).removeprefix("data.").removeprefix(f"{ORIGIN}#")
                assert tail in note or tail == "coordinator", text


def flat(value: object) -> set[str]:
    """Every text in the tables of a module, keys too."""
    if isinstance(value, dict):
        return set().union(*(flat(k) | flat(v) for k, v in value.items() if not str(k).startswith("__")))
    if isinstance(value, tuple):
        return set().union(*(flat(part) for part in value))
    return {value} if isinstance(value, str) else set()


@pytest.mark.parametrize("form", FORMATS)
def test_the_same_bundle_gives_the_same_bytes(form: Format, bundle: Path) -> None:
    verdict = verify_bundle(bundle, MADE.trust)
    first, second = (b"".join(export_line(r, form) for r in read_records(bundle, verdict)) for _ in "ab")
    assert first == second
    assert all(rfc8785.dumps(json.loads(line)) == line for line in first.splitlines())


def test_a_bundle_that_changed_after_its_verdict_is_refused(tmp_path: Path) -> None:
    folder = MADE.seal(tmp_path / "bundle")
    verdict = verify_bundle(folder, MADE.trust)
    other = Forger(StudyLog().play(1))
    other.seal(folder)
    with pytest.raises(BundleError, match="not those that were judged"):
        read_records(folder, verdict)


# -- codes of no value set


Path_ = tuple[str | int, ...]
FHIR_WRONG: dict[str, tuple[Path_, Any]] = {
    "action": (("action",), "X"),
    "outcome": (("outcome",), "5"),
    "outcome as a number": (("outcome",), 0),
    "event id": (("type", "code"), "110999"),
    "caption of another event id": (("type", "display"), "Query"),
    "subtype": (("subtype", 0, "code"), "note.read"),
    "subtype's caption": (("subtype", 0, "display"), "Patient seen"),
    "network type": (("agent", 0, "network", "type"), "6"),
    "network address": (("agent", 0, "network", "address"), "192.0.2.7"),
    "agent type": (("agent", 0, "type", "coding", 0, "code"), "110154"),
    "agent's code system": (("agent", 0, "type", "coding", 0, "system"), fhir.PARTICIPATION),
    "nobody asked": (("agent", 0, "requestor"), False),
    "object type": (("entity", 0, "type", "code"), "5"),
    "object role": (("entity", 0, "role", "code"), "25"),
    "source type": (("source", "type", 0, "code"), "10"),
    "identifier system": (("entity", 0, "what", "identifier", "system"), "urn:oid:1.2.3"),
    "free text": (("outcomeDesc",), "no glucose in the note"),
    "time with an offset": (("recorded",), "2026-03-01T00:15:07+01:00"),
    "unknown field": (("text",), {"status": "generated"}),
    "unknown field deep down": (("source", "display"), "the log"),
    "another leaf": (("id",), D),
    "no leaf": (("entity", 0, "detail", 1, "type"), "leaf"),
    "tag": (("meta", "tag", 0, "code"), "checked"),
}
OCSF_WRONG: dict[str, tuple[Path_, Any]] = {
    "activity": (("activity_id",), 5),
    "activity's name": (("activity_name",), "Delete"),
    "type_uid": (("type_uid",), 600302),
    "class": (("class_uid",), 6004),
    "category": (("category_uid",), 3),
    "severity": (("severity_id",), 7),
    "status": (("status_id",), 3),
    "status code": (("status_code",), "no glucose in the note"),
    "time in seconds": (("time",), 1772324107),
    "time as text": (("time",), "2026-03-01T00:15:07Z"),
    "version": (("metadata", "version"), "1.8.0"),
    "profile": (("metadata", "profiles"), ["cloud"]),
    "label": (("metadata", "labels"), ["checked"]),
    "sequence": (("metadata", "sequence"), 8),
    "operation": (("api", "operation"), "note.read"),
    "endpoint's address": (("src_endpoint", "ip"), "192.0.2.7"),
    "fingerprint": (("attestation_list", 0, "fingerprint", "value"), D),
    "fingerprint's algorithm": (("attestation_list", 0, "fingerprint", "algorithm_id"), 2),
    "signature's algorithm": (("attestation_list", 0, "signatures", 0, "algorithm_id"), 3),
    "no attestation": (("attestation_list",), []),
    "raw data": (("raw_data",), "{}\n"),
    "unknown attribute": (("message",), "round planned"),
}  # fmt: skip


def set_in(row: dict[str, Any], path: Path_, value: Any) -> dict[str, Any]:
    changed: Any = copy.deepcopy(row)
    place = changed
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    return changed  # type: ignore[no-any-return]


@pytest.mark.parametrize("name", FHIR_WRONG)
def test_fhir_row_with_a_code_of_no_value_set_is_refused(name: str) -> None:
    row = audit_event(record("round.plan"))
    check_audit_event(row)
    with pytest.raises(ExportError):
        check_audit_event(set_in(row, *FHIR_WRONG[name]))


def test_a_general_validator_lets_wrong_codes_pass_so_ours_is_needed() -> None:
    row = audit_event(record("round.plan"))
    for name in ("action", "outcome", "network type", "object role", "source type", "event id"):
        AuditEvent.model_validate_json(json.dumps(set_in(row, *FHIR_WRONG[name])))
    with pytest.raises(ValidationError):
        AuditEvent.model_validate_json(json.dumps({**row, "recorded": "yesterday"}))


@pytest.mark.parametrize("name", OCSF_WRONG)
def test_ocsf_row_with_a_value_of_no_enum_is_refused(name: str) -> None:
    row = api_activity(record("round.plan"))
    check_api_activity(row)
    with pytest.raises(ExportError):
        check_api_activity(set_in(row, *OCSF_WRONG[name]))


REQUIRED: dict[str, tuple[Callable[[Record], dict[str, Any]], Callable[[Mapping[str, Any]], None]]] = {
    "jsonl": (native_row, check_native),
    "fhir": (audit_event, check_audit_event),
    "ocsf": (api_activity, check_api_activity),
}


@pytest.mark.parametrize("form", REQUIRED)
def test_a_row_without_one_of_its_fields_is_refused(form: str) -> None:
    make, check = REQUIRED[form]
    row = make(record("round.plan"))
    for name in row:
        with pytest.raises(ExportError):
            check({key: value for key, value in row.items() if key != name})


def test_a_native_row_that_says_another_hash_or_text_is_refused() -> None:
    row = native_row(record("round.plan"))
    for name, value in (("leaf_hash", D), ("run", "run-2"), ("verification", "checked"), ("note", "x")):
        with pytest.raises(ExportError):
            check_native({**row, name: value})


def test_the_line_is_judged_before_it_leaves(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fhir, "ROLES", {**fhir.ROLES, "13": "Patient"})
    monkeypatch.setattr(fhir, "OBJECT_ROLES", {**fhir.OBJECT_ROLES, "adapter": "99"})
    monkeypatch.setattr(fhir, "ROLES", {**fhir.ROLES, "99": "Patient"})
    entry = sample_entry(LOG, "model.released", 7, objects=[{"role": "adapter", "digest": D, "bytes": 1}])
    with pytest.raises(ExportError, match=r"entity\.1\.role\.code"):
        export_line(Record(entry, None, None, "verified"), "fhir")


@pytest.mark.parametrize(
    ("type_", "outcome", "reason"),
    [("round.aborted", "8", "below_threshold"), ("step.refused", "8", "policy"), ("round.closed", "0", None)],
)
def test_what_did_not_succeed_says_why_in_a_word_of_the_log(
    type_: str, outcome: str, reason: str | None
) -> None:
    row, event = audit_event(record(type_)), api_activity(record(type_))
    assert (row["outcome"], row.get("outcomeDesc")) == (outcome, reason)
    assert (event["status_id"], event.get("status_code")) == (1 if outcome == "0" else 2, reason)


def test_the_log_is_the_source_and_the_author_the_source_agent() -> None:
    row = audit_event(record("update.submitted"))
    assert row["source"]["observer"]["identifier"]["value"] == ORIGIN
    source, destination = row["agent"]
    assert (source["who"]["identifier"]["value"], source["requestor"]) == ("site-a", True)
    assert (destination["who"]["identifier"]["value"], destination["requestor"]) == ("coordinator", False)
    assert row["entity"][1]["what"]["identifier"] == {"system": fhir.BLOB, "value": D}
