"""The log store: one class of tests that SQLite and PostgreSQL both have to pass, and what only a file has.

PostgreSQL is a real server, started here from the system's package; without it those tests are skipped and
say so. Processes are killed with SIGKILL in the middle of a transaction, not told to fail.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy.exc import IntegrityError

from fedmedlora_coordinator import postgres_database
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import LogStore, copy_log, read_cosignatures, read_entries
from fedmedlora_testkit.places import KINDS, PASSWORD_VARIABLE, Place, make_place, running_places
from fedmedlora_testkit.postgres import PostgresServer

DYING = """
import os, signal, sys
from pathlib import Path
from sqlalchemy import event
from fedmedlora_coordinator.store import LogStore
from fedmedlora_testkit.places import database_at
where, head, moment = sys.argv[1:]
store = LogStore(database_at(where), Path(head))
def die(*_):
    os.kill(os.getpid(), signal.SIGKILL)
def append(at):
    pairs = [(number.to_bytes(32, "big"), b"note %d" % number) for number in (at, at + 1)]
    store.append(at, pairs, head=b"h%d" % (at + 2), size=at + 2)
    print(at + 2, flush=True)
append(0)
append(2)
if moment == "within":
    event.listen(store._engine, "before_cursor_execute", lambda c, k, sql, *_: "INTO heads" in sql and die())
elif moment == "commit":
    event.listen(store._engine, "commit", die)
append(4)
die()
"""


def pair(number: int) -> tuple[bytes, bytes]:
    return number.to_bytes(32, "big"), b"note %d" % number


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from running_places()


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Place:
    # Who waits for a lock here waits for a holder that stays.
    monkeypatch.setitem(postgres_database._SETTINGS, "lock_timeout", "300ms")
    return make_place(request.param, tmp_path, request)


@pytest.fixture
def store(place: Place) -> Iterator[LogStore]:
    opened = place.open()
    yield opened
    opened.close()


class TestEveryStore:
    """What the contract of `database` and `store` promises, on either database."""

    def test_what_was_appended_is_there_after_reopening(self, store: LogStore, place: Place) -> None:
        store.append(0, [pair(0)], head=b"h1", size=1)
        store.append(1, [pair(1), pair(2)], head=b"h3", size=3)
        store.add_cosignature(3, "site-a", b"line")
        store.close()
        again = place.open()
        assert [(e.index, e.leaf, e.note) for e in again.entries()] == [(i, *pair(i)) for i in range(3)]
        assert (again.last_head(), again.size()) == (b"h3", 3)
        assert again.index_of(pair(2)[0]) == 2
        assert again.index_of(bytes(32)) == 0
        assert again.index_of(b"x" * 32) is None
        assert [e.index for e in again.entries(1, 1)] == [1]
        assert again.cosignatures() == [(3, "site-a", b"line")]
        again.close()

    def test_readers_see_the_log_beside_its_writer_and_nothing_where_there_is_none(
        self, place: Place
    ) -> None:
        assert read_entries(place.database) == []
        assert read_cosignatures(place.database) == []
        store = place.open()
        store.append(0, [pair(0)], head=b"h1", size=1)
        assert [entry.leaf for entry in read_entries(place.database)] == [pair(0)[0]]
        store.close()

    def test_a_second_writer_is_refused_until_the_first_lets_go(self, store: LogStore, place: Place) -> None:
        with pytest.raises(StoreError, match="another coordinator holds this log"):
            place.open()
        store.append(0, [pair(0)], head=b"h1", size=1)
        store.close()
        again = place.open()
        assert again.size() == 1
        again.close()

    def test_an_append_that_fails_leaves_nothing(self, store: LogStore) -> None:
        store.append(0, [pair(0)], head=b"h1", size=1)
        with pytest.raises(StoreError, match=r"could not be written: \w+$"):
            store.append(1, [pair(1), pair(0)], head=b"h3", size=3)  # the second leaf is there already
        assert (store.size(), store.last_head()) == (1, b"h1")

    @pytest.mark.parametrize(("start", "size"), [(0, 1), (2, 3), (1, 3)])
    def test_entries_that_do_not_continue_the_log_are_refused(
        self, store: LogStore, start: int, size: int
    ) -> None:
        store.append(0, [pair(0)], head=b"h1", size=1)
        with pytest.raises(StoreError, match="does not continue"):
            store.append(start, [pair(5)], head=b"h", size=size)
        assert store.size() == 1

    def test_the_database_refuses_to_change_or_delete(self, store: LogStore) -> None:
        store.append(0, [pair(0)], head=b"h1", size=1)
        store.add_cosignature(1, "site-a", b"line")
        for table, column in (("entries", "note"), ("heads", "note"), ("cosignatures", "line")):
            for statement in (f"UPDATE {table} SET {column} = {column}", f"DELETE FROM {table}"):  # noqa: S608
                with pytest.raises(IntegrityError, match="append-only"), store._engine.begin() as connection:
                    connection.exec_driver_sql(statement)
        assert store.size() == 1

    def test_notes_can_be_deleted_and_the_refusal_is_back(self, store: LogStore) -> None:
        store.append(0, [pair(0), pair(1)], head=b"h2", size=2)
        assert store.delete_notes(0, 1)
        assert not store.delete_notes(0, 1)
        assert [(e.leaf, e.note) for e in store.entries()] == [(pair(0)[0], b""), pair(1)]
        with pytest.raises(IntegrityError, match="append-only"), store._engine.begin() as connection:
            connection.exec_driver_sql("UPDATE entries SET note = note")

    @pytest.mark.parametrize("moment", ["within", "commit", "acknowledged"])
    def test_a_writer_killed_in_a_transaction_loses_nothing_acknowledged_and_leaves_no_half(
        self, place: Place, moment: str
    ) -> None:
        done = subprocess.run(
            [sys.executable, "-c", DYING, place.where, str(place.head), moment],
            capture_output=True, text=True, check=False,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        assert done.returncode == -signal.SIGKILL, done.stderr
        acknowledged = [int(line) for line in done.stdout.split()]
        assert acknowledged == ([2, 4, 6] if moment == "acknowledged" else [2, 4])
        survivor = place.open()  # nobody has to clean up, and nobody holds it any more
        size = acknowledged[-1]
        assert (survivor.size(), survivor.last_head()) == (size, b"h%d" % size)
        survivor.append(size, [pair(100)], head=b"on", size=size + 1)
        survivor.close()

    def test_a_store_that_turns_read_only_says_so_and_goes_on_afterwards(
        self, store: LogStore, place: Place
    ) -> None:
        store.append(0, [pair(0)], head=b"h1", size=1)
        turn = {
            "sqlite": "PRAGMA query_only = ON",
            "postgres": "SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY",
        }
        with store._engine.begin() as connection:
            connection.exec_driver_sql(turn[place.kind])
        with pytest.raises(StoreError, match="read-only; nothing that was acknowledged is lost"):
            store.append(1, [pair(1)], head=b"h2", size=2)
        store.close()
        again = place.open()
        again.append(1, [pair(1)], head=b"h2", size=2)
        assert again.size() == 2
        again.close()

    def test_a_copy_is_the_same_log_on_either_database_and_never_overwrites_another(
        self, store: LogStore, place: Place, tmp_path: Path
    ) -> None:
        store.append(0, [pair(0), pair(1)], head=b"h2", size=2)
        store.add_cosignature(2, "site-a", b"line")
        (tmp_path / "scratch").mkdir()
        target = SqliteDatabase(tmp_path / "copy.sqlite")
        copy_log(place.database.frozen(tmp_path / "scratch"), target)  # the writer goes on beside it
        copy_log(place.database.frozen(tmp_path / "scratch"), target)  # the same again is no harm
        assert read_entries(target) == read_entries(place.database)
        assert read_cosignatures(target) == [(2, "site-a", b"line")]
        copied = LogStore(target, tmp_path / "head-of-copy")
        with pytest.raises(IntegrityError, match="append-only"), copied._engine.begin() as connection:
            connection.exec_driver_sql("DELETE FROM entries")
        copied.close()
        store.append(2, [pair(2)], head=b"h3", size=3)
        with pytest.raises(StoreError, match="holds rows already"):
            copy_log(place.database, target)
        store.close()
        with pytest.raises(StoreError, match="holds rows already"):
            copy_log(target, place.database)

    def test_the_head_file_is_replaced_only_by_its_writer(self, store: LogStore, place: Place) -> None:
        store.swap_head_file(None, b"one")
        store.swap_head_file(b"one", b"two")
        place.head.write_bytes(b"other")
        with pytest.raises(StoreError, match="second coordinator"):
            store.swap_head_file(b"two", b"three")
        assert store.head_file() == b"other"

    def test_a_head_file_that_cannot_be_written_ends_the_process_with_a_sentence(
        self, store: LogStore, place: Place
    ) -> None:
        place.head.with_name(".head.tmp").mkdir()  # where the new one is to be written first
        with pytest.raises(StoreError, match=r"cannot be written .*nothing that was acknowledged is lost"):
            store.swap_head_file(None, b"one")

    def test_no_error_or_name_tells_a_password(self, place: Place) -> None:
        secret = os.environ.get(PASSWORD_VARIABLE, "no secret")
        database = place.database
        assert secret not in repr(database) + database.place + repr(database.open_for_reading())


class TestSqlite:
    """What only a file can have."""

    def test_the_database_is_on_the_safe_settings(self, tmp_path: Path) -> None:
        store = LogStore(SqliteDatabase(tmp_path / "store.sqlite"), tmp_path / "head")
        with store._engine.begin() as connection:
            assert connection.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
            assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 3  # EXTRA
        store.close()

    def test_a_damaged_database_is_refused_with_one_line(self, tmp_path: Path) -> None:
        (tmp_path / "store.sqlite").write_bytes(b"not a database" * 100)
        with pytest.raises(StoreError, match=r"^[^\n]+the file is not a database$"):
            LogStore(SqliteDatabase(tmp_path / "store.sqlite"), tmp_path / "head")

    def test_a_full_and_a_read_only_disk_lose_nothing_and_the_log_goes_on(self, tmp_path: Path) -> None:
        """A real file system of one megabyte, filled to its end and turned read-only."""
        code = f"""
        mount -t tmpfs -o size=1m none {tmp_path} || exit 77
        exec {sys.executable} -c "$CODE" {tmp_path}
        """
        unshare = shutil.which("unshare")
        if unshare is None:
            pytest.skip("no unshare(1): no file system of its own can be mounted")
        done = subprocess.run(
            [unshare, "--mount", "sh", "-c", code], capture_output=True, text=True, check=False,
            env={**os.environ, "CODE": FILLING, "PYTHONPATH": os.pathsep.join(sys.path)},
        )  # fmt: skip
        if done.returncode in (1, 77) and "ermi" in done.stderr:
            pytest.skip(f"no file system may be mounted here: {done.stderr.strip()[:80]}")
        assert done.returncode == 0, done.stderr
        full, read_only = done.stdout.splitlines()
        assert full == "the log could not be written: the disk is full; " + NOTHING
        assert (
            read_only == f"{tmp_path}/store.sqlite.lock: cannot be opened (Read-only file system); {NOTHING}"
        )


NOTHING = "nothing that was acknowledged is lost: start the coordinator again once that is mended"
FILLING = """
import subprocess, sys
from pathlib import Path
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import LogStore
root = Path(sys.argv[1])
(root / "ballast").write_bytes(bytes(400_000))
def opened():
    return LogStore(SqliteDatabase(root / "store.sqlite"), root / "head")
def append(store, number):
    pairs = [(number.to_bytes(32, "big"), bytes(20_000))]
    store.append(number, pairs, head=b"h%d" % (number + 1), size=number + 1)
def refused(store, number):
    try:
        for at in range(number, number + 100):
            append(store, at)
    except StoreError as error:
        print(error)
        store.close()
        return at
    raise SystemExit("nothing refused")
def gone_on(number):
    store = opened()
    assert (store.size(), store.last_head()) == (number, b"h%d" % number), (store.size(), number)
    append(store, number)
    return store
acknowledged = refused(opened(), 0)
assert acknowledged > 2
(root / "ballast").unlink()
gone_on(acknowledged).close()
subprocess.run(["mount", "-o", "remount,ro", str(root)], check=True)
try:
    opened()
except StoreError as error:
    print(error)
subprocess.run(["mount", "-o", "remount,rw", str(root)], check=True)
gone_on(acknowledged + 1).close()
"""
