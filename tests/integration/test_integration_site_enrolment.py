"""Enrolment over real TLS: keys made at the site, nothing left behind by a refusal."""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.invites import invite
from fedmedlora_coordinator.setup import init
from fedmedlora_site.client import CertificateAnswer, EnrolmentRequest, request_certificate
from fedmedlora_site.enrolment import enroll
from fedmedlora_site.errors import EnrolmentError, TransportError
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Card, Pins
from fedmedlora_testkit.rehearsal import enrolling, free_port

import grpc  # isort: skip - after fedmedlora_protos, which takes TLS 1.2 away

REQUEST = "fedmedlora_site.enrolment.request_certificate"


@dataclass
class Centre:
    """A coordinator that enrols."""

    root: Path
    numbers: Iterator[int]

    def invitation(self, site: str | None = None, **changes: Any) -> tuple[str, Path]:
        """A fresh invitation, with some fields changed on the way."""
        name = site or f"site-{next(self.numbers)}"
        path = invite(self.root, name, out=self.root.parent / f"{name}-{next(self.numbers)}.json")
        content = json.loads(path.read_text())
        path.write_text(json.dumps({**content, **changes}))
        return name, path


@pytest.fixture(scope="module")
def centre(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Centre]:
    root = tmp_path_factory.mktemp("centre") / "coordinator"
    federation, enrolment = (f"127.0.0.1:{free_port()}" for _ in range(2))
    init(root, name="ward.example", address=federation, enrolment_address=enrolment)
    with enrolling(root, enrolment):
        yield Centre(root, iter(range(1, 10_000)))


def left_behind(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_site_enrols_and_its_folder_is_private(centre: Centre, tmp_path: Path) -> None:
    # R2.1.1
    name, invitation = centre.invitation()
    card = enroll(invitation, tmp_path / "site")
    assert card.id == name
    assert left_behind(tmp_path) == ["site"]
    assert stat.S_IMODE((tmp_path / "site").stat().st_mode) == 0o700
    keys = Keystore.load(tmp_path / "site" / "keys", name)
    assert (card.event_vkey, card.witness_vkey) == (keys.event_signer.vkey, keys.witness_signer.vkey)
    assert Card.load(tmp_path / "site" / "card.toml") == card
    assert set(Pins.load(tmp_path / "site" / "pins.toml").members) == {name}
    certificate = x509.load_pem_x509_certificate((tmp_path / "site" / "tls" / "cert.pem").read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == [f"fedmedlora:site:{name}"]


def test_an_empty_folder_may_be_given(centre: Centre, tmp_path: Path) -> None:
    _, invitation = centre.invitation()
    (tmp_path / "site").mkdir()
    enroll(invitation, tmp_path / "site")
    assert (tmp_path / "site" / "site.toml").is_file()
    assert left_behind(tmp_path) == ["site"]


def test_a_folder_in_use_is_refused(centre: Centre, tmp_path: Path) -> None:
    _, invitation = centre.invitation()
    (tmp_path / "site").mkdir()
    (tmp_path / "site" / "something").write_text("mine")
    with pytest.raises(EnrolmentError, match="not empty"):
        enroll(invitation, tmp_path / "site")
    assert left_behind(tmp_path / "site") == ["something"]


def test_a_used_invitation_is_refused_and_leaves_nothing(centre: Centre, tmp_path: Path) -> None:
    _, invitation = centre.invitation()
    enroll(invitation, tmp_path / "first")
    with pytest.raises(EnrolmentError, match="used already") as found:
        enroll(invitation, tmp_path / "second")
    assert "\n" not in str(found.value)
    assert left_behind(tmp_path) == ["first"]


def test_an_expired_invitation_is_refused_here_and_there(centre: Centre, tmp_path: Path) -> None:
    _, invitation = centre.invitation()
    later = datetime.now(UTC) + timedelta(hours=100)
    with pytest.raises(EnrolmentError, match="expired"):
        enroll(invitation, tmp_path / "site", now=lambda: later)
    name = f"site-{next(centre.numbers)}"
    past = datetime.now(UTC) - timedelta(hours=2)
    old = invite(centre.root, name, hours=1, now=past, out=tmp_path / "old.json")
    with pytest.raises(EnrolmentError, match="expired"):
        enroll(old, tmp_path / "site", now=lambda: past)  # the site's clock is behind: the centre refuses
    assert left_behind(tmp_path) == ["old.json"]


def test_a_token_of_nobody_is_refused(centre: Centre, tmp_path: Path) -> None:
    _, invitation = centre.invitation(token="A" * 43)
    with pytest.raises(EnrolmentError, match="does not know"):
        enroll(invitation, tmp_path / "site")
    assert left_behind(tmp_path) == []


def test_a_ca_without_the_fingerprint_is_refused_before_anything_is_sent(
    centre: Centre, tmp_path: Path
) -> None:
    _, invitation = centre.invitation(ca_fingerprint="0" * 64)
    with pytest.raises(EnrolmentError, match="fingerprint"):
        enroll(invitation, tmp_path / "site")
    assert left_behind(tmp_path) == []


def test_a_server_of_another_ca_gets_no_token(centre: Centre, tmp_path: Path) -> None:
    """Somebody between site and centre, with a certificate of his own: the handshake fails."""
    other = tmp_path / "other"
    addresses = [f"127.0.0.1:{free_port()}" for _ in range(2)]
    init(other / "coordinator", name="other.example", address=addresses[0], enrolment_address=addresses[1])
    _, invitation = centre.invitation(enrolment_address=addresses[1])
    with enrolling(other / "coordinator", addresses[1]), pytest.raises(TransportError):
        enroll(invitation, tmp_path / "site")


def test_an_unreachable_centre_is_tried_again_with_the_same_request(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, invitation = centre.invitation()
    sent: list[EnrolmentRequest] = []

    def answer_lost(request: EnrolmentRequest) -> CertificateAnswer:
        sent.append(request)
        request_certificate(request)
        raise TransportError("the answer was lost")

    monkeypatch.setattr(REQUEST, answer_lost)
    with pytest.raises(TransportError):
        enroll(invitation, tmp_path / "site")
    assert not (tmp_path / "site").exists()
    monkeypatch.setattr(REQUEST, request_certificate)
    card = enroll(invitation, tmp_path / "site")
    assert (card.id, card.event_vkey) == (name, sent[0].event_vkey)
    assert left_behind(tmp_path) == ["site"]


@contextmanager
def answering(centre: Centre, code: grpc.StatusCode, details: str) -> Iterator[str]:
    """A server with the centre's own certificate that answers every call alike; gives its address."""

    def answer(_request: object, context: grpc.ServicerContext) -> None:
        context.abort(code, details)

    class Alike(grpc.GenericRpcHandler):
        def service(self, _details: grpc.HandlerCallDetails) -> Any:
            return grpc.unary_unary_rpc_method_handler(answer)

    folder = Folder(centre.root)
    pair = folder.tls_key.read_bytes(), folder.tls_certificate.read_bytes()
    server = grpc.server(ThreadPoolExecutor(1), handlers=[Alike()])
    port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(None).wait()


def redirected(invitation: Path, address: str) -> Path:
    content = json.loads(invitation.read_text())
    path = invitation.with_name(f"{invitation.stem}-redirected.json")
    path.write_text(json.dumps({**content, "enrolment_address": address}))
    return path


OVERLOADS = (
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "Concurrent RPC limit exceeded!"),  # gRPC's own words
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_many"),
    (grpc.StatusCode.RESOURCE_EXHAUSTED, "too_fast"),
    (grpc.StatusCode.UNAVAILABLE, ""),
)


@pytest.mark.parametrize(("code", "details"), OVERLOADS)
def test_an_overload_is_no_refusal_and_costs_no_invitation_that_was_used_already(
    centre: Centre,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    code: grpc.StatusCode,
    details: str,
) -> None:
    # R3.1.6
    name, invitation = centre.invitation()

    def answer_lost(request: EnrolmentRequest) -> CertificateAnswer:
        request_certificate(request)
        raise TransportError("the answer was lost")

    monkeypatch.setattr(REQUEST, answer_lost)
    with pytest.raises(TransportError, match="lost"):
        enroll(invitation, tmp_path / "site")  # the token is used now
    monkeypatch.setattr(REQUEST, request_certificate)
    with answering(centre, code, details) as address, pytest.raises(TransportError) as told:
        enroll(redirected(invitation, address), tmp_path / "site")
    assert "\n" not in str(told.value)
    assert enroll(invitation, tmp_path / "site").id == name
    assert left_behind(tmp_path) == ["site"]


def test_a_refusal_by_whoever_answers_removes_the_keys(centre: Centre, tmp_path: Path) -> None:
    """The other side of it: what is no overload leaves nothing behind."""
    _, invitation = centre.invitation()
    refused = answering(centre, grpc.StatusCode.PERMISSION_DENIED, "bad_token")
    with refused as address, pytest.raises(EnrolmentError):
        enroll(redirected(invitation, address), tmp_path / "site")
    assert left_behind(tmp_path) == []


def test_a_certificate_for_another_site_is_refused(
    centre: Centre, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The centre answers with a certificate that it issued to somebody else."""
    _, first = centre.invitation()
    enroll(first, tmp_path / "first")
    foreign = CertificateAnswer(
        (tmp_path / "first" / "tls" / "cert.pem").read_bytes(),
        (tmp_path / "first" / "tls" / "ca.pem").read_bytes(),
    )
    monkeypatch.setattr(REQUEST, lambda _: foreign)
    _, second = centre.invitation()
    with pytest.raises(EnrolmentError, match="another key"):
        enroll(second, tmp_path / "second")
    assert left_behind(tmp_path) == ["first"]


@pytest.mark.parametrize("text", ["", "{}", "not json", '{"schema": "other"}'])
def test_what_is_no_invitation_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "invitation.json"
    path.write_text(text)
    with pytest.raises(EnrolmentError, match="not an invitation"):
        enroll(path, tmp_path / "site")
    with pytest.raises(EnrolmentError, match="cannot be read"):
        enroll(tmp_path / "missing.json", tmp_path / "site")
