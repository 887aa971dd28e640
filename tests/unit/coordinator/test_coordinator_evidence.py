"""Evidence at rest: sealed, shredded by its key, kept as chosen, exported while it is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedmedlora_audit.blob import BlobTree, blob_digest, blob_leaves
from fedmedlora_audit.event_data import InSession, StepRefused
from fedmedlora_audit.evidence import EvidenceIndex
from fedmedlora_audit.law import Session
from fedmedlora_coordinator import setup
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.errors import ForbiddenError, StoreError
from fedmedlora_coordinator.evidence_export import export_evidence
from fedmedlora_coordinator.sealing import StorageKey, plain_bytes, sealed_bytes
from fedmedlora_core.errors import ConfigError
from fedmedlora_testkit.hospital import Hospital
from fedmedlora_testkit.ward import Ward

LONG = 600_000  # values of an adapter whose updates have three chunks


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def image(root: Path) -> dict[str, bytes]:
    """Every file under a folder: what a thief of the disk has."""
    return {str(path.relative_to(root)): path.read_bytes() for path in root.rglob("*") if path.is_file()}


class Watched(Ward):
    """A ward that remembers what the hospitals sent."""

    def __init__(self, root: Path, **options: Any) -> None:
        self.sent: dict[str, list[bytes]] = {}
        super().__init__(root, **options)

    def payload(self, hospital: Hospital, step: str, session: Session) -> bytes:
        content = super().payload(hospital, step, session)
        self.sent.setdefault(step, []).append(content)
        return content

    def found(self, files: dict[str, bytes]) -> int:
        """How many masked uploads and opened shares lie in files as they were sent."""
        secret = [content[:64] for step in ("upload", "unmask") for content in self.sent.get(step, [])]
        return sum(any(content in data for data in files.values()) for content in secret)


# -- at rest


@pytest.mark.parametrize(("sealed", "in_the_clear"), [(True, 0), (False, 8)])
def test_no_upload_and_no_opened_share_lies_on_the_disk_as_it_was_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sealed: bool, in_the_clear: int
) -> None:
    """R4.6.8. With the encryption off, the same search finds all eight."""
    if not sealed:
        plain = lambda root, **_: BlobStore(root)  # noqa: E731
        monkeypatch.setattr("fedmedlora_testkit.ward.BlobStore", plain)
    ward = Watched(tmp_path, rounds=1, keep_evidence=True)
    ward.run()
    assert len(ward.sent["upload"]) == len(ward.sent["unmask"]) == 4
    assert ward.found(image(ward.folder.blobs)) == in_the_clear
    session = next(iter(ward.ledger.state.sids.values()))
    assert {ward.blobs.read(digest) for digest in session.u3.values()} == set(ward.sent["upload"])


def test_an_unfinished_upload_is_sealed_too(tmp_path: Path) -> None:
    content = bytes(range(256)) * 8192
    store = BlobStore(tmp_path / "blobs", storage_key=b"k" * 32)
    send(store, content, 0)
    assert not any(content[:64] in data for data in image(tmp_path / "blobs").values())


def send(store: BlobStore, content: bytes, index: int) -> int | None:
    """Send one chunk of a blob."""
    tree, size = BlobTree(blob_leaves(content), len(content)), 1 << 20
    return store.put_chunk(
        "site-a",
        digest=tree.digest,
        total_bytes=len(content),
        index=index,
        data=content[index * size : (index + 1) * size],
        proof=tuple(tree.proof(index)),
    )


def test_after_shredding_nothing_opens_the_bytes_that_a_disk_still_holds(tmp_path: Path) -> None:
    """R4.6.9: the thief has the sealed bytes from before, the whole disk from after, and the storage key."""
    root, key = tmp_path / "blobs", b"k" * 32
    content = np.random.default_rng(1).bytes((1 << 20) + 500)
    store = BlobStore(root, storage_key=key)
    assert send(store, content, 0) == 1
    assert send(store, content, 1) is None
    before = image(root)
    wrapped = next(data for name, data in before.items() if name.endswith(".key"))
    sealed = next(data for name, data in before.items() if name.endswith(".sealed"))
    digest = blob_digest(content)
    assert send(store, b"another blob, which stays", 0) is None
    store.remove(digest)
    after = image(root)
    assert len(after) == 3
    assert not any(wrapped[12:44] in data for data in after.values())
    for data in after.values():
        for at in range(max(1, len(data) - 59)):
            with pytest.raises(StoreError):
                StorageKey(key).unwrap(data[at : at + 60], digest=digest, total_bytes=len(content))
    # Before the shredding the same thief reads everything: the wrapped key is what was missing.
    seal = StorageKey(key).unwrap(wrapped, digest=digest, total_bytes=len(content))
    assert seal.open(0, sealed[: (1 << 20) + 16]) == content[: 1 << 20]


def test_the_key_is_destroyed_before_the_bytes_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kill in the middle of shredding leaves bytes that nobody can open, and they go at the next start."""
    store = BlobStore(tmp_path, storage_key=b"k" * 32)
    content = b"upload" * 1000
    assert send(store, content, 0) is None
    digest = blob_digest(content)
    real = Path.unlink

    def killed(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".sealed":
            raise KeyboardInterrupt
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", killed)
    with pytest.raises(KeyboardInterrupt):
        store.remove(digest)
    monkeypatch.undo()
    left = image(tmp_path)
    assert {name.rsplit(".")[-1] for name in left} == {"sealed", "leaves"}
    restarted = BlobStore(tmp_path, storage_key=b"k" * 32)
    assert restarted.size(digest) is None
    restarted.sweep(())
    assert not any(name.endswith("sealed") for name in image(tmp_path))


def test_a_key_is_overwritten_in_place_before_it_is_deleted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = BlobStore(tmp_path, storage_key=b"k" * 32)
    assert send(store, b"upload", 0) is None
    seen: list[bytes] = []
    real = Path.unlink

    def watched(path: Path, missing_ok: bool = False) -> None:
        if path.suffix == ".key":
            seen.append(path.read_bytes())
        real(path, missing_ok=missing_ok)

    monkeypatch.setattr(Path, "unlink", watched)
    store.remove(blob_digest(b"upload"))
    assert seen == [bytes(60)]


def test_an_upload_whose_key_was_lost_begins_again(tmp_path: Path) -> None:
    content = bytes(3 << 20)
    send(BlobStore(tmp_path, storage_key=b"k" * 32), content, 0)
    key = next((tmp_path / "incoming").glob("*.key"))
    for damage in (lambda: key.write_bytes(bytes(60)), key.unlink):
        damage()
        store = BlobStore(tmp_path, storage_key=b"k" * 32)
        assert store.query(blob_digest(content), len(content)) == 0


def test_a_sealed_blob_opens_with_its_own_storage_key_only(tmp_path: Path) -> None:
    content = b"opened shares"
    send(BlobStore(tmp_path, storage_key=b"k" * 32), content, 0)
    digest = blob_digest(content)
    assert BlobStore(tmp_path, storage_key=b"k" * 32).read(digest) == content
    for other in (b"x" * 32, None):
        with pytest.raises(StoreError):
            BlobStore(tmp_path, storage_key=other).read(digest)
    with pytest.raises(ValueError, match="32 bytes"):
        StorageKey(b"short")


def test_a_chunk_of_another_blob_or_place_does_not_open() -> None:
    key = StorageKey(b"k" * 32)
    wrapped, seal = key.new(digest="a" * 64, total_bytes=10)
    sealed = seal.seal(0, b"0123456789")
    assert seal.open(0, sealed) == b"0123456789"
    with pytest.raises(StoreError):
        seal.open(1, sealed)
    with pytest.raises(StoreError):
        seal.open(0, b"")
    with pytest.raises(StoreError):
        key.unwrap(wrapped, digest="b" * 64, total_bytes=10)
    assert repr(seal) + repr(key) == "BlobSeal(...)StorageKey(...)"
    _, other = key.new(digest="a" * 64, total_bytes=10)
    assert other.seal(0, b"0123456789") != sealed, "every blob has a key of its own"
    for size in (0, 1, (1 << 20) - 1, 1 << 20, (1 << 20) + 1, 5 << 20):
        assert plain_bytes(sealed_bytes(size)) == size


def test_the_storage_key_is_its_owners_and_is_missed(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1, keep_evidence=True)
    path = ward.folder.storage_key
    assert path.stat().st_mode & 0o777 == 0o600
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="0600"):
        setup.load_storage_key(ward.folder)
    path.unlink()
    assert len(setup.load_storage_key(ward.folder)) == 32, "a folder of an earlier release gets one"
    ward.start()
    ward.run()
    path.unlink()
    with pytest.raises(ConfigError, match="missing"):
        setup.load_storage_key(ward.folder)


# -- kept or shredded


def fates(ward: Ward) -> list[tuple[int, str]]:
    """(round, kept or shredded) in the order of the log."""
    return [
        (entry.event.round or 0, entry.event.type.removeprefix("evidence."))
        for entry in ward.ledger.entries
        if entry.event.type.startswith("evidence.")
    ]


def test_evidence_is_kept_for_some_rounds_and_then_shredded(tmp_path: Path) -> None:
    """R4.6.10: both are events, and the log takes kept and then shredded."""
    ward = Ward(tmp_path, rounds=3, keep_evidence=True, keep_rounds=1)
    ward.run()
    assert fates(ward) == [(1, "kept"), (2, "kept"), (1, "shredded"), (3, "kept")]
    held = {
        session.round: [ward.blobs.size(digest) is not None for digest in session.u3.values()]
        for session in ward.ledger.state.sids.values()
    }
    assert held == {1: [False] * 4, 2: [True] * 4, 3: [True] * 4}


def test_a_policy_changed_to_shredding_takes_what_was_kept(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=2, keep_evidence=True)
    ward.run(lambda s: len(s.closed_rounds) == 1 and s.session is None)
    shred = ward.settings.evidence.model_copy(update={"after_round": "shred"})
    ward.settings = ward.settings.model_copy(update={"evidence": shred})
    ward.start()
    ward.run()
    assert fates(ward) == [(1, "kept"), (1, "shredded"), (2, "shredded")]
    keep = ward.settings.evidence.model_copy(update={"after_round": "keep"})
    ward.settings = ward.settings.model_copy(update={"evidence": keep})
    ward.start()
    assert fates(ward)[-1] == (2, "shredded"), "what is gone cannot be kept"


def test_evidence_stays_while_the_members_check_it(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run(lambda s: s.session is not None and s.session.step == "aggregate")
    session = ward.ledger.state.session
    assert session is not None
    ward.start()  # a restart tidies up
    evidence = {*session.u3.values(), *session.responses.values()}
    assert all(ward.blobs.size(digest) is not None for digest in evidence)
    with pytest.raises(ForbiddenError, match="G48"):
        ward.ledger.write("evidence.shredded", InSession(sid=session.sid), round_number=1)


def test_a_disputed_sum_stays_as_evidence_whatever_the_policy(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run(lambda s: s.session is not None and s.session.step == "aggregate")
    session = ward.ledger.state.session
    assert session is not None
    data = StepRefused(step="aggregate", reason="wrong_sum", sid=session.sid)
    ward.submit(ward.hospital("site-b"), "step.refused", data, 1)
    ward.run()
    assert ward.ledger.state.rounds[1].outcome == "aborted"
    assert fates(ward) == [(1, "kept")]
    made = export_evidence(ward.folder.root, 1, tmp_path / "out")
    assert (made / "evidence.json").is_file()


def test_the_log_takes_no_second_word_about_evidence(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1, keep_evidence=True)
    ward.run()
    data = InSession(sid=next(iter(ward.ledger.state.sids)))
    with pytest.raises(ForbiddenError, match="kept before"):
        ward.ledger.write("evidence.kept", data, round_number=1)
    ward.ledger.write("evidence.shredded", data, round_number=1)
    for again in ("evidence.kept", "evidence.shredded"):
        with pytest.raises(ForbiddenError, match="shredded before"):
            ward.ledger.write(again, data, round_number=1)


# -- export


def test_the_export_holds_every_payload_behind_the_sum_by_digest(tmp_path: Path) -> None:
    ward = Watched(tmp_path, rounds=1, keep_evidence=True, dimension=LONG)
    ward.run()
    made = export_evidence(ward.folder.root, 1, tmp_path / "out")
    index = EvidenceIndex.from_json((made / "evidence.json").read_bytes())
    session = next(iter(ward.ledger.state.sids.values()))
    assert (index.sid, index.round, index.charter) == (session.sid, 1, ward.terms.digest)
    assert sorted(row.role for row in index.files) == sorted(
        ["keys", "shares", "masked-update", "opened-shares"] * 4 + ["ring-sum"]
    )
    for row in index.files:
        assert blob_digest((made / "blobs" / row.digest).read_bytes()) == row.digest
    with pytest.raises(ConfigError, match="already"):
        export_evidence(ward.folder.root, 1, tmp_path / "out")


def test_there_is_nothing_to_export_of_a_round_without_sum_or_evidence(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run()
    with pytest.raises(ConfigError, match="was shredded"):
        export_evidence(ward.folder.root, 1, tmp_path / "out")
    with pytest.raises(ConfigError, match="no published sum"):
        export_evidence(ward.folder.root, 7, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_payload_that_is_gone_stops_the_export_without_a_half_written_folder(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1, keep_evidence=True)
    ward.run()
    session = next(iter(ward.ledger.state.sids.values()))
    ward.blobs.remove(session.u3["site-c"])
    with pytest.raises(StoreError, match="site-c"):
        export_evidence(ward.folder.root, 1, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []
