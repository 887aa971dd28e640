"""What the coordinator's tables lie in: the contract of a database, and what its failures say.

Two modules keep the contract: `sqlite_database` (a file in the folder, the default) and `postgres_database`.
`placement` tells which one a folder has. The tables themselves (`store`, `register`) are written once, in
SQL that both speak; one class of tests runs for both.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from sqlalchemy import Connection, Engine, MetaData, Table, insert, inspect, select
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from fedmedlora_coordinator.errors import NOTHING_LOST, StoreError, StoreUnreachableError

BUSY_SECONDS: Final = 10.0
"""How long a writer waits for another one before it gives up."""
_BATCH_ROWS: Final = 500
_FULL: Final = f"the disk is full; {NOTHING_LOST}"
_READ_ONLY: Final = f"the disk or the database is read-only; {NOTHING_LOST}"
_BUSY: Final = "another process holds the database"
_OF_SQLITE: Final = {
    "SQLITE_FULL": _FULL,
    "SQLITE_READONLY": _READ_ONLY,
    "SQLITE_CANTOPEN": f"the file cannot be opened or its folder cannot be written; {NOTHING_LOST}",
    "SQLITE_IOERR": f"the disk fails; {NOTHING_LOST}",
    "SQLITE_BUSY": _BUSY,
    "SQLITE_CORRUPT": "the database is damaged",
    "SQLITE_NOTADB": "the file is not a database",
}
_OF_SQLSTATE: Final = {
    "53100": _FULL,
    "25006": _READ_ONLY,
    "55P03": _BUSY,
    "40001": _BUSY,
    "42501": "the role lacks rights: it has to own the tables",
    "3D000": "there is no such database: make one for this coordinator alone",
    "28P01": "the password is not the role's",
    "28000": "the role may not log in",
    "58030": f"the server's disk fails; {NOTHING_LOST}",
}


class Database(Protocol):
    """One place for tables.

    What every implementation promises:
        * **Durable.** When a transaction of a writing engine returns, what it wrote survives a kill of this
          process, of the server, and a power cut. A transaction that raises wrote nothing - or, when the
          connection was lost in its commit, all: who goes on reads first.
        * **Isolated.** A writing transaction sees no other one's writes beside its own; those of a reading
          engine see one moment each.
        * **One writer.** `open_alone` holds the database until its engine is disposed of or its process or
          connection ends; a second one is refused by then, wherever it runs. An engine that has lost its
          hold never writes again.
        * **No secret** stands in `place`, in an error, or in anything that is logged.
    """

    @property
    def place(self) -> str:
        """What an operator calls it; without any secret."""

    def exists(self) -> bool:
        """Tell whether there can be tables: a file that nobody made has none.

        Raises:
            StoreUnreachableError: Nobody answers.
        """

    def open_alone(self) -> Engine:
        """Open for the one writer of the log; made if new.

        Raises:
            StoreHeldError: Another process holds it.
            StoreError: It would not keep the promises.
            StoreUnreachableError: Nobody answers.
        """

    def open_shared(self) -> Engine:
        """Open for short writing transactions, which take turns with those of other processes."""

    def open_for_reading(self) -> Engine:
        """Open for reading beside a writer."""

    def frozen(self, scratch: Path) -> "Database":
        """Return what this database is now, to be read for as long as it takes without holding up a writer.

        Args:
            scratch: An empty folder that outlives the reading.
        """

    def check(self, engine: Engine) -> None:
        """Check the database's own structures.

        Raises:
            StoreError: It is damaged.
        """

    def refusal(self, table: str, act: str) -> str:
        """Return the statement that has the database refuse UPDATE or DELETE on a table."""

    def allowance(self, table: str, act: str) -> str:
        """Return the statement that undoes `refusal`."""

    def overwrite_deleted(self, connection: Connection) -> None:
        """Have what this transaction deletes overwritten, where the database can."""

    def shrink(self, engine: Engine, table: str) -> None:
        """Give back the room of what was deleted from a table."""


@contextmanager
def transaction(engine: Engine, doing: str) -> Iterator[Connection]:
    """Run one transaction; what goes wrong is one sentence for the operator.

    Args:
        engine: An engine of a Database.
        doing: What could not be done, such as "the log could not be written".

    Raises:
        StoreUnreachableError: The connection was lost; of a writing transaction it is not known whether it
            was made, all of it or nothing.
        StoreError: Anything else; nothing was written.
    """
    try:
        with engine.begin() as connection:
            yield connection
    except SQLAlchemyError as exc:
        raise failure(doing, exc) from None


def failure(doing: str, exc: Exception) -> StoreError:
    """Say what went wrong without any text of the driver, which may quote what was written."""
    cause = exc.orig if isinstance(exc, DBAPIError) else exc
    sqlstate = str(getattr(cause, "sqlstate", None) or "")
    code = str(getattr(cause, "sqlite_errorname", None) or "")
    lost = isinstance(exc, DBAPIError) and exc.connection_invalidated
    if lost or sqlstate[:3] in ("080", "57P") or sqlstate == "53300":
        return StoreUnreachableError(f"{doing}: the connection to the database was lost")
    known = _OF_SQLSTATE.get(sqlstate) or next((s for c, s in _OF_SQLITE.items() if code.startswith(c)), None)
    return StoreError(f"{doing}: {known or type(cause).__name__}")


def has_table(connection: Connection, table: Table) -> bool:
    """Tell whether a table was made."""
    return inspect(connection).has_table(table.name)


def copy_tables(
    metadata: MetaData, source: Database, target: Database, make: Callable[[Connection, Database], None]
) -> None:
    """Copy tables row by row, all or none, from one moment of the source into an empty target.

    Tables that the target has are left alone if they hold the same rows: a copy that was cut off before its
    caller could go on is no obstacle to the next.

    Args:
        metadata: The tables.
        source: Where they lie; a table that is missing there is empty.
        target: Where they go; opened alone.
        make: Makes the tables there that are not there yet.

    Raises:
        StoreError: The target holds other rows already, or either database fails.
    """
    reading, writing = source.open_for_reading(), target.open_alone()
    try:
        with (
            transaction(reading, f"{source.place} could not be read") as old,
            transaction(writing, f"{target.place} could not be written") as new,
        ):
            make(new, target)
            for table in metadata.sorted_tables:
                if has_table(old, table):
                    _copy(table, old, new, target)
    finally:
        writing.dispose()
        reading.dispose()


def _copy(table: Table, old: Connection, new: Connection, target: Database) -> None:
    query = select(table).order_by(*table.primary_key)
    held = [tuple(row) for row in new.execute(query)]
    if held:
        if held != [tuple(row) for row in old.execute(query)]:
            raise StoreError(f"{target.place}: holds rows already; a coordinator needs a database of its own")
        return
    for rows in old.execute(query).mappings().partitions(_BATCH_ROWS):
        new.execute(insert(table), [dict(row) for row in rows])
