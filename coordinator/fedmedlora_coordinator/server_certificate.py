"""The coordinator's own certificate: the same key and addresses, a new end (OPERATIONS "Certificates").

Sites pin the CA, so a new certificate asks nothing of them. The listeners read the file at every handshake.
"""

import datetime as dt
import logging
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedmedlora_coordinator.authority import LEAF_DAYS, Authority
from fedmedlora_coordinator.folder import Folder, write_atomic
from fedmedlora_coordinator.settings import CoordinatorSettings, split_address
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.operating.logbook import tell

_LOG = logging.getLogger(__name__)
DUE_PART: Final = 3  # renewed when less than this part of the validity is left


def renew_server(
    folder: Folder, *, now: dt.datetime | None = None, days: int = LEAF_DAYS
) -> x509.Certificate:
    """Issue the listeners' next certificate and put it in its place, all or nothing.

    Args:
        folder: The coordinator's folder; it may be being served.
        now: Current time; the clock's when None.
        days: Validity.

    Raises:
        ConfigError: A file is missing or damaged, or cannot be written (the operator's).
        AuthorityExpiredError: The CA can issue nothing any more.
    """
    folder.require()
    settings = CoordinatorSettings.load(folder.config)
    try:
        key = serialization.load_pem_private_key(folder.tls_key.read_bytes(), None)
    except (OSError, ValueError):
        raise ConfigError(f"{folder.tls_key}: the key cannot be read") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise ConfigError(f"{folder.tls_key}: is no key that `coordinator init` made")
    addresses = (settings.coordinator.address, settings.coordinator.enrolment_address)
    hosts = [split_address(address)[0] for address in addresses]
    authority = Authority.load(folder)
    pem = authority.issue_server(key.public_key(), hosts, now=now or dt.datetime.now(dt.UTC), days=days)
    try:
        write_atomic(folder.tls_certificate, pem)
    except OSError as exc:
        raise ConfigError(f"{folder.tls_certificate}: cannot be written ({exc.strerror})") from None
    return x509.load_pem_x509_certificate(pem)


def renew_server_if_due(folder: Folder, now: dt.datetime) -> None:
    """Renew the listeners' certificate when less than a third of its time is left.

    Raises:
        ConfigError: It is over and cannot be renewed (the operator's).
        AuthorityExpiredError: The CA is past its end.
    """
    held = server_certificate(folder)
    if not is_due(held, now):
        return
    try:
        made = renew_server(folder, now=now)
    except ConfigError as error:
        ends = held.not_valid_after_utc
        if now >= ends:
            raise ConfigError(
                f"{folder.tls_certificate}: expired on {ends:%Y-%m-%d %H:%M} UTC ({error}); mend that, then "
                f"run `fedmedlora coordinator renew --dir {folder.root}`"
            ) from None
        tell(_LOG, "certificate_problem", detail=f"the server certificate could not be renewed: {error}")
        return
    until = made.not_valid_after_utc.date()
    tell(_LOG, "certificate_changed", detail=f"renewed the server certificate: it is valid until {until}")


def server_certificate(folder: Folder) -> x509.Certificate:
    """Read the listeners' certificate.

    Raises:
        ConfigError: It is missing or damaged (the operator's).
    """
    try:
        return x509.load_pem_x509_certificate(folder.tls_certificate.read_bytes())
    except (OSError, ValueError):
        raise ConfigError(f"{folder.tls_certificate}: the certificate cannot be read") from None


def is_due(certificate: x509.Certificate, now: dt.datetime) -> bool:
    """Tell whether less than a third of a certificate's time is left."""
    ends = certificate.not_valid_after_utc
    return (ends - now) * DUE_PART < ends - certificate.not_valid_before_utc
