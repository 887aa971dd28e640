"""A site's folder with keys and a certificate, for tests of the connection, without notes or study."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from fedmedlora_coordinator.authority import Authority
from fedmedlora_site.config import SCHEMA, NetworkSection, SiteConfig, SiteSection
from fedmedlora_site.durable import make_folder, write_atomic
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.tls_identity import certificate_request


def certified_folder(root: Path, site: str, authority: Authority, address: str) -> SiteFolder:
    """Make keys, a certificate of this authority, and `site.toml`."""
    folder = SiteFolder(root)
    for path in (root, folder.tls, folder.run):
        make_folder(path)
    Keystore.generate(site).save(folder.keys)
    network = NetworkSection(reconnect_first_seconds=0.05, reconnect_most_seconds=0.2)
    config = SiteConfig(
        schema=SCHEMA, site=SiteSection(id=site, coordinator_address=address), network=network
    )
    config.write(folder.config)
    write_atomic(folder.ca, authority.pem)
    certify(folder, site, authority)
    return folder


def certify(
    folder: SiteFolder, site: str, authority: Authority, *, now: dt.datetime | None = None, days: int = 825
) -> bytes:
    """Give the folder's TLS key a certificate that begins at `now`; returns it."""
    key = serialization.load_pem_private_key(folder.tls_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    pem = authority.issue_site(
        certificate_request(key, site), site, now=now or dt.datetime.now(dt.UTC), days=days
    )
    write_atomic(folder.certificate, pem)
    return pem
