"""An authority of a test's own and the certificate that it gives a server."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from fedmedlora_coordinator.authority import new_tls_key


class ServerAuthority:
    """A CA for servers; two of them are strangers to each other, by whatever name they go."""

    def __init__(self) -> None:
        """Draw its key."""
        self._key, _ = new_tls_key()
        self.name = _name("a hospital's own CA")
        self.pem = _certificate(self.name, self.name, self._key, self._key, host=None)

    def issue(self, host: str) -> tuple[bytes, bytes]:
        """Return (key, certificate) of a server by this name, both PEM."""
        key, pem = new_tls_key()
        return pem, _certificate(_name(host), self.name, key, self._key, host=host)


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _certificate(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePrivateKey,
    signer: ec.EllipticCurvePrivateKey,
    *,
    host: str | None,
) -> bytes:
    now = dt.datetime.now(dt.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=host is None, path_length=None), critical=True)
    )
    if host is not None:
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
    return builder.sign(signer, SHA256()).public_bytes(Encoding.PEM)
