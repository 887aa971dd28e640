"""Certificates of members, issued as enrolment issues them."""

from __future__ import annotations

import datetime as dt

from fedmedlora_coordinator.authority import Authority, new_tls_key
from fedmedlora_site.tls_identity import certificate_request


def member_certificate(authority: Authority, site: str, *, now: dt.datetime) -> tuple[bytes, bytes]:
    """Return (key, certificate) of a new member, both PEM; the certificate begins at `now`."""
    key, key_pem = new_tls_key()
    return key_pem, authority.issue_site(certificate_request(key, site), site, now=now)
