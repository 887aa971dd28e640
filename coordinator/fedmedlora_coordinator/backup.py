"""`coordinator backup`: everything a coordinator needs to go on, in one file, from either kind of store.

What is in it: the log with its heads and cosignatures and the enrolment register, as SQLite files whatever
they lie in; settings, certificates and signing keys; stamps, the study, the released adapter, the payloads.

What is not: `head`, which remembers how long the log was and must never be old; `keys/storage.key`, without
which the backup opens no payload of a site, so that a backup alone does not outlive shredding; invitations;
passwords of the store.

The log is copied first. A payload that one of its entries names was complete before that entry, so it is in
the backup unless it was shredded meanwhile - and then the log has grown, and the backup is an old one.
"""

import datetime as dt
import hashlib
import io
import json
import os
import secrets
import tarfile
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from fedmedlora_coordinator.errors import disk_error
from fedmedlora_coordinator.folder import Folder, sync_folder
from fedmedlora_coordinator.placement import enrolment_database, log_database
from fedmedlora_coordinator.register import copy_register
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import copy_log, read_entries
from fedmedlora_core.errors import ConfigError

SCHEMA: Final = "fedmedlora-backup/1"
MANIFEST: Final = "backup.json"
_TREES: Final = ("ca", "tls", "stamps", "study", "released")
_BLOB_SUFFIXES: Final = (".leaves", ".key", ".blob", ".sealed")  # what a blob needs to be read goes before it


@dataclass(frozen=True)
class BackedUp:
    """What a backup holds.

    Attributes:
        entries: Entries of the log.
        payloads: Payloads, sealed ones included.
        sealed: How many of them cannot be read without `keys/storage.key`.
    """

    entries: int
    payloads: int
    sealed: int


def backup(root: Path, out: Path, *, now: dt.datetime | None = None) -> BackedUp:
    """Write a backup of a coordinator's folder; the file appears whole or not at all, readable by its owner.

    Args:
        root: The coordinator's folder; it may be being served.
        out: File to write; must not exist.
        now: The date that it gets; the clock's when None.

    Raises:
        ConfigError: It is no coordinator's folder, or the file is there already (the operator's).
        StoreError: The store cannot be read, or the disk refused.
    """
    folder = Folder(root)
    folder.require()
    if out.exists():
        raise ConfigError(f"{out}: is there already")
    if out.resolve().is_relative_to(root.resolve()):
        raise ConfigError(f"{out}: a backup in the folder itself is lost with it; write it elsewhere")
    settings = CoordinatorSettings.load(folder.config)
    staging = out.with_name(f".{out.name}.{secrets.token_hex(4)}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=".fedmedlora-backup-") as scratch:
            entries = _copy_tables(folder, settings, Path(scratch))
            with os.fdopen(os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
                made = _write(file, folder, settings, Path(scratch), entries, now or dt.datetime.now(dt.UTC))
                file.flush()
                os.fsync(file.fileno())
        staging.rename(out)
        sync_folder(out.parent)
    except OSError as exc:
        raise disk_error(str(out), exc) from None
    finally:
        staging.unlink(missing_ok=True)
    return made


def _copy_tables(folder: Folder, settings: CoordinatorSettings, scratch: Path) -> int:
    """Copy log and register into SQLite files of the scratch folder; returns the number of entries."""
    copied = SqliteDatabase(scratch / folder.store.name)
    (scratch / "frozen").mkdir()
    log, register = log_database(folder, settings), enrolment_database(folder, settings)
    if log.exists():
        copy_log(log.frozen(scratch / "frozen"), copied)
    if register.exists():
        target = SqliteDatabase(scratch / folder.enrolment_store.name)
        copy_register(register.frozen(scratch / "frozen"), target)
    return len(read_entries(copied))


@dataclass
class _Archive:
    """A tar file that remembers the digest of each member."""

    tar: tarfile.TarFile
    digests: dict[str, str] = field(default_factory=dict)

    def add(self, path: Path, name: str) -> bool:
        """Add a file; False when it is gone."""
        try:
            file = path.open("rb")
        except FileNotFoundError:
            return False
        with file:
            info = tarfile.TarInfo(name)
            info.size = os.fstat(file.fileno()).st_size
            info.mode = 0o600
            reader = _Digesting(file)
            self.tar.addfile(info, reader)  # it only reads
            self.digests[name] = reader.digest.hexdigest()
        return True


class _Digesting:
    """A file that is hashed as it is read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read on."""
        data = self._file.read(size)
        self.digest.update(data)
        return data


def _write(
    file: IO[bytes],
    folder: Folder,
    settings: CoordinatorSettings,
    scratch: Path,
    entries: int,
    now: dt.datetime,
) -> BackedUp:
    with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
        archive = _Archive(tar)
        for path in (scratch / folder.store.name, scratch / folder.enrolment_store.name):
            archive.add(path, path.name)
        for path in _own_files(folder, settings):
            archive.add(path, path.relative_to(folder.root).as_posix())
        payloads, sealed = _add_blobs(archive, folder)
        manifest = {
            "schema": SCHEMA,
            "made": now.strftime("%Y-%m-%dT%H:%M:%SZ"),
            "federation": settings.coordinator.name,
            "entries": entries,
            "files": archive.digests,
        }
        content = json.dumps(manifest, indent=1).encode()
        info = tarfile.TarInfo(MANIFEST)
        info.size, info.mode = len(content), 0o600
        tar.addfile(info, io.BytesIO(content))
    return BackedUp(entries, payloads, sealed)


def _own_files(folder: Folder, settings: CoordinatorSettings) -> Iterator[Path]:
    yield from (folder.config, folder.card, folder.log_key, folder.event_key)
    certificates = folder.root / settings.stamps.tsa_certificates
    if certificates.is_relative_to(folder.root):  # one that is named by a whole path is the system's
        yield certificates
    for name in _TREES:
        yield from sorted(path for path in (folder.root / name).rglob("*") if path.is_file())


def _add_blobs(archive: _Archive, folder: Folder) -> tuple[int, int]:
    """Add every complete payload; one that is shredded meanwhile is left out."""
    found = sorted(path for path in folder.blobs.glob("??/*") if path.suffix in (".blob", ".sealed"))
    count = {".blob": 0, ".sealed": 0}
    for path in found:
        beside = (path.with_suffix(suffix) for suffix in _BLOB_SUFFIXES)
        added = [name for name in beside if archive.add(name, name.relative_to(folder.root).as_posix())]
        if path in added:
            count[path.suffix] += 1
    return sum(count.values()), count[".sealed"]
