"""A coordinator's folder with its registers, and sites that enrol there and renew, without a network."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedmedlora_audit.note import NoteSigner
from fedmedlora_coordinator import certificate_commands, invites, setup
from fedmedlora_coordinator.admission import Admission
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.certificates import Certificates
from fedmedlora_coordinator.enrolment import enroll
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.renewal import renew
from fedmedlora_protos.wire import (
    Enrolment,
    PeerCertificate,
    Reason,
    Renewal,
    enrolment_statement,
    read_certificate,
    renewal_statement,
)

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


def make_csr(site: str, key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """A request for a site's certificate, in DER."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(key or ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
    return request.public_bytes(serialization.Encoding.DER)


class Desk:
    """A coordinator's folder, its register of certificates, and sites with their event keys."""

    def __init__(self, root: Path, store_url: str = "") -> None:
        setup.init(root, name="n", address="h:1", enrolment_address="h:2", now=NOW, store_url=store_url)
        self.folder = Folder(root)
        self.authority = Authority.load(self.folder)
        self.now = NOW
        self.register = Register(enrolment_database(self.folder))
        self.certificates = Certificates(enrolment_database(self.folder))
        self.signers: dict[str, NoteSigner] = {}

    def close(self) -> None:
        """Close both registers."""
        self.register.close()
        self.certificates.close()

    def clock(self) -> dt.datetime:
        """The present time, which a test moves."""
        return self.now

    def invitation(self, site: str, *, again: bool = False) -> str:
        """Invite a site; returns the token."""
        path = invites.invite(self.folder.root, site, now=self.now, again=again)
        return str(json.loads(path.read_text())["token"])

    def enrol(self, site: str, token: str | None = None, current_key: str | None = None) -> PeerCertificate:
        """Enrol with a fresh TLS key and the site's event key."""
        event = self.signers.setdefault(site, NoteSigner.generate(site))
        witness, csr = NoteSigner.generate(site, algorithm=4), make_csr(site)
        statement = enrolment_statement(csr, site, event.vkey, witness.vkey)
        proofs = event.sign_bytes(statement), witness.sign_bytes(statement)
        request = Enrolment(site, token or self.invitation(site), csr, event.vkey, witness.vkey, *proofs)
        pem = enroll(
            request,
            register=self.register,
            authority=self.authority,
            now=self.now,
            current_key=current_key,
        )
        return read_certificate(pem)

    def renew(
        self, peer: PeerCertificate, csr: bytes | None = None, signer: NoteSigner | None = None
    ) -> bytes:
        """Ask with a certificate for the next one; returns it (PEM)."""
        csr = csr or make_csr(peer.site)
        proof = (signer or self.signers[peer.site]).sign_bytes(renewal_statement(csr, peer))
        return renew(
            Renewal(csr, proof),
            peer,
            event_vkey=self.certificates.event_vkey(peer.site),
            certificates=self.certificates,
            authority=self.authority,
            now=self.now,
        )

    def admission(self) -> Admission:
        """What a serving coordinator asks, with what it has read by now."""
        return Admission(self.certificates, self.clock)

    def states(self) -> list[tuple[str, str]]:
        """(site, state) of every certificate of a site."""
        found = certificate_commands.listed(self.folder.root, now=self.now)
        return [(row["site"], row["state"]) for row in found if row["of"] == "site"]


def refused(admission: Admission, peer: PeerCertificate) -> Reason | None:
    """Why a certificate gets nobody in; None when it does."""
    try:
        admission.check(peer)
    except PeerRefusedError as error:
        assert "\n" not in str(error)
        return error.reason
    return None
