"""The federation's certificate authority: transport access and nothing else (PROTOCOL §2).

It binds a TLS key to a site id so that a listener knows who calls. It binds no event key: membership is the
charter's, compared by each site with pins of its own, so a dishonest authority invents no member.
"""

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from fedmedlora_coordinator.errors import AuthorityExpiredError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.wire import SERVER_NAME, SITE_URI_PREFIX

CA_DAYS = 3650
LEAF_DAYS = 825
_BACKDATE = dt.timedelta(minutes=5)  # a site whose clock is a little behind must not see a future certificate


@dataclass(frozen=True, repr=False)
class Authority:
    """A certificate authority with its key."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def __repr__(self) -> str:
        """Name the authority without its key."""
        return f"Authority({self.certificate.subject.rfc4514_string()})"

    @classmethod
    def create(cls, name: str, *, now: dt.datetime) -> "Authority":
        """Make a new authority called `name`, valid from `now` for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"{name} federation CA"[:64])])
        certificate = (
            _builder(subject, subject, key.public_key(), now, now + dt.timedelta(days=CA_DAYS))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(key, certificate)

    @classmethod
    def load(cls, folder: Folder) -> "Authority":
        """Read the authority of a coordinator folder.

        Raises:
            ConfigError: A file is missing or damaged (the operator's).
        """
        try:
            key = serialization.load_pem_private_key(folder.ca_key.read_bytes(), password=None)
            certificate = x509.load_pem_x509_certificate(folder.ca_certificate.read_bytes())
        except (OSError, ValueError):
            raise ConfigError(f"{folder.ca_key.parent}: the CA's key or certificate cannot be read") from None
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise ConfigError(f"{folder.ca_key}: does not belong to {folder.ca_certificate.name}")
        return cls(key, certificate)

    @property
    def pem(self) -> bytes:
        """Certificate of the authority."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the certificate, in hex: what an invitation pins."""
        return self.certificate.fingerprint(hashes.SHA256()).hex()

    def issue_server(
        self,
        public_key: ec.EllipticCurvePublicKey,
        hosts: Iterable[str],
        *,
        now: dt.datetime,
        days: int = LEAF_DAYS,
    ) -> bytes:
        """Issue the certificate of the coordinator's listeners, for `coordinator` and every host.

        Raises:
            AuthorityExpiredError: This authority is past its end.
        """
        names: list[x509.GeneralName] = [x509.DNSName(SERVER_NAME)]
        names.extend(_host_name(host) for host in dict.fromkeys(hosts) if host != SERVER_NAME)
        return self._issue(public_key, SERVER_NAME, names, ExtendedKeyUsageOID.SERVER_AUTH, now, days)

    def issue_site(
        self, csr: x509.CertificateSigningRequest, site: str, *, now: dt.datetime, days: int = LEAF_DAYS
    ) -> bytes:
        """Issue a site's client certificate; only its key is taken from the request, its names are ours.

        Raises:
            AuthorityExpiredError: This authority is past its end.
        """
        names = [x509.UniformResourceIdentifier(f"{SITE_URI_PREFIX}{site}")]
        return self._issue(csr.public_key(), site, names, ExtendedKeyUsageOID.CLIENT_AUTH, now, days)

    def _issue(
        self,
        public_key: object,
        common_name: str,
        names: Iterable[x509.GeneralName],
        use: x509.ObjectIdentifier,
        now: dt.datetime,
        days: int,
    ) -> bytes:
        ends = self.certificate.not_valid_after_utc
        if now >= ends:
            raise AuthorityExpiredError(ends)
        until = min(now + dt.timedelta(days=days), ends)  # nothing that it signs outlives it
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        certificate = (
            _builder(subject, self.certificate.subject, public_key, now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(issuer_key, critical=False)
            .sign(self.key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM)


def new_tls_key() -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Make a P-256 key; return it with its PEM encoding."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key, private_pem(key)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Encode a private key as unencrypted PKCS #8 (the file is 0600)."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _builder(
    subject: x509.Name, issuer: x509.Name, public_key: object, now: dt.datetime, until: dt.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)  # type: ignore[arg-type]  # the request's key type was judged before
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _BACKDATE)
        .not_valid_after(until)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
