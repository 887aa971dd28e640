"""`coordinator revoke`, `reinstate`, `certificates`: what an operator does to the register of clients."""

import datetime as dt
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509

from fedmedlora_audit.chain import event_time
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.certificates import Certificates, CertificateState, RevocationReason
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.server_certificate import server_certificate
from fedmedlora_core.errors import ConfigError


def revoke(root: Path, site: str, reason: str, *, now: dt.datetime | None = None) -> int:
    """Refuse every certificate of a site from now on, and its unused invitations; see `Certificates.revoke`.

    Args:
        root: The coordinator's folder; it may be being served.
        site: Whose.
        reason: One of RevocationReason.
        now: Current time; the clock's when None.

    Raises:
        ConfigError: The reason or the site is unknown (the operator's).
    """
    known = [item.value for item in RevocationReason]
    if reason not in known:
        raise ConfigError(f"a reason is one of {', '.join(known)}, not '{reason}'")
    with _register(root) as certificates:
        return certificates.revoke(site, RevocationReason(reason), now or dt.datetime.now(dt.UTC))


def reinstate(root: Path, site: str, *, now: dt.datetime | None = None) -> int:
    """Take a site's last revocation back; see `Certificates.reinstate`."""
    with _register(root) as certificates:
        return certificates.reinstate(site, now or dt.datetime.now(dt.UTC))


def listed(root: Path, *, now: dt.datetime | None = None) -> list[dict[str, Any]]:
    """List the CA, the server's certificate and every site's, with what each is good for.

    Args:
        root: The coordinator's folder; it may be being served.
        now: Current time; the clock's when None.

    Raises:
        ConfigError: It is no coordinator's folder, or a file is damaged (the operator's).
    """
    now = now or dt.datetime.now(dt.UTC)
    folder = Folder(root)
    with _register(root) as certificates:
        rows = certificates.all()
    own = [
        _own("ca", Authority.load(folder).certificate, now),
        _own("server", server_certificate(folder), now),
    ]
    sites = [
        {
            "of": "site",
            "site": row.site,
            "serial": row.serial,
            "from": _instant(row.begins),
            "until": _instant(row.ends),
            "state": row.state(now).value,
            "since": _since(row.revoked if row.revoked is not None else row.retired),
            "reason": row.reason,
        }
        for row in rows
    ]
    return own + sorted(sites, key=lambda row: str(row["site"]))


@contextmanager
def _register(root: Path) -> Iterator[Certificates]:
    folder = Folder(root)
    folder.require()
    certificates = Certificates(enrolment_database(folder))
    try:
        yield certificates
    finally:
        certificates.close()


def _own(name: str, certificate: x509.Certificate, now: dt.datetime) -> dict[str, Any]:
    expired = now >= certificate.not_valid_after_utc
    return {
        "of": name,
        "site": None,
        "serial": f"{certificate.serial_number:x}",
        "from": _instant(certificate.not_valid_before_utc.timestamp()),
        "until": _instant(certificate.not_valid_after_utc.timestamp()),
        "state": (CertificateState.EXPIRED if expired else CertificateState.VALID).value,
        "since": None,
        "reason": None,
    }


def _instant(seconds: float) -> str:
    return event_time(dt.datetime.fromtimestamp(seconds, dt.UTC))


def _since(seconds: int | None) -> str | None:
    return None if seconds is None else _instant(seconds)
