"""The log store: one transaction an append, append-only in the database itself, one writer's head."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.store import LogStore


def pair(number: int) -> tuple[bytes, bytes]:
    return number.to_bytes(32, "big"), b"note %d" % number


@pytest.fixture
def store(tmp_path: Path) -> LogStore:
    return LogStore(tmp_path / "store.sqlite", tmp_path / "head")


def test_what_was_appended_is_there_after_reopening(store: LogStore, tmp_path: Path) -> None:
    store.append(0, [pair(0)], head=b"h1", size=1)
    store.append(1, [pair(1), pair(2)], head=b"h3", size=3)
    store.close()
    again = LogStore(tmp_path / "store.sqlite", tmp_path / "head")
    assert [(e.index, e.leaf, e.note) for e in again.entries()] == [(i, *pair(i)) for i in range(3)]
    assert again.last_head() == b"h3"
    assert again.index_of(pair(2)[0]) == 2
    assert again.index_of(bytes(32)) == 0
    assert again.index_of(b"x" * 32) is None
    assert [e.index for e in again.entries(1, 1)] == [1]


def test_the_database_is_on_the_safe_settings(store: LogStore) -> None:
    with store._engine.begin() as connection:
        assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 3  # EXTRA


def test_an_append_that_fails_leaves_nothing(store: LogStore) -> None:
    store.append(0, [pair(0)], head=b"h1", size=1)
    with pytest.raises(StoreError):
        store.append(1, [pair(1), pair(0)], head=b"h3", size=3)  # the second leaf is there already
    assert store.size() == 1
    assert store.last_head() == b"h1"


@pytest.mark.parametrize(("start", "size"), [(0, 1), (2, 3), (1, 3)])
def test_entries_that_do_not_continue_the_log_are_refused(store: LogStore, start: int, size: int) -> None:
    store.append(0, [pair(0)], head=b"h1", size=1)
    with pytest.raises(StoreError, match="does not continue"):
        store.append(start, [pair(5)], head=b"h", size=size)
    assert store.size() == 1


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE entries SET note = x'00'",
        "DELETE FROM entries",
        "UPDATE heads SET note = x'00'",
        "DELETE FROM heads",
    ],
)
def test_the_database_refuses_to_change_or_delete(store: LogStore, statement: str) -> None:
    store.append(0, [pair(0)], head=b"h1", size=1)
    with pytest.raises(IntegrityError, match="append-only"), store._engine.begin() as connection:
        connection.exec_driver_sql(statement)
    assert store.size() == 1


def test_the_head_file_is_replaced_only_by_its_writer(store: LogStore, tmp_path: Path) -> None:
    store.swap_head_file(None, b"one")
    store.swap_head_file(b"one", b"two")
    (tmp_path / "head").write_bytes(b"other")
    with pytest.raises(StoreError, match="second coordinator"):
        store.swap_head_file(b"two", b"three")
    assert store.head_file() == b"other"


def test_a_damaged_database_is_refused_with_one_line(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(StoreError, match=r"^[^\n]+$"):
        LogStore(tmp_path / "store.sqlite", tmp_path / "head")
