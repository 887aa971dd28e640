"""A whole study of real processes on PostgreSQL: the coordinator is killed, the server restarts."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator.backup import backup
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import log_database
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.restoring import restore
from fedmedlora_coordinator.store import read_entries
from fedmedlora_site import reports
from fedmedlora_testkit.places import running_places
from fedmedlora_testkit.postgres import PostgresServer, needs_postgres
from fedmedlora_testkit.rehearsal import Federation, finish

pytestmark = [pytest.mark.slow, needs_postgres]

SECONDS = 240.0


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from running_places()


def await_event(log: Path, event: str, number: int) -> None:
    """Wait until the coordinator's progress lines tell of an event of a round."""
    wanted, deadline = f'"event": "{event}"', time.monotonic() + SECONDS
    while not any(wanted in line and f'"round": {number},' in line for line in log.read_text().splitlines()):
        assert time.monotonic() < deadline, log.read_text()
        time.sleep(0.02)


def test_a_study_on_postgresql_survives_a_kill_and_a_restart_of_the_server(
    server: PostgresServer, tmp_path: Path
) -> None:
    federation = Federation.build(tmp_path / "study", store_url=server.database(), rounds=3)
    root, log = federation.coordinator_root, federation.root / "coordinator.log"
    centre = federation.coordinator("die_at='share:1:after'")
    sites = [federation.site(site) for site in federation.ids]
    assert finish(centre, SECONDS) == -9
    backup(root, tmp_path / "old.backup")
    old_size = len(read_entries(log_database(Folder(root))))
    centre = federation.coordinator()
    await_event(log, "update.submitted", 2)
    sites[-1].send_signal(signal.SIGSTOP)  # the run cannot end before the server is gone
    server.restart("immediate")  # as a power cut: connections end in the middle of whatever they do
    sites[-1].send_signal(signal.SIGCONT)
    assert [finish(process, SECONDS) for process in sites] == [0] * len(sites)
    assert finish(centre, SECONDS) == 0
    said = log.read_text()
    assert "the connection to the database was lost; waiting up to 600 seconds for it" in said
    assert "the database is back" in said
    assert server.password not in said
    assert "Traceback" not in said

    found = status(root)
    assert (found["closed"], found["run_closed"]) == (3, True)
    export_bundle(root, tmp_path / "bundle")
    reports.write_trust(federation.site_root("site-a"), tmp_path / "trust.json")
    assert verify_bundle(tmp_path / "bundle", Trust.load(tmp_path / "trust.json")).verdict == "pass"
    entries = read_entries(log_database(Folder(root)))
    logged = {entry.note for entry in entries}
    for site in federation.ids:
        sent = [path.read_bytes() for path in (federation.site_root(site) / "run").rglob("*.note")]
        assert sent
        assert all(note in logged for note in sent), "acknowledged and lost"

    # Moved to SQLite whole; and the backup of the middle is told to be one, by a head that only a site holds.
    key = root / "keys" / "storage.key"
    backup(root, tmp_path / "whole.backup")
    moved = restore(
        tmp_path / "whole.backup", tmp_path / "moved", heads=[root / "head"], storage_key=key, store_url=""
    )
    assert (moved.entries, moved.problem) == (len(entries), None)
    assert read_entries(log_database(Folder(tmp_path / "moved"))) == entries
    heads = [federation.site_root("site-b") / "run" / "mirror" / "checkpoint"]
    old = restore(tmp_path / "old.backup", tmp_path / "old", heads=heads, storage_key=key, store_url="")
    assert old.entries == old_size
    assert old.problem is not None
    assert old.problem.startswith(f"the log has {old_size} entries but a head was signed for {len(entries)}")
