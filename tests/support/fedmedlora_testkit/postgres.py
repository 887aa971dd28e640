"""A real PostgreSQL server for the tests: from the system's package, on loopback, gone when they are.

PostgreSQL refuses to run as root; there it runs as the user that its package made, or as nobody.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import psycopg
import pytest

from fedmedlora_testkit.rehearsal import free_port

ROLE: Final = "centre"
_PACKAGED: Final = "/usr/lib/postgresql"
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder with a random name is made in it


def program(name: str) -> str | None:
    """A program of the server, from the path or from where Debian's package puts it."""
    found = sorted(Path(_PACKAGED).glob(f"*/bin/{name}"))
    return shutil.which(name) or (str(found[-1]) if found else None)


MISSING: Final = next((name for name in ("initdb", "pg_ctl") if program(name) is None), None)
needs_postgres = pytest.mark.skipif(
    MISSING is not None,
    reason=f"PostgreSQL's server is not installed here (no {MISSING}): package postgresql",
)


class PostgresServer:
    """One server with a password on its only role that tests use.

    Args:
        folder: Where its data go; made, owned by the server's user.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port = free_port()
        self.password = secrets.token_urlsafe(12)
        self._count = 0
        self._user: dict[str, Any] = {}
        if os.getuid() == 0:
            names = {entry.pw_name for entry in pwd.getpwall()}
            owner = pwd.getpwnam("postgres" if "postgres" in names else "nobody")
            os.chown(folder, owner.pw_uid, owner.pw_gid)
            self._user = {"user": owner.pw_uid, "group": owner.pw_gid, "extra_groups": []}
        password_file = folder / "password"
        password_file.write_text(self.password)
        password_file.chmod(0o644)
        self._run(
            "initdb", "--pgdata", "data", "--username", "root_of_tests", "--auth", "scram-sha-256",
            "--pwfile", "password", "--no-sync", "--encoding", "UTF8", "--no-locale",
        )  # fmt: skip
        with (folder / "data" / "postgresql.auto.conf").open("a") as conf:
            conf.write(f"listen_addresses = '127.0.0.1'\nport = {self.port}\n")
            conf.write(f"unix_socket_directories = '{folder}'\nshared_buffers = 16MB\nmax_wal_size = 64MB\n")
        self.start()
        with self.admin() as connection:
            connection.execute(f"CREATE ROLE {ROLE} LOGIN PASSWORD '{self.password}'")

    def start(self) -> None:
        """Start and wait until it answers."""
        self._run("pg_ctl", "start", "--wait", "--silent", "--pgdata", "data", "--log", "server.log")

    def stop(self, mode: str = "immediate") -> None:
        """Stop; `immediate` is what a kill or a power cut is to it."""
        self._run("pg_ctl", "stop", "--wait", "--silent", "--pgdata", "data", "--mode", mode)

    def restart(self, mode: str = "immediate") -> None:
        """Stop and start; every connection is lost."""
        self.stop(mode)
        self.start()

    def database(self) -> str:
        """Make a fresh database and return the URL that `store.url` takes."""
        self._count += 1
        name = f"log_{self._count}"
        with self.admin() as connection:
            connection.execute(f"CREATE DATABASE {name} OWNER {ROLE}")
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{name}"

    @contextlib.contextmanager
    def admin(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """A connection of the server's owner, each statement a transaction of its own."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="root_of_tests", password=self.password,
            dbname=database, autocommit=True,
        ) as connection:  # fmt: skip
            yield connection

    def _run(self, name: str, *arguments: str) -> None:
        found = program(name)
        assert found is not None
        # The server outlives pg_ctl and must not hold a pipe of ours.
        with (self.folder.parent / f"{self.folder.name}.{name}.txt").open("ab") as out:
            done = subprocess.run(
                [found, *arguments], cwd=self.folder, stdout=out, stderr=out, check=False, **self._user
            )
        assert done.returncode == 0, Path(out.name).read_text()


@contextlib.contextmanager
def running_postgres() -> Iterator[PostgresServer]:
    """A server for the length of a block, in memory where the system has such a folder."""
    root = Path(tempfile.mkdtemp(prefix="fedmedlora-pg-", dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None))
    root.chmod(0o755)
    (root / "server").mkdir(mode=0o700)
    server = None
    try:
        server = PostgresServer(root / "server")
        yield server
    finally:
        if server is not None:
            with contextlib.suppress(AssertionError):
                server.stop()
        shutil.rmtree(root, ignore_errors=True)
