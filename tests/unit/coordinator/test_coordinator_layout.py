"""Stores of earlier releases open and go on; one of a later release is refused, untouched.

The folders in `tests/vectors/store` were written by the code of then (`tests/vectors/record_store.py`).
"""

from __future__ import annotations

import hashlib
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from fedmedlora_coordinator import backup, keeping, reports
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.layout import ENROLMENT, LOG
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import LogStore, read_cosignatures, read_entries
from fedmedlora_testkit.repository import ROOT

RECORDED = ROOT / "tests/vectors/store"
EARLIER = ("layout-1", "layout-2")


def recorded(name: str, tmp_path: Path) -> Folder:
    """A copy of an earlier release's folder, its keys of their owner only, as they were."""
    root = tmp_path / name
    shutil.copytree(RECORDED / name, root)
    for key in (root / "keys").iterdir():
        key.chmod(0o600)
    return Folder(root)


def rows(path: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(path)) as connection:
        return connection.execute(query).fetchall()


def change(path: Path, statement: str) -> None:
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute(statement)


@pytest.mark.parametrize("name", EARLIER)
def test_an_earlier_releases_folder_is_read_and_goes_on(name: str, tmp_path: Path) -> None:
    folder = recorded(name, tmp_path)
    before = read_entries(SqliteDatabase(folder.store))
    assert len(before) > 40
    status = reports.status(folder.root)
    assert status["entries"] == len(before)
    keeping.hold(folder.root, "litigation")  # folds the whole log, appends an event and a head
    after = read_entries(SqliteDatabase(folder.store))
    assert after[: len(before)] == before
    assert len(after) == len(before) + 1
    assert rows(folder.store, "SELECT store, version FROM layouts") == [("log", LOG.version)]


def test_what_layout_1_lacks_is_made_when_it_is_opened(tmp_path: Path) -> None:
    folder = recorded("layout-1", tmp_path)
    tables = {name for (name,) in rows(folder.store, "SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables == {"entries", "heads"}  # or the recording shows nothing
    assert read_cosignatures(SqliteDatabase(folder.store)) == []
    store = LogStore(SqliteDatabase(folder.store), folder.head)
    store.add_cosignature(1, "site-a", b"line\n")
    store.close()
    assert read_cosignatures(SqliteDatabase(folder.store)) == [(1, "site-a", b"line\n")]
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        change(folder.store, "DELETE FROM cosignatures")


def test_reading_an_earlier_store_leaves_it_as_it_is(tmp_path: Path) -> None:
    folder = recorded("layout-1", tmp_path)
    before = hashlib.sha256(folder.store.read_bytes()).digest()
    read_entries(SqliteDatabase(folder.store))
    reports.status(folder.root)
    assert hashlib.sha256(folder.store.read_bytes()).digest() == before


def test_an_earlier_store_can_be_backed_up_before_the_upgrade_touches_it(tmp_path: Path) -> None:
    folder = recorded("layout-2", tmp_path)
    assert backup.backup(folder.root, tmp_path / "safe.backup").entries == len(
        read_entries(SqliteDatabase(folder.store))
    )


def newer(folder: Folder) -> None:
    """Let a release of later have written the store."""
    store = LogStore(SqliteDatabase(folder.store), folder.head)
    store.close()
    change(folder.store, "UPDATE layouts SET version = 9")


def test_a_newer_releases_store_is_refused_in_one_line_and_untouched(tmp_path: Path) -> None:
    folder = recorded("layout-2", tmp_path)
    newer(folder)
    before = hashlib.sha256(folder.store.read_bytes()).digest()
    sentence = (
        r"a newer release of fedmedlora has written this store \(layout 9 of 'log'; this release knows 2\)"
    )
    with pytest.raises(StoreError, match=sentence):
        LogStore(SqliteDatabase(folder.store), folder.head)
    with pytest.raises(StoreError, match=sentence):
        read_entries(SqliteDatabase(folder.store))
    with pytest.raises(StoreError, match=sentence):
        reports.status(folder.root)
    assert hashlib.sha256(folder.store.read_bytes()).digest() == before


def test_without_its_layout_a_newer_store_would_be_written_to(tmp_path: Path) -> None:
    folder = recorded("layout-2", tmp_path)
    newer(folder)
    change(folder.store, "DROP TABLE layouts")
    store = LogStore(SqliteDatabase(folder.store), folder.head)
    store.add_cosignature(10**6, "site-a", b"line\n")
    store.close()


def test_the_register_has_a_layout_of_its_own(tmp_path: Path) -> None:
    place = SqliteDatabase(tmp_path / "enrolment.sqlite")
    Register(place).close()
    assert rows(place.path, "SELECT store, version FROM layouts") == [("enrolment", ENROLMENT.version)]
    change(place.path, "UPDATE layouts SET version = 9")
    with pytest.raises(StoreError, match="layout 9 of 'enrolment'"):
        Register(place)
