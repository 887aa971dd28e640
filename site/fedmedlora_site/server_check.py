"""Why a connection fails when the coordinator's own certificate is the reason; gRPC only says that it did."""

from __future__ import annotations

import socket
import ssl
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

from fedmedlora_site.tls_identity import now_utc

PROBE_SECONDS = 5.0


def server_problem(address: str, ca_pem: bytes, now: datetime | None = None) -> str | None:
    """Look at the certificate that the coordinator shows; nothing is sent and nothing is trusted.

    Args:
        address: HOST:PORT.
        ca_pem: The pinned CA.
        now: Current time; the clock's when None.

    Returns:
        One line for the operator, or None when that is not what is wrong.
    """
    now = now or now_utc()
    ca = x509.load_pem_x509_certificate(ca_pem)
    if now >= ca.not_valid_after_utc:
        return (
            f"the federation's CA expired on {ca.not_valid_after_utc:%Y-%m-%d %H:%M} UTC: its certificates "
            "are worth nothing any more; the coordinator has to begin a new federation"
        )
    shown = _shown(address)
    return None if shown is None else certificate_problem(address, shown, ca, now)


def certificate_problem(address: str, shown: bytes, ca: x509.Certificate, now: datetime) -> str | None:
    """Say what is wrong with a certificate that whoever listens at an address has shown.

    Args:
        address: HOST:PORT, for the sentence.
        shown: DER bytes, from anybody.
        ca: The pinned CA.
        now: Current time.

    Returns:
        One line for the operator, or None when nothing is wrong or the bytes are no certificate.
    """
    foreign = f"{address}: whoever listens there shows a certificate that is not of this federation's CA"
    try:
        certificate = x509.load_der_x509_certificate(shown)
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except (ValueError, x509.InvalidVersion):
        return None
    try:
        certificate.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return foreign
    if now >= ends:
        return (
            f"{address}: the coordinator's certificate expired on {ends:%Y-%m-%d %H:%M} "
            "UTC; its operator has to run `fedmedlora coordinator renew`"
        )
    if now < begins:
        return f"{address}: the coordinator's certificate is not valid yet: is this machine's clock right?"
    return None


def _shown(address: str) -> bytes | None:
    """Fetch the certificate that is shown at an address, DER bytes."""
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only looked at; gRPC has refused it already
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS) as plain,
            context.wrap_socket(plain) as tls,
        ):
            return tls.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return None
