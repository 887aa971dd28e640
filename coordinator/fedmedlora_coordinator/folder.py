"""The coordinator's folder: where everything lies, and the two ways a file gets there.

A file is either private and written once (`write_private`) or replaced whole (`write_atomic`); both are on
disk before the call returns, so a power cut leaves the old state or the new one.
"""

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedmedlora_core.errors import ConfigError


@dataclass(frozen=True)
class Folder:
    """Names of the files under one coordinator's root folder."""

    root: Path

    @property
    def card(self) -> Path:
        """`card.toml`: the coordinator's public addresses and keys, for `study new`."""
        return self.root / "card.toml"

    @property
    def config(self) -> Path:
        """Operator's settings."""
        return self.root / "coordinator.toml"

    @property
    def ca_key(self) -> Path:
        """Private key of the federation's certificate authority."""
        return self.root / "ca" / "ca.key"

    @property
    def ca_certificate(self) -> Path:
        """Certificate of the federation's certificate authority."""
        return self.root / "ca" / "ca.pem"

    @property
    def tls_key(self) -> Path:
        """Private key of both listeners."""
        return self.root / "tls" / "server.key"

    @property
    def tls_certificate(self) -> Path:
        """Certificate of both listeners."""
        return self.root / "tls" / "server.pem"

    @property
    def log_key(self) -> Path:
        """Seed of the key that signs heads of the log."""
        return self.root / "keys" / "log.seed"

    @property
    def event_key(self) -> Path:
        """Seed of the key that signs the coordinator's own events."""
        return self.root / "keys" / "event.seed"

    @property
    def storage_key(self) -> Path:
        """Key over the keys of what sites have sent."""
        return self.root / "keys" / "storage.key"

    @property
    def store(self) -> Path:
        """The log: entries and signed heads."""
        return self.root / "store.sqlite"

    @property
    def enrolment_store(self) -> Path:
        """Invitations and issued certificates."""
        return self.root / "enrolment.sqlite"

    @property
    def head(self) -> Path:
        """The last signed head, apart from the store and never restored from a backup."""
        return self.root / "head"

    @property
    def stamps(self) -> Path:
        """Time stamps by the size of the head they are over."""
        return self.root / "stamps"

    @property
    def blobs(self) -> Path:
        """Payloads by digest."""
        return self.root / "blobs"

    @property
    def invitations(self) -> Path:
        """Invitation files, to be carried to the sites."""
        return self.root / "invitations"

    @property
    def study(self) -> Path:
        """The study package that this coordinator runs."""
        return self.root / "study"

    @property
    def released(self) -> Path:
        """The released global adapter, a PEFT folder."""
        return self.root / "released"

    @property
    def live(self) -> Path:
        """What the serving process alone knows, for `status --watch` and `health`; worth nothing after it."""
        return self.root / "live.json"

    def require(self) -> None:
        """Raise ConfigError unless `init` made this folder."""
        if not self.config.is_file():
            raise ConfigError(
                f"{self.root}: not a coordinator folder; make one with `fedmedlora coordinator init`"
            )

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold the folder for one serving process; a second one is refused: two writers fork the log."""
        descriptor = os.open(self.root / "serving.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            if not _lock(descriptor, attempts=10):  # `status` holds it for an instant
                raise ConfigError(f"{self.root}: another coordinator is serving from this folder")
            yield
        finally:
            os.close(descriptor)

    def is_served(self) -> bool:
        """Tell whether a process is serving from this folder."""
        descriptor = os.open(self.root / "serving.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            return not _lock(descriptor, attempts=1)
        finally:
            os.close(descriptor)


def _lock(descriptor: int, *, attempts: int) -> bool:
    """Try to take an exclusive lock, some times a tenth of a second apart; tell whether it was got."""
    for attempt in range(attempts):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if attempt + 1 < attempts:
                time.sleep(0.1)
        else:
            return True
    return False


def sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_private(path: Path, content: bytes) -> None:
    """Write a new file that only its owner may read; an existing one is an error."""
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def write_atomic(path: Path, content: bytes) -> None:
    """Replace a file whole: a reader sees the old content or the new, also after a power cut."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)
