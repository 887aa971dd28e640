"""This site's TLS key and certificate on the disk, and the switch from one pair to the next.

Two files cannot be replaced in one step. So the certificate is the switch, and the key follows it: the next
key is written beside the present one, `tls/cert.pem` is replaced, and only then does the next key take the
present one's place. Whoever reads takes the key that fits the certificate. A kill at any point leaves a pair
that works, and the next key is kept, so that asking again gets the certificate that was issued for it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedmedlora_protos.wire import PeerCertificate, WireError, read_certificate
from fedmedlora_site.client import Credentials
from fedmedlora_site.durable import create_private, sync_folder, write_atomic
from fedmedlora_site.errors import CertificateError, FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.keystore import read_private

DUE_PART = 3  # renewed when less than this part of the validity is left
_READS = 3  # a switch by another process may fall between two reads
_SPKI = (serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


@dataclass(frozen=True)
class TlsIdentity:
    """One key with its certificate, and the federation's CA; no secrets in `repr`."""

    certificate_pem: bytes
    ca_pem: bytes
    key_pem: bytes = field(repr=False)

    @classmethod
    def load(cls, folder: SiteFolder) -> TlsIdentity:
        """Read the pair in use.

        Raises:
            FolderError: A file is missing or damaged, or no key fits the certificate (the operator's).
        """
        for _ in range(_READS):
            try:
                pem, ca = folder.certificate.read_bytes(), folder.ca.read_bytes()
                certificate = x509.load_pem_x509_certificate(pem)
            except (OSError, ValueError):
                raise FolderError(f"{folder.certificate}: the certificate cannot be read") from None
            for path in (folder.tls_key, folder.next_tls_key):
                key = read_private(path) if path.exists() else None
                if key is not None and fits(certificate, key):
                    return cls(pem, ca, key)
        raise FolderError(
            f"{folder.certificate}: no key in {folder.keys} belongs to it; ask the coordinator for "
            "`coordinator invite … --again` and run `site renew --invitation`"
        )

    @property
    def credentials(self) -> Credentials:
        """What the connection shows and trusts."""
        return Credentials(self.ca_pem, self.certificate_pem, self.key_pem)

    @property
    def peer(self) -> PeerCertificate:
        """What the coordinator reads in the certificate.

        Raises:
            FolderError: It is no site's certificate.
        """
        try:
            return read_certificate(self.certificate_pem)
        except WireError:
            raise FolderError("tls/cert.pem: is not a site's certificate") from None

    @property
    def begins(self) -> datetime:
        """From when on it is valid."""
        return x509.load_pem_x509_certificate(self.certificate_pem).not_valid_before_utc

    @property
    def ends(self) -> datetime:
        """Until when it is valid."""
        return x509.load_pem_x509_certificate(self.certificate_pem).not_valid_after_utc

    def is_due(self, now: datetime) -> bool:
        """Tell whether less than a third of its time is left."""
        return (self.ends - now) * DUE_PART < self.ends - self.begins

    def need_valid(self, now: datetime) -> None:
        """Refuse to connect with an expired certificate: TLS would fail without saying why.

        Raises:
            CertificateError: It is over.
        """
        if now >= self.ends:
            raise CertificateError(expired_sentence(self.peer.site, self.ends))


def expired_sentence(site: str, ends: datetime) -> str:
    """Say what expired, when, and what to do."""
    return (
        f"this site's certificate expired on {ends:%Y-%m-%d %H:%M} UTC; ask the coordinator to run "
        f"`fedmedlora coordinator invite {site} --again`, then run `fedmedlora site renew --invitation FILE`"
    )


def fits(certificate: x509.Certificate, key_pem: bytes) -> bool:
    """Tell whether a private key is the certificate's."""
    try:
        key = serialization.load_pem_private_key(key_pem, None)
    except ValueError:
        return False
    return key.public_key().public_bytes(*_SPKI) == certificate.public_key().public_bytes(*_SPKI)


def certificate_request(key: ec.EllipticCurvePrivateKey, site: str) -> x509.CertificateSigningRequest:
    """Make the request for a certificate of a key (PROTOCOL §2.1): the site's id is its common name."""
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    return x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())


def staged_request(folder: SiteFolder, site: str, occasion: str = "renewal") -> bytes:
    """Return a certificate request for the next key, both made here unless an earlier attempt did.

    Asking again sends the same bytes: a token is good for one request, and an answer may have been lost. Each
    occasion has a key of its own.

    Args:
        folder: This site's folder; the caller holds the renewal lock.
        site: Id of this site.
        occasion: "renewal", or a name of the invitation.
    """
    settle(folder)
    request = folder.tls / f"next-{occasion}.der"
    if request.exists() and folder.next_tls_key.exists():
        return request.read_bytes()
    discard_next(folder)
    key = ec.generate_private_key(ec.SECP256R1())
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    create_private(folder.next_tls_key, key.private_bytes(encoding, form, serialization.NoEncryption()))
    csr = certificate_request(key, site)
    write_atomic(request, csr.public_bytes(serialization.Encoding.DER))  # last: the key is whole
    return request.read_bytes()


def switch(folder: SiteFolder, certificate_pem: bytes) -> None:
    """Take a checked certificate of the next key into use; durable when this returns."""
    write_atomic(folder.certificate, certificate_pem)  # from here on the next key is the one in use
    settle(folder)


def settle(folder: SiteFolder) -> None:
    """Finish a switch that was interrupted: the next key takes the place of the one before."""
    if not (folder.next_tls_key.exists() and folder.certificate.exists()):
        return
    certificate = x509.load_pem_x509_certificate(folder.certificate.read_bytes())
    if fits(certificate, read_private(folder.next_tls_key)):
        folder.next_tls_key.replace(folder.tls_key)
        sync_folder(folder.keys)
        _forget_requests(folder)


def discard_next(folder: SiteFolder) -> None:
    """Throw the next key away, unless it is the one in use: the coordinator will not certify it."""
    settle(folder)
    _forget_requests(folder)
    folder.next_tls_key.unlink(missing_ok=True)
    sync_folder(folder.keys)


def _forget_requests(folder: SiteFolder) -> None:
    for path in folder.tls.glob("next-*.der"):
        path.unlink(missing_ok=True)
    sync_folder(folder.tls)


def now_utc() -> datetime:
    """The clock that certificates expire by."""
    return datetime.now(UTC)
