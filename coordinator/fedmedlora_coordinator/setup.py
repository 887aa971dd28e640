"""`coordinator init`: the certificate authority, the keys and the settings of a new coordinator.

Everything is made beside the target and moved into place at the end: a failed init leaves nothing.
"""

import datetime as dt
import ipaddress
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path

import tomli_w

from fedmedlora_audit.note import NoteSigner
from fedmedlora_coordinator.authority import Authority, new_tls_key, private_pem
from fedmedlora_coordinator.folder import Folder, sync_folder, write_atomic, write_private
from fedmedlora_coordinator.settings import (
    CoordinatorSettings,
    Listeners,
    PostgresAddress,
    Store,
    Timing,
    split_address,
)
from fedmedlora_core.errors import ConfigError

COORDINATOR_ID = "coordinator"  # the coordinator's id as author of events


@dataclass(frozen=True)
class Initialised:
    """What the operator hands on after `init`: all of it is public."""

    folder: Path
    ca_fingerprint: str
    log_vkey: str
    coordinator_vkey: str


def init(
    folder: Path,
    *,
    name: str,
    address: str,
    enrolment_address: str,
    listen: str | None = None,
    enrolment_listen: str | None = None,
    timing: Timing | None = None,
    store_url: str = "",
    now: dt.datetime | None = None,
) -> Initialised:
    """Make a coordinator's folder.

    Args:
        folder: Where; must not exist or be empty.
        name: Name of the federation; names the log key.
        address: host:port that sites will dial.
        enrolment_address: host:port for enrolment; another port.
        listen: host:port to bind for the federation; derived from `address` when None.
        enrolment_listen: host:port to bind for enrolment; derived when None.
        timing: Patience with absent sites; defaults fit hospitals.
        store_url: PostgreSQL database of the store, as `store.url`; empty for SQLite in the folder.
        now: Start of the certificates' validity; the current time when None.

    Raises:
        ConfigError: An address is wrong or the folder is in use (the operator's); nothing was made.
    """
    if store_url:
        PostgresAddress.parse(store_url)
    settings = CoordinatorSettings(
        coordinator=_listeners(name, address, enrolment_address, listen, enrolment_listen),
        timing=timing or Timing(),
        store=Store(url=store_url),
    )
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: exists and is not empty; choose a new folder")
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(4)}.init")
    try:
        made = _populate(Folder(staging), settings, now or dt.datetime.now(dt.UTC))
        folder.parent.mkdir(parents=True, exist_ok=True)
        staging.replace(folder)
        sync_folder(folder.parent)
    except OSError as exc:
        raise ConfigError(f"{folder}: cannot be made ({exc.strerror})") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return Initialised(folder, *made)


def load_event_signer(folder: Folder) -> NoteSigner:
    """Read the key that signs the coordinator's events."""
    return NoteSigner.from_seed(COORDINATOR_ID, _seed(folder.event_key))


def load_log_signer(folder: Folder) -> NoteSigner:
    """Read the key that signs heads of the log."""
    settings = CoordinatorSettings.load(folder.config)
    return NoteSigner.from_seed(_log_key_name(settings.coordinator.name), _seed(folder.log_key))


def load_storage_key(folder: Folder) -> bytes:
    """Read the key over the keys of blobs; a folder made before there was one gets it here.

    Raises:
        ConfigError: Others can read it, it is malformed, or it is gone while sealed blobs are there.
    """
    path = folder.storage_key
    if not path.exists():
        if any(folder.blobs.glob("??/*.sealed")):
            raise ConfigError(f"{path}: is missing; without it the stored payloads cannot be read")
        write_private(path, secrets.token_bytes(32).hex().encode() + b"\n")
    if path.stat().st_mode & 0o077:
        raise ConfigError(f"{path}: others can read it; set its mode to 0600")
    return _seed(path)


def _listeners(
    name: str, address: str, enrolment_address: str, listen: str | None, enrolment_listen: str | None
) -> Listeners:
    if not _log_key_name(name):
        raise ConfigError("the name must have letters or digits")
    if split_address(address) == split_address(enrolment_address):
        raise ConfigError("enrolment needs an address of its own: use another port")
    return Listeners(
        name=name,
        address=address,
        enrolment_address=enrolment_address,
        listen=_checked(listen) or _bind_address(address),
        enrolment_listen=_checked(enrolment_listen) or _bind_address(enrolment_address),
    )


def _checked(address: str | None) -> str | None:
    if address is not None:
        split_address(address)
    return address


def _bind_address(address: str) -> str:
    """Bind a loopback address as it is; for any other, bind the port on every interface."""
    host, port = split_address(address)
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    return address if loopback else f"0.0.0.0:{port}"


def _populate(folder: Folder, settings: CoordinatorSettings, now: dt.datetime) -> tuple[str, str, str]:
    folder.root.mkdir(parents=True, mode=0o700)
    authority = Authority.create(settings.coordinator.name, now=now)
    write_private(folder.ca_key, private_pem(authority.key))
    write_atomic(folder.ca_certificate, authority.pem)
    key, key_pem = new_tls_key()
    addresses = (settings.coordinator.address, settings.coordinator.enrolment_address)
    hosts = [split_address(address)[0] for address in addresses]
    write_private(folder.tls_key, key_pem)
    write_atomic(folder.tls_certificate, authority.issue_server(key.public_key(), hosts, now=now))
    for path in (folder.log_key, folder.event_key, folder.storage_key):
        write_private(path, secrets.token_bytes(32).hex().encode() + b"\n")
    for path in (folder.blobs, folder.invitations):
        path.mkdir(mode=0o700)
    write_atomic(folder.config, settings.to_toml().encode())
    made = authority.fingerprint, load_log_signer(folder).vkey, load_event_signer(folder).vkey
    _write_card(folder, settings, *made)
    return made


def _write_card(
    folder: Folder, settings: CoordinatorSettings, ca_fingerprint: str, log_vkey: str, coordinator_vkey: str
) -> None:
    """Write the public card that `study new` reads: addresses, fingerprint, keys of log and coordinator."""
    card = {
        "name": settings.coordinator.name,
        "address": settings.coordinator.address,
        "enrolment_address": settings.coordinator.enrolment_address,
        "ca_fingerprint": ca_fingerprint,
        "log_vkey": log_vkey,
        "coordinator_vkey": coordinator_vkey,
    }
    write_atomic(folder.card, tomli_w.dumps(card).encode())


def _seed(path: Path) -> bytes:
    try:
        seed = bytes.fromhex(path.read_text().strip())
    except (OSError, ValueError):
        raise ConfigError(f"{path}: the key cannot be read") from None
    if len(seed) != 32:
        raise ConfigError(f"{path}: is not a 32-byte seed in hex")
    return seed


def _log_key_name(name: str) -> str:
    """Name of the log key: the federation's, without blanks and plus signs, which notes reserve."""
    kept = "".join(ch if ch.isascii() and (ch.isalnum() or ch in "./-") else "-" for ch in name.lower())
    return kept.strip("-./")
