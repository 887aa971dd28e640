"""What the coordinator answers to a request for a certificate, read before any of it is used."""

from __future__ import annotations

from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from fedmedlora_protos.wire import WireError, site_id_of_certificate
from fedmedlora_site.errors import CertificateError


@dataclass(frozen=True)
class Issued:
    """A certificate that the pinned CA has signed; whose key it is of is still to be compared.

    Attributes:
        certificate: The certificate.
        site: Id of the site that it names.
        same_ca: Whether the CA that was answered with it is the pinned one.
    """

    certificate: x509.Certificate
    site: str
    same_ca: bool


def read_issued(certificate_pem: bytes, ca_pem: bytes, ca: x509.Certificate) -> Issued:
    """Read an answer.

    Args:
        certificate_pem: The certificate, from the coordinator.
        ca_pem: The CA's, from the coordinator.
        ca: The pinned CA.

    Raises:
        CertificateError: It is no certificate of a site by that CA.
    """
    try:
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        certificate.public_key()  # a key of a kind that nobody knows is found out here
        certificate.verify_directly_issued_by(ca)
        same = x509.load_pem_x509_certificate(ca_pem) == ca
        return Issued(certificate, site_id_of_certificate(certificate_pem), same)
    except (ValueError, TypeError, x509.InvalidVersion, InvalidSignature, UnsupportedAlgorithm, WireError):
        raise CertificateError("the coordinator answered with an unusable certificate") from None
