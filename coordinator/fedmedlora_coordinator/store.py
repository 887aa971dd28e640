"""The durable log: entries, their receipts and signed heads (PROTOCOL §5).

Contract, on any `database.Database`:
    * `append` is one transaction: its entries (an event and, for a site's event, the receipt) and the head
      that covers them are all durable when it returns, or none of them is.
    * Nothing is ever changed or deleted: the database itself refuses UPDATE and DELETE. One act lifts that:
      `delete_notes` empties the notes of a range, in one transaction that puts the refusal back.
    * The last head also lies in a file of its own, replaced only by comparing with the one written before.
      That file is never restored from a backup: a store older than the head is a roll-back and is refused.
    * One writer, held by the database. Any StoreError ends the process, or has it begin anew
      (StoreUnreachableError); what is true is then read from the database.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import (
    Column,
    Connection,
    Integer,
    LargeBinary,
    MetaData,
    Row,
    Select,
    Table,
    Text,
    func,
    insert,
    select,
    update,
)

from fedmedlora_coordinator.database import Database, copy_tables, has_table, transaction
from fedmedlora_coordinator.errors import StoreError, disk_error
from fedmedlora_coordinator.folder import write_atomic
from fedmedlora_coordinator.layout import LOG
from fedmedlora_coordinator.metrics import store_write

_UNREADABLE = "the log could not be read"
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


@dataclass(frozen=True)
class StoredEntry:
    """One row of the log; of a deleted entry the note is empty."""

    index: int
    leaf: bytes
    note: bytes


class LogStore:
    """The log of one study, open for its one writer, with the file of its last head."""

    def __init__(self, database: Database, head_path: Path) -> None:
        """Open (and make, if new) the log.

        Raises:
            StoreError: It cannot be opened, is damaged, or another process holds it.
            StoreUnreachableError: Nobody answers.
        """
        self._database = database
        self._head_path = head_path
        self._engine = database.open_alone()
        try:
            with transaction(self._engine, f"{database.place}: cannot be opened") as connection:
                _make_tables(connection, database)
            database.check(self._engine)
        except BaseException:
            self._engine.dispose()
            raise

    def close(self) -> None:
        """Close the database; another process may open it then."""
        self._engine.dispose()

    def entries(self, start: int = 0, count: int | None = None) -> list[StoredEntry]:
        """Return entries from an index on, in order; at most `count`."""
        query = select(_ENTRIES).where(_ENTRIES.c.entry_index >= start).order_by(_ENTRIES.c.entry_index)
        if count is not None:
            query = query.limit(count)
        with transaction(self._engine, _UNREADABLE) as connection:
            rows = connection.execute(query).all()
        return [StoredEntry(row.entry_index, bytes(row.leaf), bytes(row.note)) for row in rows]

    def index_of(self, leaf: bytes) -> int | None:
        """Return the index of an entry by its leaf hash, or None."""
        query = select(_ENTRIES.c.entry_index).where(_ENTRIES.c.leaf == leaf)
        with transaction(self._engine, _UNREADABLE) as connection:
            return connection.execute(query).scalar()

    def size(self) -> int:
        """Return the number of entries."""
        with transaction(self._engine, _UNREADABLE) as connection:
            return int(connection.execute(select(func.count()).select_from(_ENTRIES)).scalar_one())

    def last_head(self) -> bytes | None:
        """Return the newest signed head in the database, or None."""
        query = select(_HEADS.c.note).order_by(_HEADS.c.size.desc()).limit(1)
        with transaction(self._engine, _UNREADABLE) as connection:
            note = connection.execute(query).scalar()
        return None if note is None else bytes(note)

    def head_file(self) -> bytes | None:
        """Return the signed head in the head file, or None when there is none yet."""
        try:
            return self._head_path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as exc:
            raise StoreError(f"{self._head_path}: cannot be read ({exc.strerror})") from None

    def append(self, start: int, entries: Sequence[tuple[bytes, bytes]], *, head: bytes, size: int) -> None:
        """Append (leaf, note) pairs at index `start` with the head of the new size, in one transaction.

        Raises:
            StoreError: The entries do not continue the log, or the disk refused; nothing was appended.
            StoreUnreachableError: The connection was lost; all was appended or nothing.
        """
        rows = [
            {"entry_index": start + offset, "leaf": leaf, "note": note}
            for offset, (leaf, note) in enumerate(entries)
        ]
        with store_write(), transaction(self._engine, "the log could not be written") as connection:
            held = connection.execute(select(func.count()).select_from(_ENTRIES)).scalar_one()
            if held != start or start + len(rows) != size:
                raise StoreError(f"entry {start} does not continue a log of {held} entries")
            connection.execute(insert(_ENTRIES), rows)
            connection.execute(insert(_HEADS), [{"size": size, "note": head}])

    def delete_notes(self, start: int, end: int) -> bool:
        """Delete the notes from ``start`` to before ``end`` and keep the hashes; tell whether any was there.

        SQLite overwrites the bytes and shortens the file; PostgreSQL writes the table to a new file and
        removes the old one. What the file system, the server's own log or a backup still holds is beyond it.

        Raises:
            StoreError: The disk refused; nothing was deleted.
        """
        gone = (
            update(_ENTRIES)
            .where(_ENTRIES.c.entry_index >= start, _ENTRIES.c.entry_index < end)
            .where(func.length(_ENTRIES.c.note) > 0)
            .values(note=b"")
        )
        with transaction(self._engine, "entries could not be deleted") as connection:
            self._database.overwrite_deleted(connection)
            connection.exec_driver_sql(self._database.allowance(_ENTRIES.name, "UPDATE"))
            count = connection.execute(gone).rowcount
            connection.exec_driver_sql(self._database.refusal(_ENTRIES.name, "UPDATE"))
        if count:
            self._database.shrink(self._engine, _ENTRIES.name)
        return count > 0

    def cosignatures(self) -> list[tuple[int, str, bytes]]:
        """Return all cosignatures as (size of the head, site, signature line), by size and site."""
        query = select(_COSIGNATURES).order_by(_COSIGNATURES.c.size, _COSIGNATURES.c.site)
        with transaction(self._engine, _UNREADABLE) as connection:
            return [(row.size, row.site, bytes(row.line)) for row in connection.execute(query)]

    def add_cosignature(self, size: int, site: str, line: bytes) -> None:
        """Keep a witness's signature line for the head of a size; durable when it returns.

        Raises:
            StoreError: The disk refused, or there is one by this site for this head.
        """
        with transaction(self._engine, "a cosignature could not be written") as connection:
            connection.execute(insert(_COSIGNATURES), [{"size": size, "site": site, "line": line}])

    def swap_head_file(self, expected: bytes | None, head: bytes) -> None:
        """Replace the head file if it still holds `expected`.

        Raises:
            StoreError: Something else wrote it: two coordinators would fork the log; or the disk refused.
                What is in the log stays there, and the next start catches the file up.
        """
        if self.head_file() != expected:
            raise StoreError("the head file was changed by something else; is a second coordinator running?")
        try:
            write_atomic(self._head_path, head)
        except OSError as exc:
            raise disk_error(str(self._head_path), exc) from None


def read_cosignatures(database: Database) -> list[tuple[int, str, bytes]]:
    """Read all cosignatures of a store that another process may be writing; see `LogStore.cosignatures`.

    Raises:
        StoreError: There is no readable store.
    """
    query = select(_COSIGNATURES).order_by(_COSIGNATURES.c.size, _COSIGNATURES.c.site)
    return [(row.size, row.site, bytes(row.line)) for row in _read_only(database, _COSIGNATURES, query)]


def read_entries(database: Database) -> list[StoredEntry]:
    """Read all entries of a store that another process may be writing; takes no write lock.

    Raises:
        StoreError: There is no readable store.
    """
    query = select(_ENTRIES).order_by(_ENTRIES.c.entry_index)
    rows = _read_only(database, _ENTRIES, query)
    return [StoredEntry(row.entry_index, bytes(row.leaf), bytes(row.note)) for row in rows]


def copy_log(source: Database, target: Database) -> None:
    """Copy a log with its heads and cosignatures into a database that has none; see `copy_tables`."""
    copy_tables(_METADATA, source, target, _make_tables)


def _make_tables(connection: Connection, database: Database) -> None:
    """Make what is missing, each table with the database's refusal to change it.

    Raises:
        StoreError: A newer release has written the store; nothing is changed.
    """
    LOG.require_known(connection, database)
    for table in _METADATA.sorted_tables:
        if not has_table(connection, table):
            table.create(connection)
            for act in ("UPDATE", "DELETE"):
                connection.exec_driver_sql(database.refusal(table.name, act))
    LOG.record(connection)


def _read_only(database: Database, table: Table, query: Select[Any]) -> Sequence[Row[Any]]:
    if not database.exists():
        return []
    engine = database.open_for_reading()
    try:
        with transaction(engine, f"{database.place}: cannot be read") as connection:
            LOG.require_known(connection, database)
            return connection.execute(query).all() if has_table(connection, table) else []
    finally:
        engine.dispose()
