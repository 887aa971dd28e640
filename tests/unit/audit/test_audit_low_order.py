"""The 14 low-order Ed25519 encodings are keys of nobody: not in a charter, a trust file or an event."""

import json
from unittest.mock import patch

import pytest
import rfc8785

from fedmedlora_audit import note as note_module
from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import CharterError, TrustError
from fedmedlora_audit.note import ALG_COSIGNATURE, ALG_ED25519, LOW_ORDER_KEYS
from fedmedlora_audit.trust import Trust
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import charter_table
from fedmedlora_testkit.audit_zoo.keys import low_order_vkey
from fedmedlora_testkit.audit_zoo.rewrites import clean_log

ROLES = [("event_vkey", ALG_ED25519), ("witness_vkey", ALG_COSIGNATURE)]
POINTS = sorted(LOW_ORDER_KEYS)


def charter_with(field: str, vkey: str) -> bytes:
    table = charter_table()
    table["members"][0][field] = vkey
    text: bytes = rfc8785.dumps(table)
    return text


def trust_with(field: str, vkey: str) -> bytes:
    table = json.loads(Forger(clean_log()).trust.to_json())
    table["members"]["site-a"][field] = vkey
    return json.dumps(table).encode()


@pytest.mark.parametrize(("field", "algorithm"), ROLES)
@pytest.mark.parametrize("point", POINTS, ids=bytes.hex)
def test_a_charter_with_a_low_order_key_is_refused(point: bytes, field: str, algorithm: int) -> None:
    charter = charter_with(field, low_order_vkey("site-a", point, algorithm))
    with pytest.raises(CharterError) as caught:
        CharterTerms.from_json(charter)
    assert caught.value.check == "G32"
    with patch.object(note_module, "LOW_ORDER_KEYS", frozenset()):
        assert CharterTerms.from_json(charter).n == 4, "only the refusal stands in the way"


@pytest.mark.parametrize(("field", "algorithm"), ROLES)
@pytest.mark.parametrize("point", POINTS, ids=bytes.hex)
def test_a_trust_file_with_a_low_order_key_is_refused(point: bytes, field: str, algorithm: int) -> None:
    text = trust_with(field, low_order_vkey("site-a", point, algorithm))
    with pytest.raises(TrustError):
        Trust.from_json(text)
    with patch.object(note_module, "LOW_ORDER_KEYS", frozenset()):
        assert len(Trust.from_json(text).members) == 4, "only the refusal stands in the way"


@pytest.mark.parametrize("role", ["log_vkey", "coordinator_vkey"])
@pytest.mark.parametrize("point", POINTS, ids=bytes.hex)
def test_low_order_keys_of_log_and_coordinator_are_refused(point: bytes, role: str) -> None:
    name = "coordinator" if role == "coordinator_vkey" else charter_table()["log"]["origin"]
    table = charter_table()
    table["log"][role] = low_order_vkey(name, point)
    with pytest.raises(CharterError):
        CharterTerms.from_json(rfc8785.dumps(table))
