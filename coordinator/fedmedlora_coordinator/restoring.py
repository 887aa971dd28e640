"""`coordinator restore`: a coordinator's folder from a backup, which goes on or says why it must not.

Whether a backup has the whole log only others can say: the head file of the old folder, or the heads that
sites hold. So at least one head has to be shown, the newest becomes the head file, and a log that is shorter
than it can be exported and judged, and is never served.
"""

import hashlib
import json
import os
import secrets
import shutil
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from fedmedlora_audit.checkpoint import Checkpoint, open_checkpoint
from fedmedlora_audit.errors import AuditError, NoteError
from fedmedlora_audit.merkle import Tree
from fedmedlora_audit.note import VerifierKey
from fedmedlora_coordinator.backup import MANIFEST, SCHEMA
from fedmedlora_coordinator.errors import StoreError, disk_error
from fedmedlora_coordinator.folder import Folder, sync_folder, write_atomic, write_private
from fedmedlora_coordinator.ledger import need_continued
from fedmedlora_coordinator.placement import enrolment_database, log_database
from fedmedlora_coordinator.register import copy_register
from fedmedlora_coordinator.reports import read_log, require_study
from fedmedlora_coordinator.settings import CoordinatorSettings, PostgresAddress
from fedmedlora_coordinator.setup import load_log_signer, load_storage_key
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import copy_log, read_entries
from fedmedlora_core.errors import ConfigError

_BLOCK: Final = 1 << 20
_MOST_MANIFEST_BYTES: Final = 256 << 20


@dataclass(frozen=True)
class Restored:
    """What a restored folder is good for.

    Attributes:
        entries: Entries of its log.
        head: Size of the newest head that was shown; 0 for a coordinator without a log.
        problem: Why it must not be served, in one sentence; None when it goes on.
    """

    entries: int
    head: int
    problem: str | None


def restore(
    archive: Path,
    root: Path,
    *,
    heads: Sequence[Path] = (),
    storage_key: Path | None = None,
    store_url: str | None = None,
) -> Restored:
    """Make a coordinator's folder from a backup; it appears whole or not at all.

    Args:
        archive: The backup.
        root: Folder to make; must not exist or be empty.
        heads: Signed heads of the log: `head` of the old folder, `run/mirror/checkpoint` of sites. The newest
            becomes the head file.
        storage_key: `keys/storage.key` of the old folder; needed when the backup has sealed payloads.
        store_url: Where the store goes: a `store.url`, empty for SQLite; None for where it was.

    Raises:
        ConfigError: Something is missing or in use (the operator's); nothing was made.
        StoreError: The backup is damaged or breaks the law, or the target holds another log.
    """
    if root.exists() and (not root.is_dir() or any(root.iterdir())):
        raise ConfigError(f"{root}: exists and is not empty; choose a new folder")
    staging = Folder(root.with_name(f".{root.name}.{secrets.token_hex(4)}.restore"))
    try:
        staging.root.mkdir(parents=True, mode=0o700)
        extract(archive, staging.root)
        _take_storage_key(staging, storage_key)
        found = _judge(staging, archive, heads)
        _place_tables(staging, store_url)
        for name in ("blobs", "invitations"):
            (staging.root / name).mkdir(mode=0o700, exist_ok=True)
        staging.root.replace(root)
        sync_folder(root.parent)
    except OSError as exc:
        raise disk_error(str(root), exc) from None
    finally:
        shutil.rmtree(staging.root, ignore_errors=True)
    return found


def extract(archive: Path, root: Path) -> None:
    """Write the members of a backup, and check each against the list that ends it.

    Raises:
        StoreError: The file is damaged, or no backup.
        ConfigError: It is not there (the operator's).
        OSError: The folder cannot take what the file holds.
    """
    digests: dict[str, str] = {}
    manifest: dict[str, Any] | None = None
    try:
        with tarfile.open(archive, mode="r:") as tar:
            for member in tar:
                # A sparse member can claim more bytes than the archive has, and fill the disk.
                plain = member.isreg() and not member.issparse()
                file = tar.extractfile(member) if plain else None
                if file is None or manifest is not None or not _lies_within(member.name):
                    raise _damaged(archive)
                if member.name == MANIFEST:
                    manifest = json.loads(file.read(_MOST_MANIFEST_BYTES))
                elif member.name in digests:
                    raise _damaged(archive)
                else:
                    digests[member.name] = _copy(file, root / member.name)
    except FileNotFoundError:
        raise ConfigError(f"{archive}: is not there") from None
    except (tarfile.TarError, ValueError, RecursionError):
        raise _damaged(archive) from None
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA or manifest.get("files") != digests:
        raise _damaged(archive)


def _lies_within(name: str) -> bool:
    """Tell whether a name leads to a place in the folder."""
    return all(part not in ("", ".", "..") and not set(part) & {"\\", "\0"} for part in name.split("/"))


def _damaged(archive: Path) -> StoreError:
    return StoreError(f"{archive}: is no whole backup of a coordinator; use another copy")


def _copy(source: IO[bytes], path: Path) -> str:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    digest = hashlib.sha256()
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        while block := source.read(_BLOCK):
            digest.update(block)
            file.write(block)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest()


def _take_storage_key(folder: Folder, given: Path | None) -> None:
    if given is not None:
        try:
            write_private(folder.storage_key, given.read_bytes())
        except FileNotFoundError:
            raise ConfigError(f"{given}: is not there") from None
    elif any(folder.blobs.glob("??/*.sealed")):
        raise ConfigError(
            "the backup has sealed payloads: name the old folder's keys/storage.key with --storage-key"
        )
    load_storage_key(folder)  # one that is no key is refused here; without sealed payloads a new one does


def _judge(folder: Folder, archive: Path, heads: Sequence[Path]) -> Restored:
    """Check the log's signatures and law, and hold it against the heads; the newest becomes the head file."""
    carried = SqliteDatabase(folder.store)
    tree, entries, origin = Tree(), 0, None
    # A log without an entry may be the backup of a folder that had not begun, or that went on afterwards.
    if read_entries(carried):
        running = require_study(folder)
        state, rows = read_log(folder, running, carried)
        tree, entries, origin = state.tree, len(rows), running.terms.origin
    if not heads:
        if not entries:
            return Restored(0, 0, None)
        raise ConfigError(
            f"{archive}: nobody can tell whether {entries} entries are the whole log; name the newest "
            "head with --head: `head` of the old folder, or `run/mirror/checkpoint` of every site in reach"
        )
    newest, size, problem = b"", -1, None
    for path in heads:
        note, head = _opened(path, folder, origin)
        try:
            need_continued(tree, head)
        except StoreError as error:
            problem = problem or str(error)
        if head.size > size:
            newest, size = note, head.size
    write_atomic(folder.head, newest)
    return Restored(entries, size, problem)


def _opened(path: Path, folder: Folder, origin: str | None) -> tuple[bytes, Checkpoint]:
    """Read a head that this folder's log key has signed, of the named log or, without entries, of any."""
    verifier = VerifierKey.parse(load_log_signer(folder).vkey)
    try:
        note = path.read_bytes()
        return note, open_checkpoint(note, verifier, origin=origin)
    except (AuditError, NoteError, OSError):
        raise ConfigError(f"{path}: is no head of this log") from None


def _place_tables(folder: Folder, store_url: str | None) -> None:
    """Copy log and register to where they go from now on, row by row, with the refusals of their database."""
    settings = CoordinatorSettings.load(folder.config)
    if store_url is not None:
        if store_url:
            PostgresAddress.parse(store_url)
        store = settings.store.model_copy(update={"url": store_url})
        settings = settings.model_copy(update={"store": store})
        write_atomic(folder.config, settings.to_toml().encode())
    carried = folder.root / "carried"
    carried.mkdir(mode=0o700)
    for path, copy, target in (
        (folder.store, copy_log, log_database(folder, settings)),
        (folder.enrolment_store, copy_register, enrolment_database(folder, settings)),
    ):
        if path.exists():
            path.rename(carried / path.name)
            copy(SqliteDatabase(carried / path.name), target)
    shutil.rmtree(carried)
