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

    def database(self, *, tablespace: str = "") -> str:
        """Make a fresh database, in a folder of its own if one is named; return what `store.url` takes."""
        self._count += 1
        name = f"log_{self._count}"
        with self.admin() as connection:
            if tablespace:
                connection.execute(f"CREATE TABLESPACE small LOCATION '{tablespace}'")
            where = " TABLESPACE small" if tablespace else ""
            connection.execute(f"CREATE DATABASE {name} OWNER {ROLE}{where}")
        return f"postgresql://{ROLE}@127.0.0.1:{self.port}/{name}"

    def protect(self, key: bytes, certificate: bytes) -> None:
        """Offer TLS with this key and certificate from the next connection on."""
        for name, pem in (("server.key", key), ("server.crt", certificate)):
            path = self.folder / "data" / name
            path.unlink(missing_ok=True)
            path.write_bytes(pem)
            path.chmod(0o600)
            if self._user:
                os.chown(path, self._user["user"], self._user["group"])
        with self.admin() as connection:
            connection.execute("ALTER SYSTEM SET ssl = on")
        self.restart("fast")  # a reload is taken note of later

    @contextlib.contextmanager
    def small_disk(self, megabytes: int) -> Iterator[tuple[str, Path]]:
        """A database on a disk of its own, as (URL, where the disk is mounted); skips where none may be."""
        disk = self.folder.parent / "small"
        disk.mkdir()
        size = f"size={megabytes}m"
        done = subprocess.run(
            [shutil.which("mount") or "/bin/mount", "-t", "tmpfs", "-o", size, "none", str(disk)],
            capture_output=True,
            check=False,
        )
        if done.returncode != 0:
            disk.rmdir()
            pytest.skip(f"no file system may be mounted here: {done.stderr.decode().strip()[:80]}")
        try:
            place = disk / "tables"
            place.mkdir(mode=0o700)
            if self._user:
                os.chown(place, self._user["user"], self._user["group"])
            url = self.database(tablespace=str(place))
            yield url, disk
            with self.admin() as connection:
                connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")
                connection.execute("DROP TABLESPACE small")
        finally:
            subprocess.run([shutil.which("umount") or "/bin/umount", "-l", str(disk)], check=True)
            disk.rmdir()

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
