"""Readers of messages, metadata and certificates as decoders for `fuzzing`."""

from __future__ import annotations

import base64
import datetime
import ssl
from collections.abc import Callable
from functools import partial

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from google.protobuf.message import DecodeError, Message

from fedmedlora_audit.errors import NoteError
from fedmedlora_audit.member_keys import check_proof
from fedmedlora_coordinator.enrolment import checked_csr
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_protos import versions, wire
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_site.errors import CertificateError
from fedmedlora_site.issued import read_issued
from fedmedlora_site.server_check import certificate_problem
from fedmedlora_site.tls_identity import certificate_request
from fedmedlora_testkit.audit_log import witness_of
from fedmedlora_testkit.fuzzed import Decode, Decoder, certificate, cosignature_lines, head, log


def message(make: type[Message], read: Callable[..., object]) -> Decode:
    """Parse like gRPC does, whose own errors never reach this code, then read."""

    def decode(data: bytes) -> object:
        request = make()
        try:
            request.ParseFromString(data)
        except DecodeError:
            return None
        return read(request)

    return decode


def proofs() -> list[bytes]:
    """Signatures of a key as an event carries them."""
    key = witness_of(log().sites[0])
    return [base64.b64encode(key.sign_bytes(b"statement"))]


def proven(data: bytes) -> None:
    check_proof(witness_of(log().sites[0]).verifier, b"statement", data.decode("utf-8", "replace"))


def der_of(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def pem_of(der: bytes) -> bytes:
    """Text of a certificate whose content is bent: bent text would hardly ever be read that far."""
    return ssl.DER_cert_to_PEM_cert(der).encode()


def certificate_request_der() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    return certificate_request(key, "site-a").public_bytes(serialization.Encoding.DER)


def site_of(der: bytes) -> str:
    """The name in a certificate, read anew: what was read before is remembered."""
    wire.read_certificate.cache_clear()
    return wire.site_id_of_certificate(pem_of(der))


def issued(der: bytes) -> object:
    """What a site makes of a certificate that the coordinator answers with."""
    return read_issued(pem_of(der), certificate(), x509.load_pem_x509_certificate(certificate()))


def shown(der: bytes) -> str | None:
    """What a site says of a certificate that somebody shows at the coordinator's address."""
    ca = x509.load_pem_x509_certificate(certificate())
    return certificate_problem("localhost:1", der, ca, datetime.datetime(2026, 1, 1, 1, tzinfo=datetime.UTC))


def metadata(data: bytes) -> object:
    """What an end says of itself: a key and a value on each line; a key that ends in -bin has bytes."""
    pairs = [line.partition(b"=")[::2] for line in data.split(b"\n")]
    return versions.parse_speaks(
        (key.decode("latin-1"), value if key.endswith(b"-bin") else value.decode("latin-1"))
        for key, value in pairs
    )


def spoken() -> list[bytes]:
    said = (versions.ours(), versions.Speaks(1, 1, "0.1.0"), versions.Speaks(2, 9999, "9.9"))
    return [b"\n".join(f"{key}={value}".encode() for key, value in end.metadata()) for end in said]


def renewal() -> bytes:
    return pb.RenewRequest(csr_der=certificate_request_der(), event_proof=bytes(64)).SerializeToString()


def enrolment() -> bytes:
    keys = log().terms.members["site-a"]
    return pb.EnrollRequest(
        token="t" * 43,
        site="site-a",
        csr_der=b"c" * 200,
        event_vkey=keys.event_vkey,
        witness_vkey=keys.witness_vkey,
        event_proof=bytes(64),
        witness_proof=bytes(64),
    ).SerializeToString()


def put_chunk() -> bytes:
    request = pb.PutChunkRequest(digest="0" * 64, total_bytes=50, index=0, data=bytes(50))
    return request.SerializeToString()


WIRE = partial(Decoder, error=wire.WireError)
WIRE_DECODERS: dict[str, Decoder] = {
    "wire-submit": WIRE(
        lambda: [pb.SubmitRequest(note=log().entries[3].note).SerializeToString()],
        message(pb.SubmitRequest, wire.read_submit),
    ),
    "wire-watch": WIRE(
        lambda: [pb.WatchRequest(from_index=5).SerializeToString()], message(pb.WatchRequest, wire.read_watch)
    ),
    "wire-cosign": WIRE(
        lambda: [pb.CosignRequest(checkpoint=head(), cosignature=cosignature_lines()[0]).SerializeToString()],
        message(pb.CosignRequest, wire.read_cosign),
    ),
    "wire-put-chunk": WIRE(lambda: [put_chunk()], message(pb.PutChunkRequest, wire.read_put_chunk)),
    "wire-get-chunk": WIRE(
        lambda: [pb.GetChunkRequest(digest="0" * 64, index=3).SerializeToString()],
        message(pb.GetChunkRequest, wire.read_get_chunk),
    ),
    "wire-enroll": WIRE(lambda: [enrolment()], message(pb.EnrollRequest, wire.read_enroll)),
    "wire-renew": WIRE(lambda: [renewal()], message(pb.RenewRequest, wire.read_renew)),
    "wire-confirm": WIRE(lambda: [b""], message(pb.ConfirmRequest, wire.read_confirm)),
    "wire-certificate": WIRE(lambda: [der_of(certificate())], site_of),
    "wire-versions": WIRE(spoken, metadata),
    "key-proof": Decoder(proofs, proven, NoteError),
    "certificate-request": Decoder(
        lambda: [certificate_request_der()], lambda data: checked_csr(data, "site-a"), PeerRefusedError
    ),
    "certificate-issued": Decoder(lambda: [der_of(certificate())], issued, CertificateError),
    "certificate-shown": Decoder(lambda: [der_of(certificate())], shown, ()),
}
