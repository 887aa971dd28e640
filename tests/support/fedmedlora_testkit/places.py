"""Places for a coordinator's store, one of each kind, that a test can open again and again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fedmedlora_coordinator.database import Database
from fedmedlora_coordinator.postgres_database import PostgresDatabase
from fedmedlora_coordinator.settings import PostgresAddress, Store
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import LogStore
from fedmedlora_testkit.postgres import PostgresServer, needs_postgres, running_postgres

PASSWORD_VARIABLE = Store().password_variable
KINDS = ("sqlite", pytest.param("postgres", marks=needs_postgres))


def database_at(where: str) -> Database:
    """The database that a path or a URL names; the password comes from the environment."""
    if where.startswith("postgresql:"):
        return PostgresDatabase(PostgresAddress.parse(where), os.environ[PASSWORD_VARIABLE])
    return SqliteDatabase(Path(where))


@dataclass
class Place:
    """One empty place for a store.

    Attributes:
        kind: sqlite or postgres.
        where: Its path or URL.
        head: Path of the head file that goes with it.
    """

    kind: str
    where: str
    head: Path

    @property
    def database(self) -> Database:
        """The database."""
        return database_at(self.where)

    @property
    def url(self) -> str:
        """What `store.url` says for it."""
        return self.where if self.kind == "postgres" else ""

    def open(self) -> LogStore:
        """Open the log as its one writer."""
        return LogStore(self.database, self.head)


def make_place(kind: str, folder: Path, request: pytest.FixtureRequest) -> Place:
    """Make an empty place; the fixture `server` is asked for only where it is needed."""
    if kind == "sqlite":
        return Place(kind, str(folder / "store.sqlite"), folder / "head")
    server: PostgresServer = request.getfixturevalue("server")
    return Place(kind, server.database(), folder / "head")


def running_places() -> Iterator[PostgresServer]:
    """A server whose password is in the environment, as `store.password_variable` says."""
    with running_postgres() as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv(PASSWORD_VARIABLE, server.password)
        yield server
