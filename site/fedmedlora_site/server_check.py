"""Why a connection fails when the coordinator's own certificate is the reason; gRPC only says that it did."""

from __future__ import annotations

import socket
import ssl
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature

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
    if shown is None:
        return None
    try:
        shown.verify_directly_issued_by(ca)
    except (ValueError, TypeError, InvalidSignature):
        return f"{address}: whoever listens there shows a certificate that is not of this federation's CA"
    if now >= shown.not_valid_after_utc:
        return (
            f"{address}: the coordinator's certificate expired on {shown.not_valid_after_utc:%Y-%m-%d %H:%M} "
            "UTC; its operator has to run `fedmedlora coordinator renew`"
        )
    if now < shown.not_valid_before_utc:
        return f"{address}: the coordinator's certificate is not valid yet: is this machine's clock right?"
    return None


def _shown(address: str) -> x509.Certificate | None:
    host, _, port = address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # only looked at; gRPC has refused it already
    try:
        with (
            socket.create_connection((host.strip("[]"), int(port)), timeout=PROBE_SECONDS) as plain,
            context.wrap_socket(plain) as tls,
        ):
            der = tls.getpeercert(binary_form=True)
    except (OSError, ValueError):
        return None
    try:
        return x509.load_der_x509_certificate(der) if der else None
    except ValueError:
        return None
