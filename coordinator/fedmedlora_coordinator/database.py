"""SQLite engines that lose nothing: one connection, rollback journal, every commit on the disk.

Journal DELETE with synchronous EXTRA, not the write-ahead log: SQLite before 3.51.3 can damage a database
when a checkpoint and a write meet, and long-lived systems ship older versions. A round makes some hundred
events; a millisecond each is no concern.
"""

from pathlib import Path
from typing import Any

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.pool import StaticPool

BUSY_SECONDS = 10.0


def open_engine(path: Path, *, for_reading: bool = False) -> Engine:
    """Open (and make, if new) a SQLite database for one writer in this process, or for reading beside it."""
    engine = create_engine(
        f"sqlite:///{path}",
        poolclass=StaticPool,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS},
    )
    event.listen(engine, "connect", _set_pragmas)
    event.listen(engine, "begin", _begin if for_reading else _begin_immediate)
    return engine


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
