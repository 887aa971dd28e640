"""PostgreSQL as the coordinator's database: one of its own on a server (psycopg 3, extra `postgres`).

The writer of the log holds an advisory lock in its session and uses one connection, once: a connection that
is lost is never replaced under the writer's feet, since another coordinator may have written meanwhile. Every
writing transaction asks the server whether this session holds the lock, so a pooler that hands transactions
to other sessions is noticed, too.
"""

import os
import stat
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, create_engine, event
from sqlalchemy.pool import NullPool, Pool, StaticPool

from fedmedlora_coordinator.database import BUSY_SECONDS, failure, transaction
from fedmedlora_coordinator.errors import StoreError, StoreHeldError, StoreUnreachableError
from fedmedlora_coordinator.settings import PostgresAddress
from fedmedlora_core.errors import ConfigError

CONNECT_SECONDS: Final = 10
GONE_SECONDS: Final = 45
"""After how long a peer that answers nothing any more counts as gone, at either end."""
_LOCK_CLASS: Final = 0x666D6C  # "fml": advisory locks of this program
_LOG_LOCK: Final = 1
_TURN_LOCK: Final = 2
_HOLDS: Final = (  # our own numbers
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted AND pid = pg_backend_pid() "  # noqa: S608 # our numbers # nosec B608
    f"AND classid = {_LOCK_CLASS} AND objid = {_LOG_LOCK} AND objsubid = 2 "
    "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
)
_FUNCTION: Final = "fedmedlora_append_only"
_SETTINGS: Final = {
    "synchronous_commit": "on",
    "lock_timeout": f"{BUSY_SECONDS:.0f}s",
    "idle_in_transaction_session_timeout": f"{2 * GONE_SECONDS}s",
    # A coordinator whose machine is gone lets go of the lock when the server notices it.
    "tcp_keepalives_idle": "15",
    "tcp_keepalives_interval": "10",
    "tcp_keepalives_count": "3",
}
_ALIVE: Final = {
    "keepalives_idle": 15,
    "keepalives_interval": 10,
    "keepalives_count": 3,
    "tcp_user_timeout": GONE_SECONDS * 1000,
    "connect_timeout": CONNECT_SECONDS,
    "application_name": "fedmedlora-coordinator",
}


@dataclass(frozen=True)
class PostgresDatabase:
    """A database on a server; see `database.Database` for what it promises.

    Attributes:
        address: Where it is, and as whom to log in.
        password: The role's password; None leaves that to libpq (`~/.pgpass`, a client certificate, peer).
    """

    address: PostgresAddress
    password: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        """Server and database."""
        return f"PostgreSQL database '{self.address.database}' at {self.address.host or 'the local socket'}"

    def exists(self) -> bool:
        """Tell that there can be tables, if the server answers."""
        self._connect("read-write").close()  # a standby is no answer: nothing could go on from it
        return True

    def open_alone(self) -> Engine:
        """Open as the only writer: one connection that holds the log's lock, and no second one after it."""
        engine = self._engine(
            StaticPool, _once(self._connect_alone, self.place), isolation_level="SERIALIZABLE"
        )
        event.listen(engine, "begin", _need_hold)
        return engine

    def open_shared(self) -> Engine:
        """Open for writers that take turns; a new connection for each transaction."""
        engine = self._engine(NullPool, lambda: self._connect("read-write"), isolation_level="READ COMMITTED")
        event.listen(engine, "begin", _take_turn)
        return engine

    def open_for_reading(self) -> Engine:
        """Open for reading; each transaction sees one moment."""
        return self._engine(NullPool, lambda: self._connect("any"), isolation_level="REPEATABLE READ")

    def frozen(self, scratch: Path) -> "PostgresDatabase":
        """Return this database: a reading transaction sees one moment and holds up nobody."""
        return self

    def check(self, engine: Engine) -> None:
        """Check that the server waits for its disk; what is damaged shows when the log is replayed.

        Raises:
            StoreError: It does not: a power cut could undo what was acknowledged.
        """
        with transaction(engine, f"{self.place}: cannot be read") as connection:
            for setting in ("fsync", "full_page_writes", "synchronous_commit"):
                if connection.exec_driver_sql(f"SHOW {setting}").scalar() == "off":
                    raise StoreError(f"{self.place}: the server runs with {setting} = off; set it to on")

    def refusal(self, table: str, act: str) -> str:
        """Return a trigger that raises; deleting includes TRUNCATE."""
        acts = "DELETE OR TRUNCATE" if act == "DELETE" else act
        return (
            f"CREATE OR REPLACE FUNCTION {_FUNCTION}() RETURNS trigger LANGUAGE plpgsql AS "
            "$$ BEGIN RAISE EXCEPTION 'the log is append-only' "
            "USING ERRCODE = 'integrity_constraint_violation'; END $$; "
            f"CREATE TRIGGER {table}_no_{act.lower()} BEFORE {acts} ON {table} "
            f"FOR EACH STATEMENT EXECUTE FUNCTION {_FUNCTION}()"
        )

    def allowance(self, table: str, act: str) -> str:
        """Return what drops that trigger."""
        return f"DROP TRIGGER {table}_no_{act.lower()} ON {table}"

    def overwrite_deleted(self, connection: Connection) -> None:
        """Do nothing: PostgreSQL has no such thing; `shrink` leaves the old file to the server's disk."""

    def shrink(self, engine: Engine, table: str) -> None:
        """Write the table to a new file and remove the old one."""
        driver: Any = engine.raw_connection().driver_connection
        try:
            driver.rollback()
            driver.autocommit = True
            driver.execute(f"VACUUM FULL {table}")
            driver.autocommit = False
        except _psycopg().Error as exc:
            raise failure(f"{self.place}: could not be shortened", exc) from None

    def _engine(self, pool: type[Pool], connect: Callable[[], Any], *, isolation_level: Any) -> Engine:
        _psycopg()
        return create_engine(
            "postgresql+psycopg://",
            creator=connect,
            poolclass=pool,
            isolation_level=isolation_level,
            hide_parameters=True,
        )

    def _connect(self, session: str) -> Any:
        driver = _psycopg()
        known = {
            "host": self.address.host,
            "port": self.address.port,
            "user": self.address.role,
            "dbname": self.address.database,
            "password": self.password,
            "target_session_attrs": session,
            "options": " ".join(f"-c {name}={value}" for name, value in _SETTINGS.items()),
            **_ALIVE,
            **self.address.tls,
        }
        try:
            return driver.connect(**{name: value for name, value in known.items() if value is not None})
        except driver.Error as exc:
            raise self._refused(exc) from None

    def _refused(self, exc: Exception) -> StoreError:
        """Tell a refusal that an operator has to mend from a server that is away."""
        found = failure(f"{self.place}: no connection", exc)
        if getattr(exc, "sqlstate", None) is None:
            # libpq's own errors carry no code; a refused password among them is told by the server's words.
            text = str(exc)
            if "password" in text or "authentication" in text or "no pg_hba.conf entry" in text:
                return StoreError(f"{self.place}: the server does not let this role in; see store.* settings")
            untrusted = "SSL error" in text and "eof" not in text  # a server that ends cuts the handshake off
            if untrusted or "certificate" in text or "does not support SSL" in text:
                return StoreError(f"{self.place}: no protected connection; see sslrootcert and sslmode")
            if "does not exist" in text:
                return StoreError(f"{self.place}: there is no such database or role")
            if "read-only" in text:
                return StoreUnreachableError(f"{self.place}: only a standby answers, which takes no writes")
            return StoreUnreachableError(f"{self.place}: nobody answers")
        return found

    def _connect_alone(self) -> Any:
        connection = self._connect("read-write")
        try:
            connection.autocommit = True
            connection.execute(f"SELECT pg_advisory_lock({_LOCK_CLASS}, {_LOG_LOCK})")
            connection.autocommit = False
        except _psycopg().Error as exc:
            connection.close()
            if exc.sqlstate == "55P03":
                raise StoreHeldError(f"{self.place}: another coordinator holds this log") from None
            raise failure(f"{self.place}: the lock was not got", exc) from None
        return connection


def read_password(path: Path) -> str:
    """Read a password from the first line of a file that nobody else can read.

    Raises:
        ConfigError: There is none, or others can read it (the operator's).
    """
    try:
        # What a service manager hands over has an access list; its folder is the service's alone.
        handed_over = os.environ.get("CREDENTIALS_DIRECTORY") == str(path.parent)
        if stat.S_IMODE(path.stat().st_mode) & 0o077 and not handed_over:
            raise ConfigError(f"{path}: others can read it; set its mode to 0600")
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        raise ConfigError(f"{path}: the password cannot be read") from None
    if not lines or not lines[0]:
        raise ConfigError(f"{path}: its first line is to be the password")
    return lines[0]


def _once(connect: Callable[[], Any], place: str) -> Callable[[], Any]:
    """Let a connection be made once; when it is lost, its owner has to begin anew."""
    used = threading.Event()

    def guarded() -> Any:
        if used.is_set():
            raise StoreUnreachableError(f"{place}: the connection to the database was lost")
        connection = connect()
        used.set()
        return connection

    return guarded


def _need_hold(connection: Any) -> None:
    if connection.exec_driver_sql(_HOLDS).scalar() != 1:
        raise StoreError(
            "this session does not hold the log's lock any more: connect to the server itself, not to a "
            "pooler of transactions"
        )


def _take_turn(connection: Any) -> None:
    connection.exec_driver_sql(f"SELECT pg_advisory_xact_lock({_LOCK_CLASS}, {_TURN_LOCK})")


def _psycopg() -> Any:
    try:
        import psycopg
    except ModuleNotFoundError:
        raise ConfigError(
            "store.url names PostgreSQL, which needs the 'postgres' extra: pip install 'fedmedlora[postgres]'"
        ) from None
    return psycopg
