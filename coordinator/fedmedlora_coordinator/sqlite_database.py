"""SQLite as the coordinator's database: one file in the folder, rollback journal, every commit on the disk.

Journal DELETE with synchronous EXTRA, not the write-ahead log: SQLite before 3.51.3 can damage a database
when a checkpoint and a write meet, and long-lived systems ship older versions. A round makes some hundred
events; a millisecond each is no concern.
"""

import fcntl
import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import StaticPool

from fedmedlora_coordinator.database import BUSY_SECONDS, failure, transaction
from fedmedlora_coordinator.errors import NOTHING_LOST, StoreError, StoreHeldError


class SqliteDatabase:
    """A database in a file; see `database.Database` for what it promises.

    `open_alone` holds a lock file beside it. The lock ends with the process, so a kill leaves nothing behind.
    """

    def __init__(self, path: Path) -> None:
        """Name the file; nothing is opened."""
        self.path = path

    @property
    def place(self) -> str:
        """The file."""
        return str(self.path)

    def exists(self) -> bool:
        """Tell whether the file is there."""
        return self.path.is_file()

    def open_alone(self) -> Engine:
        """Open as the only writer."""
        descriptor = self._lock()
        engine = self._open(_begin_immediate)
        event.listen(engine, "engine_disposed", lambda engine: os.close(descriptor), once=True)
        return engine

    def open_shared(self) -> Engine:
        """Open for writers that take turns."""
        return self._open(_begin_immediate)

    def open_for_reading(self) -> Engine:
        """Open for reading; no write lock is taken."""
        return self._open(_begin)

    def frozen(self, scratch: Path) -> "SqliteDatabase":
        """Copy the file by SQLite's online backup: a writer waits for one pass over the pages at most."""
        copy = scratch / self.path.name
        try:
            with (
                closing(sqlite3.connect(f"file:{self.path}?mode=ro", uri=True, timeout=BUSY_SECONDS)) as old,
                closing(sqlite3.connect(copy)) as new,
            ):
                old.backup(new)
        except sqlite3.Error as exc:
            raise failure(f"{self.path}: cannot be copied", exc) from None
        return SqliteDatabase(copy)

    def check(self, engine: Engine) -> None:
        """Walk all pages."""
        with transaction(engine, f"{self.path}: cannot be read") as connection:
            result = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        if result != "ok":
            raise StoreError(
                f"{self.path}: the database is damaged; restore a backup (`coordinator restore`)"
            )

    def refusal(self, table: str, act: str) -> str:
        """Return a trigger that aborts."""
        return (
            f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
            "BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END"
        )

    def allowance(self, table: str, act: str) -> str:
        """Return what drops that trigger."""
        return f"DROP TRIGGER {table}_no_{act.lower()}"

    def overwrite_deleted(self, connection: Connection) -> None:
        """Overwrite deleted bytes with zeros."""
        connection.exec_driver_sql("PRAGMA secure_delete = ON")

    def shrink(self, engine: Engine, table: str) -> None:
        """Write the file anew; outside of any transaction."""
        driver: Any = engine.raw_connection().driver_connection
        try:
            driver.execute("VACUUM")
        except sqlite3.Error as exc:
            raise failure(f"{self.path}: could not be shortened", exc) from None

    def _open(self, begin: Any) -> Engine:
        engine = create_engine(
            f"sqlite:///{self.path}",
            poolclass=StaticPool,
            hide_parameters=True,
            connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
        )
        event.listen(engine, "connect", _set_pragmas)
        event.listen(engine, "begin", begin)
        return engine

    def _lock(self) -> int:
        path = self.path.with_name(f"{self.path.name}.lock")
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as exc:
            raise StoreError(f"{path}: cannot be opened ({exc.strerror}); {NOTHING_LOST}") from None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise StoreHeldError(f"{self.path}: another coordinator holds this log") from None
        return descriptor


def _set_pragmas(connection: Any, _record: object) -> None:
    # The driver's own transaction control begins too late for DDL and reads; ours is explicit.
    connection.isolation_level = None
    cursor = connection.cursor()
    for pragma in ("journal_mode = DELETE", "synchronous = EXTRA", "foreign_keys = ON", "mmap_size = 0"):
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


def _begin(connection: Any) -> None:
    connection.exec_driver_sql("BEGIN")


def _begin_immediate(connection: Any) -> None:
    # Take the write lock at once: two processes never both read and then both try to write.
    connection.exec_driver_sql("BEGIN IMMEDIATE")
