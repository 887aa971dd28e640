"""Holds and pruning at the coordinator: the event first, the deletion after it, and a log that goes on."""

from __future__ import annotations

import datetime as dt
import os
import shutil
import sqlite3
from pathlib import Path

import pytest

from fedmedlora_audit.chain import event_time
from fedmedlora_audit.trust import Trust
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_coordinator import keeping, runtime
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.keeping import hold, prune, release
from fedmedlora_coordinator.reports import export_bundle, stamp_lacking, status
from fedmedlora_coordinator.sqlite_database import SqliteDatabase
from fedmedlora_coordinator.store import LogStore
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward

ROUNDS = 4


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Ward, Path]:
    """A finished study of more than one whole tile; tests work on copies of its folder."""
    root = tmp_path_factory.mktemp("ward")
    ward = Ward(root, rounds=ROUNDS)
    ward.run()
    ward.store.close()
    assert ward.ledger.size > 256
    return ward, ward.folder.root


@pytest.fixture
def root(finished: tuple[Ward, Path], tmp_path: Path) -> Path:
    return Path(shutil.copytree(finished[1], tmp_path / "coordinator"))


def closed_on(ward: Ward) -> dt.datetime:
    return dt.datetime.fromisoformat(ward.ledger.state.retention.closed_on)


def after_the_years(ward: Ward) -> dt.datetime:
    closed = closed_on(ward)
    return closed.replace(year=closed.year + 6)


def trust_of(ward: Ward) -> Trust:
    return Trust.from_terms(ward.terms, genesis=ward.ledger.entries[0].leaf)


def notes_in(root: Path) -> int:
    with sqlite3.connect(root / "store.sqlite") as connection:
        count: int = connection.execute("SELECT count(*) FROM entries WHERE length(note) > 0").fetchone()[0]
    connection.close()
    return count


def test_after_the_years_entries_go_and_the_bundle_of_what_is_left_holds(
    finished: tuple[Ward, Path], root: Path, tmp_path: Path
) -> None:
    ward, _ = finished
    first, size = ward.ledger.entries[0].note, ward.ledger.size
    assert status(root)["kept_until"] == event_time(after_the_years(ward))
    made = prune(root, clock=lambda: after_the_years(ward))
    assert (made.ranges, made.refused) == (((0, 256),), None)
    assert notes_in(root) == size + 1 - 256
    assert first not in (root / "store.sqlite").read_bytes()
    export_bundle(root, tmp_path / "bundle")
    verdict = verify_bundle(tmp_path / "bundle", trust_of(ward), now=after_the_years(ward))
    assert (verdict.findings, verdict.verdict) == ((), "incomplete")
    assert verdict.checks["H1"].result == verdict.checks["C1"].result == "pass"
    assert verdict.checks["U2"].result == "not judged"
    found = status(root)
    assert (found["deleted_entries"], found["entries"], found["run_closed"]) == (256, size + 1, True)
    with pytest.raises(ConfigError, match="were deleted"):
        stamp_lacking(root)


def test_before_the_years_are_over_nothing_goes(finished: tuple[Ward, Path], root: Path) -> None:
    ward, _ = finished
    early = after_the_years(ward) - dt.timedelta(seconds=1)
    made = prune(root, clock=lambda: early)
    assert made.ranges == ()
    assert "before" in str(made.refused)
    assert notes_in(root) == ward.ledger.size


def test_a_hold_stops_pruning_until_it_is_released(finished: tuple[Ward, Path], root: Path) -> None:
    ward, _ = finished
    late = lambda: after_the_years(ward)  # noqa: E731
    assert hold(root, "litigation", clock=late) == 1
    assert hold(root, "authority", clock=late) == 2
    assert status(root)["holds"] == [1, 2]
    release(root, 1, clock=late)
    made = prune(root, clock=late)
    assert (made.ranges, made.refused) == (
        (),
        "retention.pruned: H1: entries are deleted while hold 2 is in force",
    )
    with pytest.raises(ConfigError, match="hold 1 is not in force"):
        release(root, 1, clock=late)
    release(root, 2, clock=late)
    assert prune(root, clock=late).ranges == ((0, 256),)
    assert hold(root, "incident", clock=late) == 3  # a pruned log still takes holds
    assert status(root)["holds"] == [3]


def test_without_the_rule_a_hold_would_stop_nothing(
    finished: tuple[Ward, Path], root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fedmedlora_audit.law import RULES
    from fedmedlora_audit.law.retention_rules import no_hold_in_force

    ward, _ = finished
    hold(root, "litigation", clock=lambda: after_the_years(ward))
    rules = tuple(rule for rule in RULES["retention.pruned"] if rule is not no_hold_in_force)
    monkeypatch.setitem(RULES, "retention.pruned", rules)
    assert prune(root, clock=lambda: after_the_years(ward)).ranges == ((0, 256),)


def test_killed_between_event_and_deletion_the_next_pruning_deletes(
    finished: tuple[Ward, Path], root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ward, _ = finished

    def killed(*_: object) -> bool:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(LogStore, "delete_notes", killed)
        prune(root, clock=lambda: after_the_years(ward))
    assert notes_in(root) == ward.ledger.size + 1
    export_bundle(root, tmp_path / "whole")
    assert verify_bundle(tmp_path / "whole", trust_of(ward)).verdict == "pass"
    assert prune(root, clock=lambda: after_the_years(ward)).ranges == ((0, 256),)
    assert notes_in(root) == ward.ledger.size + 1 - 256
    assert prune(root, clock=lambda: after_the_years(ward)).ranges == ()


def test_a_disk_that_refuses_deletes_nothing_and_the_log_stays_append_only(root: Path) -> None:
    folder = Folder(root)
    store = LogStore(SqliteDatabase(folder.store), folder.head)
    with sqlite3.connect(folder.store) as connection:
        connection.execute("DROP TRIGGER entries_no_update")
    connection.close()
    with pytest.raises(StoreError, match="could not be deleted"):
        store.delete_notes(0, 256)
    store.close()
    assert notes_in(root) > 256


def test_after_pruning_the_store_refuses_changes_as_before(finished: tuple[Ward, Path], root: Path) -> None:
    ward, _ = finished
    prune(root, clock=lambda: after_the_years(ward))
    with sqlite3.connect(root / "store.sqlite") as connection:
        for act in ("UPDATE entries SET note = x'00'", "DELETE FROM entries"):
            with pytest.raises(sqlite3.IntegrityError, match="append-only"):
                connection.execute(act)
    connection.close()


def test_a_note_that_is_gone_unsaid_is_damage(root: Path, tmp_path: Path) -> None:
    with sqlite3.connect(root / "store.sqlite") as connection:
        connection.execute("DROP TRIGGER entries_no_update")
        connection.execute("UPDATE entries SET note = x'' WHERE entry_index = 3")
    connection.close()
    with pytest.raises(StoreError, match="entry 3 of the store is damaged"):
        hold(root, "other")
    with pytest.raises(StoreError, match="entry 3 of the store is damaged"):
        export_bundle(root, tmp_path / "bundle")


def test_a_pruned_log_is_kept_and_not_served(finished: tuple[Ward, Path], root: Path) -> None:
    ward, _ = finished
    prune(root, clock=lambda: after_the_years(ward))
    with pytest.raises(ConfigError, match="kept, not served"):
        runtime.serve(root)


def test_a_hold_in_the_middle_of_a_study_does_not_disturb_it(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run(lambda state: state.session is not None and len(state.session.shares) == 2)
    ward.store.close()
    assert hold(ward.folder.root, "investigation", clock=ward.clock.now) == 1
    ward.start()
    ward.run()
    assert ward.ledger.state.run_closed
    assert status(ward.folder.root)["holds"] == [1]


def test_what_cannot_be_done_is_said(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.store.close()
    with pytest.raises(ConfigError, match="one of: litigation"):
        hold(ward.folder.root, "the patient died")
    made = prune(ward.folder.root)
    assert made == keeping.Pruned((), "the run is not closed: the years have not begun")
    with ward.folder.locked(), pytest.raises(ConfigError, match="another coordinator is serving"):
        hold(ward.folder.root, "other")
    ward.start()
    ward.run()
    ward.store.close()
    assert "no whole tile" in str(prune(ward.folder.root).refused)
