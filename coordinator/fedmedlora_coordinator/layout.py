"""Which layout a store's tables have, so that a newer release's store is refused instead of misread.

A row per store (`log`, `enrolment`) in one small table. A store of an older layout, or of before this table,
is brought up to date when it is opened for writing, in the transaction that opens it, and is read as it is.
The way back from an upgrade is the backup that was made before it (docs/OPERATIONS.md).

Layouts of the log: 1 had no cosignatures (until November 2026); 2 has them.
Layouts of the register: 1 had no certificates (until November 2026); 2 has them.
"""

from dataclasses import dataclass
from typing import Final

from sqlalchemy import Column, Connection, Integer, MetaData, Table, Text, insert, select, update

from fedmedlora_coordinator.database import Database, has_table
from fedmedlora_coordinator.errors import UnservableStoreError

_TABLE: Final = Table(
    "layouts",
    MetaData(),
    Column("store", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    sqlite_strict=True,
)


@dataclass(frozen=True)
class Layout:
    """The layout that this release gives one store.

    Args:
        store: Name of the store.
        version: Its layout; one more whenever an older release would misread or spoil the tables.
    """

    store: str
    version: int

    def require_known(self, connection: Connection, database: Database) -> None:
        """Refuse tables that a newer release has made or brought up to date; changes nothing.

        Raises:
            UnservableStoreError: They are newer than this release knows.
        """
        found = self._found(connection)
        if found is not None and found > self.version:
            raise UnservableStoreError(
                f"{database.place}: a newer release of fedmedlora has written this store (layout {found} of "
                f"'{self.store}'; this release knows {self.version}): run that release, or restore a backup "
                "of before the upgrade"
            )

    def record(self, connection: Connection) -> None:
        """Write down that the tables have this layout now; in the transaction that has made them so."""
        if not has_table(connection, _TABLE):
            _TABLE.create(connection)
        found = self._found(connection)
        if found is None:
            connection.execute(insert(_TABLE).values(store=self.store, version=self.version))
        elif found < self.version:
            mine = update(_TABLE).where(_TABLE.c.store == self.store)
            connection.execute(mine.values(version=self.version))

    def _found(self, connection: Connection) -> int | None:
        if not has_table(connection, _TABLE):
            return None
        version = connection.execute(select(_TABLE.c.version).where(_TABLE.c.store == self.store)).scalar()
        return None if version is None else int(version)


LOG: Final = Layout("log", 2)
ENROLMENT: Final = Layout("enrolment", 2)
