"""The certificates of an attacker: of this federation and of a member, and what only looks like them."""

from __future__ import annotations

import datetime as dt
import shutil
import ssl
from pathlib import Path
from typing import Final

from fedmedlora_bench.federation_folders import Folders
from fedmedlora_coordinator.authority import Authority, new_tls_key
from fedmedlora_coordinator.folder import Folder
from fedmedlora_site.tls_identity import certificate_request

__all__ = ["FALSE", "context", "make_papers"]

FALSE: Final = ("none", "foreign", "posing", "expired")
"""No certificate; of another authority; of another one that bears the same name; of the right one, over."""
STRANGER: Final = "stranger-site"


def make_papers(folder: Path, folders: Folders, member: str) -> None:
    """Write every certificate and key: `enrolled` belongs to a site that is in no study, `member` to one."""
    folder.mkdir(parents=True)
    now = dt.datetime.now(dt.UTC)
    authority = Authority.load(Folder(folders.coordinator))
    _issue(folder, "enrolled", authority, STRANGER, now)
    _issue(folder, "expired", authority, STRANGER, now - dt.timedelta(days=3650))
    _issue(folder, "foreign", Authority.create("elsewhere.example", now=now), member, now)
    _issue(folder, "posing", Authority.create("federation.example", now=now), member, now)
    shutil.copyfile(folders.site(member) / "tls" / "cert.pem", folder / "member.pem")
    shutil.copyfile(folders.site(member) / "keys" / "tls.key", folder / "member.key")


def context(folder: Path, name: str) -> ssl.SSLContext:
    """Make the TLS of a client that does not care whom it talks to."""
    found = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    found.check_hostname = False
    found.verify_mode = ssl.CERT_NONE
    found.set_alpn_protocols(["h2"])
    if name != "none":
        found.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return found


def _issue(folder: Path, name: str, authority: Authority, site: str, now: dt.datetime) -> None:
    key, pem = new_tls_key()
    request = certificate_request(key, site)
    (folder / f"{name}.key").write_bytes(pem)
    (folder / f"{name}.pem").write_bytes(authority.issue_site(request, site, now=now))
