"""Enrolment: one token, one certificate; each check refuses the attack it is there for."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import NameOID

from fedmedlora_audit.note import (
    ALG_COSIGNATURE,
    ALG_COSIGNATURE_MLDSA,
    LOW_ORDER_KEYS,
    NoteSigner,
    VerifierKey,
    key_id,
)
from fedmedlora_coordinator import invites, setup
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.enrolment import enroll
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_protos.wire import Enrolment, Reason, enrolment_statement, site_id_of_certificate

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def make_csr(name: str, key: Key | None = None) -> bytes:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


def make_request(
    token: str, site: str = "site-a", csr: bytes | None = None, witness_algorithm: int = ALG_COSIGNATURE
) -> Enrolment:
    event, witness = NoteSigner.generate(site), NoteSigner.generate(site, algorithm=witness_algorithm)
    csr = csr or make_csr(site)
    statement = enrolment_statement(csr, site, event.vkey, witness.vkey)
    proofs = event.sign_bytes(statement), witness.sign_bytes(statement)
    return Enrolment(site, token, csr, event.vkey, witness.vkey, *proofs)


class Office:
    """A coordinator folder with its register and one invitation."""

    def __init__(self, root: Path) -> None:
        setup.init(root, name="n", address="h:1", enrolment_address="h:2", now=NOW)
        self.folder = Folder(root)
        self.token = self.invite("site-a")
        self.register = Register(SqliteDatabase(self.folder.enrolment_store))
        self.authority = Authority.load(self.folder)

    def invite(self, site: str) -> str:
        path = invites.invite(self.folder.root, site, hours=1, now=NOW)
        return str(json.loads(path.read_text())["token"])

    def enroll(self, request: Enrolment, minutes: float = 0) -> bytes:
        now = NOW + dt.timedelta(minutes=minutes)
        return enroll(request, register=self.register, authority=self.authority, now=now)


@pytest.fixture
def office(tmp_path: Path) -> Office:
    return Office(tmp_path / "c")


def refused(office: Office, request: Enrolment, reason: Reason, minutes: float = 0) -> None:
    with pytest.raises(PeerRefusedError) as caught:
        office.enroll(request, minutes)
    assert caught.value.reason is reason


def test_a_site_may_enrol_a_post_quantum_witness_key_and_has_to_hold_it(office: Office) -> None:
    request = make_request(office.token, witness_algorithm=ALG_COSIGNATURE_MLDSA)
    refused(office, dataclasses.replace(request, witness_proof=bytes(2420)), Reason.BAD_PROOF)
    office.enroll(request)
    (enrolled,) = office.register.enrolled()
    assert enrolled.witness_vkey == request.witness_vkey


def test_a_token_buys_one_certificate_for_that_site(office: Office) -> None:
    pem = office.enroll(make_request(office.token))
    assert site_id_of_certificate(pem) == "site-a"
    certificate = x509.load_pem_x509_certificate(pem)
    certificate.verify_directly_issued_by(office.authority.certificate)
    usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert [u._name for u in usage] == ["clientAuth"]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_the_same_request_again_gets_the_same_certificate_also_after_a_restart(office: Office) -> None:
    request = make_request(office.token)
    first = office.enroll(request)
    office.register.close()
    office.register = Register(SqliteDatabase(office.folder.enrolment_store))
    assert office.enroll(request, minutes=120) == first
    assert [s.site for s in office.register.enrolled()] == ["site-a"]


def test_a_used_token_is_refused_to_another_request(office: Office) -> None:
    # R2.1.3
    office.enroll(make_request(office.token))
    refused(office, make_request(office.token), Reason.USED_TOKEN)


def test_an_expired_token_is_refused(office: Office) -> None:
    refused(office, make_request(office.token), Reason.EXPIRED_TOKEN, minutes=60)


def test_a_token_of_another_site_is_refused(office: Office) -> None:
    other = office.invite("site-b")
    refused(office, make_request(other, "site-a"), Reason.BAD_TOKEN)
    refused(office, make_request("A" * 43), Reason.BAD_TOKEN)


def test_a_refused_request_does_not_use_the_token_up(office: Office) -> None:
    refused(office, make_request(office.token, csr=make_csr("site-b")), Reason.BAD_REQUEST)
    office.enroll(make_request(office.token))


def test_a_request_with_another_key_type_or_garbage_is_refused(office: Office) -> None:
    weak = rsa.generate_private_key(65537, 2048)
    refused(office, make_request(office.token, csr=make_csr("site-a", weak)), Reason.BAD_REQUEST)
    curve = ec.generate_private_key(ec.SECP384R1())
    refused(office, make_request(office.token, csr=make_csr("site-a", curve)), Reason.BAD_REQUEST)
    refused(office, make_request(office.token, csr=b"\x30" * 100), Reason.BAD_REQUEST)


def test_a_certificate_request_whose_signature_does_not_hold_is_refused(office: Office) -> None:
    csr = bytearray(make_csr("site-a"))
    csr[-1] ^= 1
    with pytest.raises(PeerRefusedError) as caught:
        office.enroll(make_request(office.token, csr=bytes(csr)))
    assert caught.value.reason in (Reason.BAD_PROOF, Reason.BAD_REQUEST)


@pytest.mark.parametrize("field", ["event_proof", "witness_proof"])
def test_a_key_without_proof_of_possession_is_refused(office: Office, field: str) -> None:
    # R2.1.2
    request = make_request(office.token)
    if field == "event_proof":
        stolen = dataclasses.replace(request, event_proof=bytes(64))
    else:
        stolen = dataclasses.replace(request, witness_proof=bytes(64))
    refused(office, stolen, Reason.BAD_PROOF)


def test_proofs_do_not_fit_another_site_or_request(office: Office) -> None:
    request = make_request(office.token)
    swapped = dataclasses.replace(
        request, event_proof=request.witness_proof, witness_proof=request.event_proof
    )
    refused(office, swapped, Reason.BAD_PROOF)
    refused(office, dataclasses.replace(request, csr_der=make_csr("site-a")), Reason.BAD_PROOF)


@pytest.mark.parametrize("point", sorted(LOW_ORDER_KEYS))
def test_low_order_event_keys_are_refused(office: Office, point: bytes) -> None:
    # R2.1.2
    key = VerifierKey("site-a", key_id("site-a", 1, point), 1, point)
    refused(office, dataclasses.replace(make_request(office.token), event_vkey=key.vkey), Reason.WEAK_KEY)


@pytest.mark.parametrize("point", sorted(LOW_ORDER_KEYS))
def test_low_order_witness_keys_are_refused(office: Office, point: bytes) -> None:
    # R2.1.2
    number = key_id("site-a", ALG_COSIGNATURE, point)
    key = VerifierKey("site-a", number, ALG_COSIGNATURE, point)
    refused(office, dataclasses.replace(make_request(office.token), witness_vkey=key.vkey), Reason.WEAK_KEY)


def test_an_event_key_in_the_witness_role_is_refused(office: Office) -> None:
    request = make_request(office.token)
    refused(office, dataclasses.replace(request, witness_vkey=request.event_vkey), Reason.BAD_REQUEST)
