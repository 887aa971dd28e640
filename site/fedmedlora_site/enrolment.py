"""Enrolment: make the site's keys here, prove possession, receive a certificate (PROTOCOL §2.1).

The invitation is carried to the site by another route. Its CA fingerprint is pinned: the enrolment
connection trusts that CA and no other. The coordinator's answer gives transport access only; which keys
speak for which site is settled by cards and pins.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import Field, ValidationError

from fedmedlora_audit.errors import AuditError
from fedmedlora_audit.note import WITNESS_ALGORITHMS, VerifierKey
from fedmedlora_core.config import Section
from fedmedlora_protos.wire import INVITATION_SCHEMA, enrolment_statement
from fedmedlora_site.client import EnrolmentRequest, request_certificate
from fedmedlora_site.config import SCHEMA, ModelSection, SiteConfig, SiteSection, TrainerSection
from fedmedlora_site.durable import make_folder, sync_folder, write_atomic
from fedmedlora_site.errors import CertificateError, EnrolmentError, RejectedError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.issued import read_issued
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Card, CoordinatorPins, PinnedKeys, Pins
from fedmedlora_site.tls_identity import certificate_request

_POLICY_TEXT = """\
# What this site takes part in. No study and no message can override it. Every key shown has its default.
# studies = []                          # ids of studies; empty: any that `site accept` is given
# base_models = []                      # digests of base models; empty: any that is on disk here
# secure_aggregation_required = true
# min_sites = 3
# min_colluding_sites = 1
# max_rounds = 100
# exact_weights_allowed = false
# ckks_key_holder = ""                  # member that may hold the only CKKS key and could read single updates
# ckks_shared_key_allowed = false       # every member may hold the CKKS key, and each could
#
# [privacy]                             # a table: what stands below it belongs to it, so it comes last
# required = false                      # refuse studies without differential privacy
# epsilon_milli = 8000                  # budget over all studies, in thousandths; without the key: none
# delta = "1e-5"
# unit = "patient"                      # or "document"; a study that protects the other one is refused
"""


class Invitation(Section):
    """What `coordinator invite` wrote for one site."""

    schema_: Literal["fedmedlora-invitation/1"] = Field(alias="schema")
    site: Annotated[str, Field(pattern=r"^[a-z0-9-]{1,32}$")]
    token: Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]{43}$")] = Field(repr=False)
    coordinator_address: str
    enrolment_address: str
    ca_fingerprint: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
    ca_pem: str
    log_vkey: str
    coordinator_vkey: str
    expires: datetime

    @classmethod
    def load(cls, path: Path) -> Invitation:
        """Read an invitation file.

        Raises:
            EnrolmentError: The file is missing or is not an invitation.
        """
        try:
            data = path.read_bytes()
        except OSError as exc:
            raise EnrolmentError(f"{path}: cannot be read ({exc.strerror or type(exc).__name__})") from None
        try:
            return cls.model_validate_json(data, strict=False)
        except ValidationError:
            raise EnrolmentError(f"{path}: is not an invitation ({INVITATION_SCHEMA})") from None

    def check(self, now: datetime) -> x509.Certificate:
        """Check keys, fingerprint and expiry; return the federation's CA certificate.

        Raises:
            EnrolmentError: Something in the invitation does not hold.
        """
        try:
            ca = x509.load_pem_x509_certificate(self.ca_pem.encode())
        except (ValueError, x509.InvalidVersion):
            raise EnrolmentError("the invitation's CA certificate is malformed") from None
        if ca.fingerprint(hashes.SHA256()).hex() != self.ca_fingerprint:
            raise EnrolmentError("the invitation's CA certificate does not have the fingerprint it names")
        for key in (self.log_vkey, self.coordinator_vkey):
            try:
                VerifierKey.parse(key)
            except AuditError as exc:
                raise EnrolmentError(f"the invitation's coordinator key: {exc}") from None
        expires = self.expires if self.expires.tzinfo else self.expires.replace(tzinfo=UTC)
        if now >= expires:
            raise EnrolmentError(f"the invitation expired on {expires:%Y-%m-%d %H:%M} UTC; ask for a new one")
        return ca


def enroll(
    invitation: Path,
    root: Path,
    *,
    model_path: str = "",
    trainer: Literal["process", "rehearsal"] = "process",
    witness_kind: str = "ed25519",
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Card:
    """Enrol this site and make its folder, or change nothing (PROTOCOL §2.1).

    The keys are made in a hidden folder beside `root`. It is kept when the coordinator cannot be reached
    or has no room, so that trying again sends the same request (the token works once). A refusal removes it.

    Args:
        invitation: The file from `coordinator invite`.
        root: The folder to make; must not exist or be empty.
        model_path: Where the base model lies; empty for the one in this package.
        trainer: "rehearsal" only for tests and rehearsals (see `config`).
        witness_kind: Kind of the witness key, "ed25519" or "ml-dsa-44".
        now: The clock, for the invitation's expiry.

    Returns:
        This site's card, to hand to the other members.

    Raises:
        EnrolmentError: The invitation, the kind of key or the coordinator's answer is not acceptable.
        TransportError: The coordinator cannot be reached; try again.
    """
    if witness_kind not in WITNESS_ALGORITHMS:
        raise EnrolmentError(f"a witness key is one of {', '.join(WITNESS_ALGORITHMS)}, not '{witness_kind}'")
    root = root.resolve()
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise EnrolmentError(f"{root}: exists and is not empty; a site is enrolled once")
    invited = Invitation.load(invitation)
    ca = invited.check(now())
    staging = root.with_name(f".{root.name}.enrolling")
    folder = SiteFolder(staging)
    keys, csr = _prepare(folder, invited.site, witness_kind)
    request = EnrolmentRequest(
        address=invited.enrolment_address,
        ca_pem=invited.ca_pem.encode(),
        site=invited.site,
        token=invited.token,
        csr_der=csr,
        event_vkey=keys.event_signer.vkey,
        witness_vkey=keys.witness_signer.vkey,
        event_proof=b"",
        witness_proof=b"",
    )
    try:
        answer = request_certificate(_with_proofs(request, keys))
        _check_answer(answer.certificate_pem, answer.ca_pem, ca, keys)
    except (RejectedError, EnrolmentError) as exc:
        shutil.rmtree(staging, ignore_errors=True)
        raise EnrolmentError(_sentence(exc)) from None
    card = _fill(folder, invited, keys, answer.certificate_pem)
    config = SiteConfig(
        schema=SCHEMA,
        site=SiteSection(id=invited.site, coordinator_address=invited.coordinator_address),
        model=ModelSection(path=model_path),
        trainer=TrainerSection(kind=trainer),
    )
    config.write(folder.config)  # last: this file is what makes the folder an enrolled site's
    _move(staging, root)
    return card


# R2.1.1: keys are made here; the request carries their public halves.
def _prepare(folder: SiteFolder, site: str, witness_kind: str) -> tuple[Keystore, bytes]:
    """Make keys and request, or take those of an interrupted enrolment of the same site."""
    request = folder.root / "request.der"
    owner = folder.root / "request.site"
    if request.is_file() and owner.is_file() and owner.read_text() == site:
        return Keystore.load(folder.keys, site), request.read_bytes()
    shutil.rmtree(folder.root, ignore_errors=True)
    make_folder(folder.root)
    folder.root.chmod(0o700)
    keys = Keystore.generate(site, witness_kind=witness_kind)
    keys.save(folder.keys)
    private = serialization.load_pem_private_key(keys.tls_key_pem, None)
    if not isinstance(private, ec.EllipticCurvePrivateKey):  # pragma: no cover - generate() draws EC keys
        raise EnrolmentError("the TLS key must be an EC key")
    der = certificate_request(private, site).public_bytes(serialization.Encoding.DER)
    write_atomic(owner, site.encode())
    write_atomic(request, der)
    return keys, der


def _move(staging: Path, root: Path) -> None:
    """Put the finished folder in its place; an empty folder that exists (say, the current one) is filled."""
    if root.exists():
        names = sorted(staging.iterdir(), key=lambda path: path.name == SiteFolder(root).config.name)
        for path in names:
            path.rename(root / path.name)
        staging.rmdir()
        root.chmod(0o700)
        sync_folder(root)
    else:
        staging.rename(root)
    sync_folder(root.parent)


def _with_proofs(request: EnrolmentRequest, keys: Keystore) -> EnrolmentRequest:
    """Sign the enrolment statement with both new keys."""
    statement = enrolment_statement(request.csr_der, request.site, request.event_vkey, request.witness_vkey)
    return request.with_proofs(
        event=keys.event_signer.sign_bytes(statement),
        witness=keys.witness_signer.sign_bytes(statement),
    )


def _check_answer(certificate_pem: bytes, ca_pem: bytes, ca: x509.Certificate, keys: Keystore) -> None:
    """Refuse a certificate that is not for this site's key, by the pinned CA, in this site's name."""
    try:
        issued = read_issued(certificate_pem, ca_pem, ca)
    except CertificateError as exc:
        raise EnrolmentError(str(exc)) from None
    if not issued.same_ca:
        raise EnrolmentError("the coordinator answered with a CA that the invitation does not name")
    own = serialization.load_pem_private_key(keys.tls_key_pem, None).public_key()
    spki = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    if issued.certificate.public_key().public_bytes(*spki) != own.public_bytes(*spki):
        raise EnrolmentError("the coordinator's certificate is for another key")
    if issued.site != keys.site:
        raise EnrolmentError(f"the coordinator's certificate names '{issued.site}', expected '{keys.site}'")


def _fill(folder: SiteFolder, invited: Invitation, keys: Keystore, certificate_pem: bytes) -> Card:
    """Write everything but `site.toml` into the staging folder."""
    for inner in (folder.tls, folder.notes.parent, folder.run):
        make_folder(inner)
    write_atomic(folder.tls / "cert.pem", certificate_pem)
    write_atomic(folder.tls / "ca.pem", invited.ca_pem.encode())
    card = Card(id=keys.site, event_vkey=keys.event_signer.vkey, witness_vkey=keys.witness_signer.vkey)
    card.write(folder.card)
    own = PinnedKeys(event_vkey=card.event_vkey, witness_vkey=card.witness_vkey)
    coordinator = CoordinatorPins(log_vkey=invited.log_vkey, coordinator_vkey=invited.coordinator_vkey)
    Pins(coordinator=coordinator, members={keys.site: own}).write(folder.pins)
    write_atomic(folder.policy, _POLICY_TEXT.encode())
    for name in ("request.der", "request.site"):
        (folder.root / name).unlink()
    return card


def _sentence(exc: Exception) -> str:
    """Say a refusal to the operator."""
    if isinstance(exc, RejectedError):
        known = {
            "expired_token": "the invitation has expired; ask the coordinator for a new one",
            "used_token": "the invitation was used already; ask the coordinator for a new one",
            "bad_token": "the coordinator does not know this invitation",
            "other_event_key": "the invitation is for an enrolled site; run `site renew --invitation` there",
        }
        return known.get(exc.reason, str(exc))
    return str(exc)
