"""Where a folder's tables lie, as its settings say: in the folder itself, or on a PostgreSQL server."""

import os
import time
from typing import Final

from fedmedlora_coordinator.database import Database
from fedmedlora_coordinator.errors import StoreUnreachableError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.postgres_database import PostgresDatabase, read_password
from fedmedlora_coordinator.settings import CoordinatorSettings, PostgresAddress, Store
from fedmedlora_coordinator.sqlite_database import SqliteDatabase

PROBE_SECONDS: Final = 0.5


def log_database(folder: Folder, settings: CoordinatorSettings | None = None) -> Database:
    """Return the database of the log.

    Args:
        folder: The coordinator's folder.
        settings: Its settings; read from the folder when None.

    Raises:
        ConfigError: The settings are not usable (the operator's).
    """
    store = (settings or CoordinatorSettings.load(folder.config)).store
    return _server(folder, store) if store.url else SqliteDatabase(folder.store)


def enrolment_database(folder: Folder, settings: CoordinatorSettings | None = None) -> Database:
    """Return the database of invitations and certificates; see `log_database`."""
    store = (settings or CoordinatorSettings.load(folder.config)).store
    return _server(folder, store) if store.url else SqliteDatabase(folder.enrolment_store)


def await_database(folder: Folder, seconds: float) -> None:
    """Return once the log's database answers.

    Args:
        folder: The coordinator's folder.
        seconds: How long to wait.

    Raises:
        StoreUnreachableError: Nobody answered in time.
    """
    deadline = time.monotonic() + seconds
    database = log_database(folder)
    while True:
        time.sleep(PROBE_SECONDS)
        try:
            database.exists()
        except StoreUnreachableError:
            if time.monotonic() >= deadline:
                raise
        else:
            return


def _server(folder: Folder, store: Store) -> PostgresDatabase:
    password = os.environ.get(store.password_variable) or None
    if password is None and store.password_file:
        password = read_password(folder.root / store.password_file)
    return PostgresDatabase(PostgresAddress.parse(store.url), password)
