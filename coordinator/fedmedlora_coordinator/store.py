"""The durable log: entries, their receipts and signed heads (PROTOCOL §5).

Contract:
    * `append` is one transaction: its entries (an event and, for a site's event, the receipt) and the head
      that covers them are all durable when it returns, or none of them is.
    * Nothing is ever changed or deleted: the database itself refuses UPDATE and DELETE. One act lifts that:
      `delete_notes` empties the notes of a range, in one transaction that puts the refusal back.
    * The last head also lies in a file of its own, replaced only by comparing with the one written before.
      That file is never restored from a backup: a store older than the head is a roll-back and is refused.
    * One writer. Any StoreError ends the process; the next start reads the truth from the disk.
"""

import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    DDL,
    Column,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    event,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.exc import SQLAlchemyError

from fedmedlora_coordinator.database import open_engine
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.folder import write_atomic

_METADATA = MetaData()
_ENTRIES = Table(
    "entries",
    _METADATA,
    Column("entry_index", Integer, primary_key=True, autoincrement=False),
    Column("leaf", LargeBinary(32), nullable=False, unique=True),
    Column("note", LargeBinary, nullable=False),
    sqlite_strict=True,
)
_HEADS = Table(
    "heads",
    _METADATA,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    sqlite_strict=True,
)
_COSIGNATURES = Table(
    "cosignatures",
    _METADATA,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("site", Text, primary_key=True),
    Column("line", LargeBinary, nullable=False),
    sqlite_strict=True,
)


def _refusal(table: str, act: str) -> str:
    """Return the statement that makes the database refuse an act on a table."""
    return (
        f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {act} ON {table} "
        "BEGIN SELECT RAISE(ABORT, 'the log is append-only'); END"
    )


for _table in (_ENTRIES, _HEADS, _COSIGNATURES):
    for _act in ("UPDATE", "DELETE"):
        _statement = DDL(_refusal(_table.name, _act))  # type: ignore[no-untyped-call]
        event.listen(_table, "after_create", _statement.execute_if(dialect="sqlite"))


@dataclass(frozen=True)
class StoredEntry:
    """One row of the log; of a deleted entry the note is empty."""

    index: int
    leaf: bytes
    note: bytes


class LogStore:
    """SQLite file plus head file."""

    def __init__(self, path: Path, head_path: Path) -> None:
        """Open (and make, if new) the store.

        Raises:
            StoreError: The database cannot be opened or is damaged.
        """
        self._engine = open_engine(path)
        self._head_path = head_path
        try:
            _METADATA.create_all(self._engine)
            with self._engine.begin() as connection:
                result = connection.exec_driver_sql("PRAGMA integrity_check").scalar()
        except SQLAlchemyError as exc:
            raise StoreError(f"{path}: cannot be opened ({type(exc).__name__})") from None
        if result != "ok":
            raise StoreError(f"{path}: the database is damaged; restore it from a site's mirror")

    def close(self) -> None:
        """Close the database."""
        self._engine.dispose()

    def entries(self, start: int = 0, count: int | None = None) -> list[StoredEntry]:
        """Return entries from an index on, in order; at most `count`."""
        query = select(_ENTRIES).where(_ENTRIES.c.entry_index >= start).order_by(_ENTRIES.c.entry_index)
        if count is not None:
            query = query.limit(count)
        with self._engine.begin() as connection:
            rows = connection.execute(query).all()
        return [StoredEntry(row.entry_index, bytes(row.leaf), bytes(row.note)) for row in rows]

    def index_of(self, leaf: bytes) -> int | None:
        """Return the index of an entry by its leaf hash, or None."""
        query = select(_ENTRIES.c.entry_index).where(_ENTRIES.c.leaf == leaf)
        with self._engine.begin() as connection:
            return connection.execute(query).scalar()

    def size(self) -> int:
        """Return the number of entries."""
        with self._engine.begin() as connection:
            return int(connection.execute(select(func.count()).select_from(_ENTRIES)).scalar_one())

    def last_head(self) -> bytes | None:
        """Return the newest signed head in the database, or None."""
        query = select(_HEADS.c.note).order_by(_HEADS.c.size.desc()).limit(1)
        with self._engine.begin() as connection:
            note = connection.execute(query).scalar()
        return None if note is None else bytes(note)

    def head_file(self) -> bytes | None:
        """Return the signed head in the head file, or None when there is none yet."""
        try:
            return self._head_path.read_bytes()
        except FileNotFoundError:
            return None

    def append(self, start: int, entries: Sequence[tuple[bytes, bytes]], *, head: bytes, size: int) -> None:
        """Append (leaf, note) pairs at index `start` with the head of the new size, in one transaction.

        Raises:
            StoreError: The entries do not continue the log, or the disk refused; nothing was appended.
        """
        rows = [
            {"entry_index": start + offset, "leaf": leaf, "note": note}
            for offset, (leaf, note) in enumerate(entries)
        ]
        try:
            with self._engine.begin() as connection:
                held = connection.execute(select(func.count()).select_from(_ENTRIES)).scalar_one()
                if held != start or start + len(rows) != size:
                    raise StoreError(f"entry {start} does not continue a log of {held} entries")
                connection.execute(insert(_ENTRIES), rows)
                connection.execute(insert(_HEADS), [{"size": size, "note": head}])
        except SQLAlchemyError as exc:
            raise StoreError(f"the log could not be written ({type(exc).__name__})") from None

    def delete_notes(self, start: int, end: int) -> bool:
        """Delete the notes from ``start`` to before ``end`` and keep the hashes; tell whether any was there.

        The bytes are overwritten in the database and the file is shortened. What the file system or a backup
        still holds is beyond it.

        Raises:
            StoreError: The disk refused; nothing was deleted.
        """
        gone = (
            update(_ENTRIES)
            .where(_ENTRIES.c.entry_index >= start, _ENTRIES.c.entry_index < end)
            .where(func.length(_ENTRIES.c.note) > 0)
            .values(note=b"")
        )
        try:
            with self._engine.begin() as connection:
                connection.exec_driver_sql("PRAGMA secure_delete = ON")
                connection.exec_driver_sql(f"DROP TRIGGER {_ENTRIES.name}_no_update")
                count = connection.execute(gone).rowcount
                connection.exec_driver_sql(_refusal(_ENTRIES.name, "UPDATE"))
            if count:
                driver: Any = self._engine.raw_connection().driver_connection
                driver.execute("VACUUM")  # outside of any transaction
        except (SQLAlchemyError, sqlite3.Error) as exc:
            raise StoreError(f"entries could not be deleted ({type(exc).__name__})") from None
        return count > 0

    def cosignatures(self) -> list[tuple[int, str, bytes]]:
        """Return all cosignatures as (size of the head, site, signature line), by size and site."""
        query = select(_COSIGNATURES).order_by(_COSIGNATURES.c.size, _COSIGNATURES.c.site)
        with self._engine.begin() as connection:
            return [(row.size, row.site, bytes(row.line)) for row in connection.execute(query)]

    def add_cosignature(self, size: int, site: str, line: bytes) -> None:
        """Keep a witness's signature line for the head of a size; durable when it returns.

        Raises:
            StoreError: The disk refused, or there is one by this site for this head.
        """
        try:
            with self._engine.begin() as connection:
                connection.execute(insert(_COSIGNATURES), [{"size": size, "site": site, "line": line}])
        except SQLAlchemyError as exc:
            raise StoreError(f"a cosignature could not be written ({type(exc).__name__})") from None

    def swap_head_file(self, expected: bytes | None, head: bytes) -> None:
        """Replace the head file if it still holds `expected`.

        Raises:
            StoreError: Something else wrote it: two coordinators would fork the log.
        """
        if self.head_file() != expected:
            raise StoreError("the head file was changed by something else; is a second coordinator running?")
        write_atomic(self._head_path, head)


def read_cosignatures(path: Path) -> list[tuple[int, str, bytes]]:
    """Read all cosignatures of a store that another process may be writing; see `LogStore.cosignatures`.

    Raises:
        StoreError: There is no readable store.
    """
    query = select(_COSIGNATURES).order_by(_COSIGNATURES.c.size, _COSIGNATURES.c.site)
    return [(row.size, row.site, bytes(row.line)) for row in _read_only(path, query)]


def read_entries(path: Path) -> list[StoredEntry]:
    """Read all entries of a store that another process may be writing; takes no write lock.

    Raises:
        StoreError: There is no readable store.
    """
    query = select(_ENTRIES).order_by(_ENTRIES.c.entry_index)
    rows = _read_only(path, query)
    return [StoredEntry(row.entry_index, bytes(row.leaf), bytes(row.note)) for row in rows]


def _read_only(path: Path, query: Select[Any]) -> Sequence[Row[Any]]:
    if not path.is_file():
        return []
    engine = open_engine(path, for_reading=True)
    try:
        with engine.begin() as connection:
            return connection.execute(query).all()
    except SQLAlchemyError as exc:
        raise StoreError(f"{path}: cannot be read ({type(exc).__name__})") from None
    finally:
        engine.dispose()
