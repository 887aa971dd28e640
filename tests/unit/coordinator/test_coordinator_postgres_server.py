"""PostgreSQL on a machine of its own: TLS with the hospital's CA, and a disk that runs full."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmedlora_coordinator.errors import NOTHING_LOST, StoreError, StoreUnreachableError
from fedmedlora_coordinator.store import LogStore
from fedmedlora_testkit.places import Place, database_at, running_places
from fedmedlora_testkit.postgres import PostgresServer, needs_postgres
from fedmedlora_testkit.server_certificates import ServerAuthority

pytestmark = needs_postgres
UNPROTECTED = "no protected connection; see sslrootcert and sslmode"


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from running_places()


def refused(url: str) -> str:
    """What an operator reads whose coordinator does not get a connection."""
    with pytest.raises(StoreError) as found:
        database_at(url).exists()
    assert not isinstance(found.value, StoreUnreachableError), "it would be waited for"
    assert "\n" not in str(found.value)
    return str(found.value)


def test_the_server_is_believed_by_its_certificate_alone(server: PostgresServer, tmp_path: Path) -> None:
    ours, strangers = ServerAuthority(), ServerAuthority()
    files = {"ours": ours.pem, "strangers": strangers.pem, "none": b"no certificate"}
    roots = {name: tmp_path / f"{name}.pem" for name in files}
    for name, pem in files.items():
        roots[name].write_bytes(pem)
    plain = server.database().replace("127.0.0.1", "localhost")
    checked = f"{plain}?sslmode=verify-full&sslrootcert="
    assert UNPROTECTED in refused(f"{checked}{roots['ours']}"), "a server without TLS"

    server.protect(*ours.issue("localhost"))
    place = Place("postgres", f"{checked}{roots['ours']}", tmp_path / "head")
    store = place.open()
    with store._engine.begin() as connection:
        query = "SELECT version FROM pg_stat_ssl WHERE ssl AND pid = pg_backend_pid()"
        assert connection.exec_driver_sql(query).scalar() == "TLSv1.3"
    store.append(0, [(bytes(32), b"note")], head=b"h1", size=1)
    store.close()
    for root in (roots["strangers"], roots["none"], tmp_path / "missing.pem"):
        assert UNPROTECTED in refused(f"{checked}{root}")

    server.protect(*ours.issue("db.example"))
    assert UNPROTECTED in refused(f"{checked}{roots['ours']}"), "another machine of the same hospital"
    server.protect(*strangers.issue("localhost"))
    assert UNPROTECTED in refused(f"{checked}{roots['ours']}")
    server.protect(*ours.issue("localhost"))
    again = place.open()
    assert (again.size(), again.last_head()) == (1, b"h1")
    again.close()


def test_a_full_disk_of_the_server_loses_nothing_and_the_log_goes_on(
    server: PostgresServer, tmp_path: Path
) -> None:
    """A real file system, filled to its end."""

    def append(store: LogStore, number: int) -> None:
        # Bytes that do not compress: the server would make a few of a thousand zeros.
        note = b"".join(
            bytes([number, place % 256]) + b"%d" % (place * 7919 % 65537) for place in range(4000)
        )
        pair = (number.to_bytes(32, "big"), note)
        store.append(number, [pair], head=b"h%d" % (number + 1), size=number + 1)

    with server.small_disk(12) as (url, disk):
        place = Place("postgres", url, tmp_path / "head")
        store = place.open()
        with (disk / "ballast").open("wb") as ballast, pytest.raises(OSError, match="No space left"):
            while True:
                ballast.write(bytes(1 << 16))
                ballast.flush()
        os.truncate(disk / "ballast", (disk / "ballast").stat().st_size - (256 << 10))  # a little is left
        acknowledged = 0
        with pytest.raises(StoreError) as full:
            for acknowledged in range(200):
                append(store, acknowledged)
        assert str(full.value) == f"the log could not be written: the disk is full; {NOTHING_LOST}"
        assert acknowledged > 0
        store.close()
        (disk / "ballast").unlink()
        again = place.open()
        assert (again.size(), again.last_head()) == (acknowledged, b"h%d" % acknowledged)
        append(again, acknowledged)
        again.close()
