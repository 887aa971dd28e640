"""Backup and restore of either store: what is restored goes on with the study, or says why it must not."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from fedmedlora_cli.__main__ import main
from fedmedlora_coordinator import invites
from fedmedlora_coordinator.backup import backup
from fedmedlora_coordinator.conductor import Conductor
from fedmedlora_coordinator.errors import StoreError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import enrolment_database, log_database
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.reports import export_bundle, status
from fedmedlora_coordinator.restoring import Restored, extract, restore
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_coordinator.store import read_entries
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.places import make_place, running_places
from fedmedlora_testkit.postgres import PostgresServer, needs_postgres
from fedmedlora_testkit.ward import Ward

MIDDLE = 34  # the write at which the coordinator is stopped: uploads of a round lie there, sealed


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from running_places()


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    yield
    FlakyStore.arm(None)


def stopped(root: Path, url: str = "") -> Ward:
    """A ward whose coordinator was stopped in the middle of its only round."""
    ward = Ward(root, rounds=1, store_url=url)
    invites.invite(ward.folder.root, "site-a", out=root / "invitation.json")
    (ward.folder.study / "a remark (1).txt").write_text("the operator's own file")
    ward.run(lambda state: ward.ledger.size >= 2 * MIDDLE)
    assert any(ward.folder.blobs.glob("??/*.sealed"))
    ward.store.close()
    return ward


def restored(ward: Ward, archive: Path, to: Path, url: str = "") -> Restored:
    return restore(archive, to, heads=[ward.folder.head], storage_key=ward.folder.storage_key, store_url=url)


def go_on(ward: Ward, to: Path) -> None:
    """Start the ward's coordinator from another folder."""
    ward.folder = Folder(to)
    ward.start()


ways = [
    pytest.param(source, target, marks=[needs_postgres] if "postgres" in (source, target) else [])
    for source in ("sqlite", "postgres")
    for target in ("sqlite", "postgres")
]


@pytest.mark.parametrize(("source", "target"), ways)
def test_a_restored_coordinator_ends_the_study_with_the_identical_adapter(
    tmp_path: Path, request: pytest.FixtureRequest, source: str, target: str
) -> None:
    reference = Ward(tmp_path / "reference", rounds=1)
    reference.run()
    ward = stopped(tmp_path / "ward", make_place(source, tmp_path, request).url)
    made = backup(ward.folder.root, tmp_path / "centre.backup")
    assert (made.entries, made.sealed > 0) == (ward.ledger.size, True)
    assert (tmp_path / "centre.backup").stat().st_mode & 0o777 == 0o600
    url, to = make_place(target, tmp_path, request).url, tmp_path / "restored"
    assert restored(ward, tmp_path / "centre.backup", to, url) == Restored(
        ward.ledger.size, ward.ledger.size, None
    )
    assert CoordinatorSettings.load(to / "coordinator.toml").store.url == url
    assert (to / "store.sqlite").exists() is (target == "sqlite")
    before = read_entries(log_database(ward.folder))
    assert read_entries(log_database(Folder(to))) == before
    assert (to / "study" / "a remark (1).txt").read_text() == "the operator's own file"
    register = Register(enrolment_database(Folder(to)))
    assert register.enrolled() == []
    register.close()
    go_on(ward, to)
    state = ward.run()
    assert state.base == reference.ledger.state.base
    assert Adapter.load(to / "released").digest == state.base
    ward.store.close()
    assert read_entries(log_database(Folder(to)))[: len(before)] == before


def test_a_coordinator_restored_from_an_old_backup_is_exported_and_not_served(tmp_path: Path) -> None:
    ward = stopped(tmp_path)
    backup(ward.folder.root, tmp_path / "old.backup")
    old_size = ward.ledger.size
    ward.start()
    ward.run()
    ward.store.close()
    to = tmp_path / "restored"
    found = restored(ward, tmp_path / "old.backup", to)
    sentence = (
        f"the log has {old_size} entries but a head was signed for {ward.ledger.size}: it was rolled back"
    )
    assert found.problem is not None
    assert found.problem.startswith(sentence)
    assert "export this log and begin a new one that names it" in found.problem
    assert status(to)["entries"] == old_size
    assert export_bundle(to, tmp_path / "bundle") == old_size
    with pytest.raises(StoreError, match="it was rolled back, and to go on would fork it"):
        go_on(ward, to)
    assert len(read_entries(log_database(Folder(to)))) == old_size


def test_a_head_that_only_a_site_holds_shows_that_a_backup_is_old(tmp_path: Path) -> None:
    """The old folder is lost with its head file: the newest of the sites' heads counts."""
    ward = stopped(tmp_path)
    backup(ward.folder.root, tmp_path / "old.backup")
    early, late = tmp_path / "early", tmp_path / "late"
    early.write_bytes(ward.ledger.checkpoint(9))
    ward.start()
    ward.run()
    late.write_bytes(ward.ledger.checkpoint())
    key = ward.folder.storage_key
    sound = restore(tmp_path / "old.backup", tmp_path / "a", heads=[early], storage_key=key)
    assert (sound.head, sound.problem) == (9, None)
    found = restore(tmp_path / "old.backup", tmp_path / "b", heads=[late, early], storage_key=key)
    assert (found.head, found.problem is None) == (ward.ledger.size, False)
    assert (tmp_path / "b" / "head").read_bytes() == late.read_bytes()


def test_a_witness_that_shows_a_longer_log_stops_a_coordinator_that_was_rolled_back(tmp_path: Path) -> None:
    """Even where nobody kept a head: the log's own signature over what it lacks ends the process for good."""
    ward = Ward(tmp_path, rounds=1, quorum=True)
    ward.run(lambda state: ward.ledger.size > 30)
    ward.store.close()
    backup(ward.folder.root, tmp_path / "old.backup")
    early = tmp_path / "early"
    early.write_bytes(ward.ledger.checkpoint())
    ward.start()
    ward.run()
    site, newer = ward.hospitals[0].site, ward.ledger.checkpoint()
    to = tmp_path / "restored"
    restore(tmp_path / "old.backup", to, heads=[early], storage_key=ward.folder.storage_key)
    go_on(ward, to)
    size = ward.ledger.size
    with pytest.raises(StoreError, match="it was rolled back"):
        ward.witnesses.take(site, newer, b"")
    with pytest.raises(StoreError, match="it was rolled back"):
        ward.start()
    assert len(read_entries(log_database(ward.folder))) == size


def test_the_commands_answer_by_their_exit_codes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ward = stopped(tmp_path)
    archive, root = str(tmp_path / "centre.backup"), ward.folder.root

    def run(*arguments: str) -> int:
        with pytest.raises(SystemExit) as ended:
            main(["coordinator", *arguments])
        return int(str(ended.value.code))

    assert run("backup", "--dir", str(root), "--out", archive) == 0
    assert f"{ward.ledger.size} entries" in capsys.readouterr().out
    rest = ("--head", str(ward.folder.head), "--storage-key", str(ward.folder.storage_key))
    assert run("restore", archive, str(tmp_path / "a"), *rest) == 0
    assert "go on with: fedmedlora coordinator serve" in capsys.readouterr().out
    assert run("restore", archive, str(tmp_path / "a"), *rest) == 2
    ward.start()
    ward.run()
    ward.store.close()
    assert run("restore", archive, str(tmp_path / "b"), *rest) == 1
    assert "to be exported and not to be served: the log has" in capsys.readouterr().out


def test_without_a_head_nobody_can_tell_and_nothing_is_made(tmp_path: Path) -> None:
    ward = stopped(tmp_path)
    archive, key = tmp_path / "centre.backup", ward.folder.storage_key
    backup(ward.folder.root, archive)
    to = tmp_path / "restored"
    with pytest.raises(ConfigError, match=r"nobody can tell whether .* name the newest head with --head"):
        restore(archive, to, storage_key=key)
    foreign = tmp_path / "foreign"
    foreign.write_bytes(ward.folder.head.read_bytes().replace(b"ward", b"yard"))
    for head in (foreign, tmp_path / "missing"):
        with pytest.raises(ConfigError, match="is no head of this log"):
            restore(archive, to, heads=[head], storage_key=key)
    with pytest.raises(ConfigError, match=r"sealed payloads: name .*storage\.key"):
        restore(archive, to, heads=[ward.folder.head])
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "centre.backup", "coordinator", "foreign", "invitation.json",
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="not empty"):
        restore(archive, ward.folder.root, heads=[ward.folder.head], storage_key=key)


def test_a_backup_alone_opens_no_payload_and_holds_no_head(tmp_path: Path) -> None:
    ward = stopped(tmp_path)
    backup(ward.folder.root, tmp_path / "centre.backup")
    with tarfile.open(tmp_path / "centre.backup") as tar:
        names = set(tar.getnames())
    assert {"store.sqlite", "enrolment.sqlite", "keys/log.seed", "keys/event.seed", "ca/ca.key"} <= names
    assert not {"head", "keys/storage.key", "serving.lock"} & names
    assert not any(name.startswith(("invitations", "blobs/incoming")) for name in names)
    content = (tmp_path / "centre.backup").read_bytes()
    assert ward.folder.storage_key.read_bytes().strip() not in content


def test_a_backup_that_was_cut_or_changed_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    ward = stopped(tmp_path)
    archive = tmp_path / "centre.backup"
    backup(ward.folder.root, archive)
    content = archive.read_bytes()
    with tarfile.open(archive) as tar:
        at = tar.getmember("study/study.toml").offset_data
    changed = bytearray(content)
    changed[at] ^= 1
    bent = tmp_path / "bent.backup"
    for damaged in (
        content[: len(content) // 2],
        content[:-20_000],
        bytes(changed),
        b"",
        b"no tar at all" * 99,
    ):
        bent.write_bytes(damaged)
        with pytest.raises(StoreError, match="is no whole backup"):
            restored(ward, bent, tmp_path / "restored")
    with pytest.raises(ConfigError, match="is not there"):
        restored(ward, tmp_path / "missing", tmp_path / "restored")
    assert not (tmp_path / "restored").exists()
    assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("name", ["../out", "/out", "study/../../out", "a/./b", ".hidden"])
def test_a_backup_writes_nothing_outside_its_folder(tmp_path: Path, name: str) -> None:
    ward = stopped(tmp_path)
    archive = tmp_path / "centre.backup"
    backup(ward.folder.root, archive)
    evil = tmp_path / "evil.backup"
    with tarfile.open(archive) as old, tarfile.open(evil, "w") as new:
        for member in old:
            if member.name == "study/study.toml":
                member.name = name
            new.addfile(member, old.extractfile(member))
    with pytest.raises(StoreError, match="is no whole backup"):
        restored(ward, evil, tmp_path / "in" / "restored")
    assert not (tmp_path / "out").exists()
    assert not list((tmp_path / "in").iterdir())


def test_a_member_that_claims_more_bytes_than_the_archive_has_fills_no_disk(tmp_path: Path) -> None:
    claimed = 64 << 20
    sparse = tarfile.TarInfo("study/study.toml")
    sparse.size = 512
    sparse.pax_headers = {"GNU.sparse.map": "0,512", "GNU.sparse.size": str(claimed)}
    evil, root = tmp_path / "evil.backup", tmp_path / "restored"
    with tarfile.open(evil, "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(sparse, io.BytesIO(bytes(512)))
    with tarfile.open(evil) as tar:
        assert tar.getmembers()[0].size == claimed  # so would a careless reader believe it
    root.mkdir()
    with pytest.raises(StoreError, match="is no whole backup"):
        extract(evil, root)
    assert not list(root.iterdir())


def test_a_backup_of_a_serving_coordinator_is_whole_and_its_log_goes_on(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run(lambda state: ward.ledger.size > 20)
    size = ward.ledger.size
    assert backup(ward.folder.root, tmp_path / "beside.backup").entries == size
    assert ward.run().run_closed
    with pytest.raises(ConfigError, match="is there already"):
        backup(ward.folder.root, tmp_path / "beside.backup")
    with pytest.raises(ConfigError, match="write it elsewhere"):
        backup(ward.folder.root, ward.folder.root / "inside.backup")


def test_a_coordinator_without_a_study_is_restored_with_its_invitations(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.store.close()
    shutil.rmtree(ward.folder.study)
    for name in ("store.sqlite", "head"):
        (ward.folder.root / name).unlink()
    invites.invite(ward.folder.root, "site-a", out=tmp_path / "invitation.json")
    backup(ward.folder.root, tmp_path / "centre.backup")
    assert restore(tmp_path / "centre.backup", tmp_path / "again") == Restored(0, 0, None)
    assert status(tmp_path / "again") == {"serving": False, "enrolled": [], "study": None}


def early_backup(ward: Ward) -> Path:
    """The backup of the night before: a study, and a log without an entry; the study has gone on since."""
    archive = ward.folder.root.parent / "early.backup"
    assert backup(ward.folder.root, archive).entries == 0
    ward.conductor.begin()
    ward.run()
    ward.store.close()
    return archive


@pytest.fixture
def unbegun(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ward:
    """A ward whose coordinator has written nothing yet."""
    with monkeypatch.context() as patch:
        patch.setattr(Conductor, "begin", lambda self: None)
        return Ward(tmp_path, rounds=1)


def test_a_backup_without_an_entry_is_not_served_once_a_head_is_shown(unbegun: Ward, tmp_path: Path) -> None:
    """Its log is as short as a log can be: who goes on with it signs a second history from entry 0."""
    archive, to = early_backup(unbegun), tmp_path / "restored"
    size, head = unbegun.ledger.size, unbegun.folder.head.read_bytes()
    early = tmp_path / "early.head"
    early.write_bytes(unbegun.ledger.checkpoint(9))
    found = restore(archive, to, heads=[unbegun.folder.head, early])
    assert (found.entries, found.head) == (0, size)
    assert found.problem is not None
    assert found.problem.startswith(f"the log has 0 entries but a head was signed for {size}: it was rolled")
    assert (to / "head").read_bytes() == head
    with pytest.raises(StoreError, match="it was rolled back, and to go on would fork it"):
        go_on(unbegun, to)
    assert read_entries(log_database(Folder(to))) == []


def test_a_head_of_another_log_says_nothing_of_a_backup_without_an_entry(
    unbegun: Ward, tmp_path: Path
) -> None:
    archive, foreign = early_backup(unbegun), tmp_path / "foreign"
    foreign.write_bytes(unbegun.folder.head.read_bytes().replace(b"ward", b"yard"))
    for head in (foreign, tmp_path / "missing"):
        with pytest.raises(ConfigError, match="is no head of this log"):
            restore(archive, tmp_path / "restored", heads=[head])
    assert not (tmp_path / "restored").exists()


def test_a_backup_from_before_the_study_knows_a_head_by_the_key_of_the_log(tmp_path: Path) -> None:
    """There is no charter yet that names the log, and the key signs for one folder only."""
    ward = Ward(tmp_path, rounds=1)
    ward.run()
    ward.store.close()
    head = tmp_path / "a head"
    head.write_bytes(ward.folder.head.read_bytes())
    shutil.rmtree(ward.folder.study)
    for name in ("store.sqlite", "head"):
        (ward.folder.root / name).unlink()
    shutil.rmtree(ward.folder.blobs)
    backup(ward.folder.root, tmp_path / "early.backup")
    found = restore(tmp_path / "early.backup", tmp_path / "restored", heads=[head])
    assert (found.head, found.problem is None) == (ward.ledger.size, False)
    assert (tmp_path / "restored" / "head").read_bytes() == head.read_bytes()
