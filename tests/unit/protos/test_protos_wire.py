"""The wire layer refuses what protobuf would wave through."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import fedmedlora_protos
from fedmedlora_protos import wire
from fedmedlora_protos.v1 import federation_pb2 as pb

DIGEST = "ab" * 32
CHUNK = wire.CHUNK_BYTES


def enroll(**changes: Any) -> pb.EnrollRequest:
    fields: dict[str, Any] = {
        "site": "site-a",
        "token": "A" * 43,
        "csr_der": b"x" * 64,
        "event_vkey": "e",
        "witness_vkey": "w",
        "event_proof": b"p" * 64,
        "witness_proof": b"p" * 64,
    }
    return pb.EnrollRequest(**{**fields, **changes})


def put(**changes: Any) -> pb.PutChunkRequest:
    fields: dict[str, Any] = {"digest": DIGEST, "total_bytes": CHUNK + 1, "index": 1, "data": b"x"}
    return pb.PutChunkRequest(**{**fields, **changes})


@pytest.mark.parametrize(
    ("read", "message", "field"),
    [
        (wire.read_submit, pb.SubmitRequest(), "note"),
        (wire.read_submit, pb.SubmitRequest(note=b"x" * (wire.MAX_NOTE_BYTES + 1)), "note"),
        (wire.read_get_chunk, pb.GetChunkRequest(digest=DIGEST.upper()), "digest"),
        (wire.read_get_chunk, pb.GetChunkRequest(digest=DIGEST[:-1]), "digest"),
        (wire.read_get_chunk, pb.GetChunkRequest(digest=DIGEST + "\n"), "digest"),
        (wire.read_cosign, pb.CosignRequest(checkpoint=b"x"), "cosignature"),
        (wire.read_cosign, pb.CosignRequest(cosignature=b"x"), "checkpoint"),
        (wire.read_put_chunk, put(total_bytes=0), "total_bytes"),
        (wire.read_put_chunk, put(total_bytes=wire.MAX_BLOB_BYTES + 1), "total_bytes"),
        (wire.read_put_chunk, put(index=2), "index"),
        (wire.read_put_chunk, put(index=0), "data"),
        (wire.read_put_chunk, put(data=b"xx"), "data"),
        (wire.read_put_chunk, put(proof=[b"x" * 31]), "proof"),
        (wire.read_put_chunk, put(proof=[b"x" * 32] * 65), "proof"),
        (wire.read_put_chunk, put(query=True), "query"),
        (wire.read_enroll, enroll(site="Site A"), "site"),
        (wire.read_enroll, enroll(site="a" * 33), "site"),
        (wire.read_enroll, enroll(token="A" * 42), "token"),
        (wire.read_enroll, enroll(token="=" * 43), "token"),
        (wire.read_enroll, enroll(csr_der=b"x" * 5000), "csr_der"),
        (wire.read_enroll, enroll(event_vkey=""), "event_vkey"),
        (wire.read_enroll, enroll(witness_vkey="x" * 2049), "witness_vkey"),
        (wire.read_enroll, enroll(event_proof=b"p" * 63), "event_proof"),
        (wire.read_enroll, enroll(witness_proof=b"p" * 65), "witness_proof"),
    ],
)
def test_a_bad_field_is_named_and_its_content_is_not(
    read: Callable[[Any], object], message: Any, field: str
) -> None:
    with pytest.raises(wire.WireError) as caught:
        read(message)
    assert str(caught.value) == field


READERS: list[tuple[Callable[[Any], object], Any]] = [
    (wire.read_submit, pb.SubmitRequest(note=b"x")),
    (wire.read_watch, pb.WatchRequest(from_index=3)),
    (wire.read_put_chunk, put()),
    (wire.read_get_chunk, pb.GetChunkRequest(digest=DIGEST, index=4)),
    (wire.read_cosign, pb.CosignRequest(checkpoint=b"c", cosignature=b"s")),
    (wire.read_enroll, enroll()),
]


@pytest.mark.parametrize(("read", "message"), READERS)
def test_a_good_message_is_read_and_an_unknown_field_refuses_it(
    read: Callable[[Any], object], message: Any
) -> None:
    read(message)
    extended = type(message).FromString(message.SerializeToString() + b"\x98\x06\x01")
    with pytest.raises(wire.WireError, match="unknown field"):
        read(extended)


def test_fields_come_through_unchanged() -> None:
    assert wire.read_put_chunk(put(proof=[b"h" * 32])) == wire.ChunkUpload(
        DIGEST, CHUNK + 1, 1, b"x", (b"h" * 32,)
    )
    query = pb.PutChunkRequest(digest=DIGEST, total_bytes=7, query=True)
    assert wire.read_put_chunk(query) == wire.ChunkUpload(DIGEST, 7, 0, None, ())
    assert wire.read_watch(pb.WatchRequest(from_index=3)) == 3
    assert wire.read_enroll(enroll()).site == "site-a"


@given(
    st.lists(st.tuples(st.text(max_size=5), st.text(max_size=5), st.text(max_size=5)), min_size=2, max_size=2)
)
def test_two_enrolments_have_two_statements(pair: list[tuple[str, str, str]]) -> None:
    first, second = (wire.enrolment_statement(b"csr", *fields) for fields in pair)
    assert (first == second) == (pair[0] == pair[1])


@pytest.mark.parametrize("pem", [b"", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_is_no_certificate_names_no_site(pem: bytes) -> None:
    with pytest.raises(wire.WireError, match="certificate"):
        wire.site_id_of_certificate(pem)


def test_tls_1_2_has_no_cipher_in_this_process() -> None:
    assert os.environ["GRPC_SSL_CIPHER_SUITES"] == fedmedlora_protos.TLS12_WITHOUT_CIPHER
