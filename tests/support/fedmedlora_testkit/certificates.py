"""Certificates of a federation's members, as enrolment issues them."""

from __future__ import annotations

import datetime as dt

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import NameOID

from fedmedlora_coordinator.authority import Authority, new_tls_key


def member_certificate(authority: Authority, site: str) -> tuple[bytes, bytes]:
    """Return (key, certificate) of a new member, both PEM."""
    key, key_pem = new_tls_key()
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, site)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    return key_pem, authority.issue_site(csr, site, now=dt.datetime.now(dt.UTC))
