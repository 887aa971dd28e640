"""PostgreSQL under the log store: a server that goes away, or is set up or named badly."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import event
from sqlalchemy.exc import IntegrityError

from fedmedlora_coordinator import postgres_database, runtime
from fedmedlora_coordinator.errors import StoreError, StoreHeldError, StoreUnreachableError
from fedmedlora_coordinator.postgres_database import PostgresDatabase, read_password
from fedmedlora_coordinator.settings import PostgresAddress
from fedmedlora_coordinator.setup import init
from fedmedlora_coordinator.store import LogStore, read_entries
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.places import PASSWORD_VARIABLE, Place, make_place, running_places
from fedmedlora_testkit.postgres import PostgresServer, needs_postgres


def pair(number: int) -> tuple[bytes, bytes]:
    return number.to_bytes(32, "big"), b"note %d" % number


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from running_places()


@needs_postgres
class TestPostgres:
    """What only a server can do: go away, come back, and be set up badly."""

    @pytest.fixture
    def away(self, server: PostgresServer, tmp_path: Path, request: pytest.FixtureRequest) -> Place:
        return make_place("postgres", tmp_path, request)

    def test_a_server_that_restarts_loses_nothing_and_its_writer_never_writes_again(
        self, away: Place, server: PostgresServer
    ) -> None:
        store = away.open()
        store.append(0, [pair(0)], head=b"h1", size=1)
        server.stop("immediate")  # as a power cut
        with pytest.raises(StoreUnreachableError, match="connection to the database was lost"):
            store.append(1, [pair(1)], head=b"h2", size=2)
        with pytest.raises(StoreUnreachableError, match="nobody answers"):
            away.open()
        server.start()
        with pytest.raises(StoreUnreachableError, match="connection to the database was lost"):
            store.append(1, [pair(1)], head=b"h2", size=2)
        store.close()
        again = away.open()
        assert (again.size(), again.last_head()) == (1, b"h1")
        again.append(1, [pair(1)], head=b"h2", size=2)
        again.close()

    def test_a_connection_cut_in_the_commit_is_told_apart_from_a_refusal(
        self, away: Place, server: PostgresServer
    ) -> None:
        store = away.open()
        store.append(0, [pair(0)], head=b"h1", size=1)

        def cut(_: object) -> None:
            with server.admin() as admin:
                admin.execute(
                    "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                    "WHERE application_name LIKE 'fedmedlora%'"
                )

        event.listen(store._engine, "commit", cut)
        with pytest.raises(StoreUnreachableError):
            store.append(1, [pair(1)], head=b"h2", size=2)
        store.close()
        again = away.open()
        assert (again.size(), again.last_head()) == (1, b"h1")
        again.close()

    def test_a_session_without_the_lock_does_not_write(self, away: Place) -> None:
        """As behind a pooler that hands each transaction to another session."""
        store = away.open()
        with store._engine.begin() as connection:
            connection.exec_driver_sql("SELECT pg_advisory_unlock_all()")
        with pytest.raises(StoreError, match="does not hold the log's lock any more"):
            store.append(0, [pair(0)], head=b"h1", size=1)
        store.close()
        assert read_entries(away.database) == []

    def test_what_was_acknowledged_is_on_the_disk_whatever_the_server_is_set_to(
        self, away: Place, server: PostgresServer
    ) -> None:
        name = away.where.rpartition("/")[2]
        with server.admin() as admin:
            admin.execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
            store = away.open()
            with store._engine.begin() as connection:
                assert connection.exec_driver_sql("SHOW synchronous_commit").scalar() == "on"
                assert connection.exec_driver_sql("SHOW transaction_isolation").scalar() == "serializable"
            store.close()
            admin.execute("ALTER SYSTEM SET fsync = off")
        server.restart("fast")
        try:
            with pytest.raises(StoreError, match="the server runs with fsync = off"):
                away.open()
        finally:
            with server.admin() as admin:
                admin.execute("ALTER SYSTEM RESET fsync")
            server.restart("fast")
        away.open().close()

    def test_a_cut_is_waited_for_and_so_is_the_servers_memory_of_the_last_session(
        self, away: Place, server: PostgresServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The server believes a session alive that this process has lost; that is no second coordinator."""
        monkeypatch.setitem(postgres_database._SETTINGS, "lock_timeout", "100ms")
        root = tmp_path / "centre"
        init(root, name="n", address="h:1", enrolment_address="h:2", store_url=away.where)
        tries: list[str] = []
        ghost: list[LogStore] = []

        async def opening(*_: object) -> None:
            tries.append("try")
            if len(tries) == 1:
                ghost.append(away.open())  # the session that stays behind at the server
                raise StoreUnreachableError("the connection to the database was lost")
            if len(tries) == 4:
                ghost[0].close()  # the server has noticed
            away.open().close()

        monkeypatch.setattr(runtime, "_serve", opening)
        runtime.serve(root)
        assert len(tries) == 4
        tries[:] = ["not the first"]
        other = away.open()
        with pytest.raises(StoreHeldError, match="another coordinator holds this log"):
            runtime.serve(root)  # nothing was lost before: it is another one
        assert len(tries) == 2
        other.close()

    def test_a_standby_is_no_answer(self, away: Place, server: PostgresServer) -> None:
        name = away.where.rpartition("/")[2]
        with server.admin() as admin:
            admin.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
        with pytest.raises(StoreUnreachableError, match="only a standby answers"):
            away.open()
        with pytest.raises(StoreUnreachableError, match="only a standby answers"):
            away.database.exists()

    def test_truncating_is_deleting(self, away: Place) -> None:
        store = away.open()
        with pytest.raises(IntegrityError, match="append-only"), store._engine.begin() as connection:
            connection.exec_driver_sql("TRUNCATE entries, heads, cosignatures")
        store.close()

    def test_a_wrong_password_role_or_database_is_told_in_one_line_without_it(self, away: Place) -> None:
        address = PostgresAddress.parse(away.where)
        wrong = PostgresDatabase(address, "wr0ng-pass")
        with pytest.raises(StoreError, match="does not let this role in") as refused:
            wrong.open_alone().connect()
        assert "wr0ng-pass" not in str(refused.value) + repr(wrong)
        missing = PostgresAddress.parse(away.where + "x")
        with pytest.raises(StoreError, match="no such database or role") as refused:
            PostgresDatabase(missing, os.environ[PASSWORD_VARIABLE]).open_alone().connect()
        assert "\n" not in str(refused.value)

    def test_writers_that_share_take_turns(self, away: Place) -> None:
        engine = away.database.open_shared()
        with engine.begin() as connection:
            connection.exec_driver_sql("CREATE TABLE counted (number integer)")
            connection.exec_driver_sql("INSERT INTO counted VALUES (0)")
        together = threading.Barrier(4)

        def count() -> None:
            together.wait()
            with engine.begin() as connection:
                number = connection.exec_driver_sql("SELECT number FROM counted").scalar_one()
                connection.exec_driver_sql(f"UPDATE counted SET number = {number + 1}")  # noqa: S608

        threads = [threading.Thread(target=count) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        with engine.begin() as connection:
            assert connection.exec_driver_sql("SELECT number FROM counted").scalar_one() == 4
        engine.dispose()


@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("postgresql://centre:secret@db/log", "must not have the password"),
        ("mysql://centre@db/log", "must be postgresql://"),
        ("postgresql://centre@db", "must be postgresql://"),
        ("postgresql://centre@db:x/log", "must be postgresql://"),
        ("postgresql://centre@db/log?sslmode=require", "verify-full"),
        ("postgresql://centre@db/log?options=-cfsync", "'options' is not one of"),
    ],
)
def test_a_store_url_that_is_unsafe_or_wrong_is_refused(url: str, sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence) as refused:
        PostgresAddress.parse(url)
    assert "secret" not in str(refused.value)


def test_the_server_on_another_machine_is_always_checked() -> None:
    assert PostgresAddress.parse("postgresql://centre@db.example/log").tls == {"sslmode": "verify-full"}
    assert PostgresAddress.parse("postgresql://centre@127.0.0.1:5433/log").tls == {}
    local = PostgresAddress.parse("postgresql:///log?host=/run/postgresql")
    assert (local.host, local.role, local.tls) == ("/run/postgresql", None, {})


def test_a_password_file_is_read_only_while_nobody_else_can(tmp_path: Path) -> None:
    path = tmp_path / "password"
    path.write_text("s3cret\n")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="0600") as refused:
        read_password(path)
    assert "s3cret" not in str(refused.value)
    path.chmod(stat.S_IRUSR | stat.S_IWUSR)
    assert read_password(path) == "s3cret"
    path.write_text("\n")
    with pytest.raises(ConfigError, match="first line"):
        read_password(path)
