"""`coordinator invite`: a one-time invitation for one site, to be carried by another route (PROTOCOL §2)."""

import datetime as dt
import json
import re
import secrets
from pathlib import Path

from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.certificates import Certificates
from fedmedlora_coordinator.folder import Folder, write_private
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_coordinator.setup import COORDINATOR_ID, load_event_signer, load_log_signer
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.wire import INVITATION_SCHEMA

TOKEN_BYTES = 32
DEFAULT_HOURS = 72


def invite(
    root: Path,
    site: str,
    *,
    hours: float = DEFAULT_HOURS,
    out: Path | None = None,
    again: bool = False,
    now: dt.datetime | None = None,
) -> Path:
    """Make an invitation for `site` and return its file (mode 0600: it holds the only copy of the token).

    Args:
        root: The coordinator's folder.
        site: Id of the site: lower-case letters, digits, hyphens; at most 32.
        hours: Validity; > 0.
        out: File to write; default `invitations/<site>.json` in the folder.
        again: Only for who holds the event key that the site has enrolled: a new certificate for the same
            member, after the one before has expired or was revoked.
        now: Current time; the clock's when None.

    Raises:
        ConfigError: The id or the file is not usable (the operator's); no invitation was recorded.
    """
    folder = Folder(root)
    folder.require()
    if not re.fullmatch(r"[a-z0-9-]{1,32}", site) or site == COORDINATOR_ID:
        raise ConfigError(f"site id '{site}' must be 1-32 of a-z, 0-9 and '-', and not '{COORDINATOR_ID}'")
    if hours <= 0:
        raise ConfigError("an invitation must be valid for some time: hours must be above 0")
    expires = (now or dt.datetime.now(dt.UTC)) + dt.timedelta(hours=hours)
    token = secrets.token_urlsafe(TOKEN_BYTES)
    path = out or _free_name(folder, site)
    content = _content(folder, site, token, expires)
    enrolled = _enrolled_key(folder, site) if again else None
    register = Register(enrolment_database(folder))
    try:
        try:
            write_private(path, content)
        except FileExistsError:
            raise ConfigError(f"{path}: exists; choose another file") from None
        except OSError as exc:
            raise ConfigError(f"{path}: cannot be written ({exc.strerror})") from None
        register.invite(site=site, token=token, expires=expires, event_vkey=enrolled)
    finally:
        register.close()
    return path


def _enrolled_key(folder: Folder, site: str) -> str:
    certificates = Certificates(enrolment_database(folder))
    try:
        found = certificates.event_vkey(site)
    finally:
        certificates.close()
    if found is None:
        raise ConfigError(f"'{site}' has not enrolled yet; invite it without --again")
    return found


def _free_name(folder: Folder, site: str) -> Path:
    path = folder.invitations / f"{site}.json"
    number = 2
    while path.exists():
        path = folder.invitations / f"{site}-{number}.json"
        number += 1
    return path


def _content(folder: Folder, site: str, token: str, expires: dt.datetime) -> bytes:
    settings = CoordinatorSettings.load(folder.config)
    authority = Authority.load(folder)
    invitation = {
        "schema": INVITATION_SCHEMA,
        "site": site,
        "token": token,
        "coordinator_address": settings.coordinator.address,
        "enrolment_address": settings.coordinator.enrolment_address,
        "ca_fingerprint": authority.fingerprint,
        "ca_pem": authority.pem.decode(),
        "log_vkey": load_log_signer(folder).vkey,
        "coordinator_vkey": load_event_signer(folder).vkey,
        "expires": expires.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    return json.dumps(invitation, indent=2).encode() + b"\n"
