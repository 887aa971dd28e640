"""Blobs: resumable uploads, proofs on every chunk, damage noticed on reading."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit.blob import BlobTree, blob_leaves
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.errors import PeerRefusedError, StoreError
from fedmedlora_protos.wire import Reason

DATA = np.arange(1 << 19, dtype="<u4").tobytes() + b"tail"  # two whole chunks and a short one


KEY = bytes(range(32))
Open = Callable[..., BlobStore]


@pytest.fixture(params=["plain", "sealed"])
def opened(request: pytest.FixtureRequest) -> Open:
    """Opens a store, with and without the encryption of what sites send."""
    return partial(BlobStore, storage_key=KEY if request.param == "sealed" else None)


class Upload:
    """The sender's side of one blob."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.tree = BlobTree(blob_leaves(data), len(data))
        self.digest = self.tree.digest

    def send(self, store: BlobStore, index: int, *, owner: str = "site-a", data: bytes = b"") -> int | None:
        chunk = data or self.data[index * CHUNK_BYTES : (index + 1) * CHUNK_BYTES]
        return store.put_chunk(
            owner,
            digest=self.digest,
            total_bytes=len(self.data),
            index=index,
            data=chunk,
            proof=tuple(self.tree.proof(index)),
        )


def test_chunks_in_any_order_make_a_blob(tmp_path: Path, opened: Open) -> None:
    # R3.2.1
    store, upload = opened(tmp_path), Upload(DATA)
    assert store.query(upload.digest, len(DATA)) == 0
    assert upload.send(store, 2) == 0
    assert upload.send(store, 0) == 1
    assert store.size(upload.digest) is None
    assert upload.send(store, 1) is None
    assert store.read(upload.digest) == DATA
    assert store.query(upload.digest, len(DATA)) is None
    assert upload.send(store, 1) is None  # again: no harm
    assert list((tmp_path / "incoming").iterdir()) == []


def test_an_upload_goes_on_in_a_new_process(tmp_path: Path, opened: Open) -> None:
    upload = Upload(DATA)
    upload.send(opened(tmp_path), 0)
    store = opened(tmp_path)
    assert store.query(upload.digest, len(DATA)) == 1
    upload.send(store, 1)
    assert upload.send(store, 2) is None
    assert store.read(upload.digest) == DATA


def test_a_chunk_torn_by_a_crash_is_asked_for_again(tmp_path: Path, opened: Open) -> None:
    upload = Upload(DATA)
    upload.send(opened(tmp_path), 0)
    part = next((tmp_path / "incoming").glob("*.part"))
    content = bytearray(part.read_bytes())
    content[1000] ^= 1
    part.write_bytes(content)
    store = opened(tmp_path)
    assert store.query(upload.digest, len(DATA)) == 0


def test_a_kill_between_last_chunk_and_move_is_made_good(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, opened: Open
) -> None:
    upload, store = Upload(DATA), opened(tmp_path)

    def killed(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(store, "_install", killed)
    upload.send(store, 0)
    upload.send(store, 1)
    with pytest.raises(KeyboardInterrupt):
        upload.send(store, 2)
    restarted = opened(tmp_path)
    assert restarted.query(upload.digest, len(DATA)) == 0 or restarted.size(upload.digest) == len(DATA)
    assert restarted.read(upload.digest) == DATA


def test_a_wrong_chunk_is_refused_and_the_rest_is_kept(tmp_path: Path, opened: Open) -> None:
    store, upload = opened(tmp_path), Upload(DATA)
    upload.send(store, 0)
    for bad in (bytes(CHUNK_BYTES), DATA[:CHUNK_BYTES]):
        with pytest.raises(PeerRefusedError) as caught:
            upload.send(store, 1, data=bad)
        assert caught.value.reason is Reason.BAD_CHUNK
    assert store.query(upload.digest, len(DATA)) == 1


def test_limits_are_kept(tmp_path: Path, opened: Open) -> None:
    store = opened(tmp_path, max_blob_bytes=len(DATA), max_open_uploads=1)
    upload, second = Upload(DATA), Upload(DATA[:-1])
    upload.send(store, 0)
    with pytest.raises(PeerRefusedError) as caught:
        second.send(store, 0)
    assert caught.value.reason is Reason.TOO_MANY
    second.send(store, 0, owner="site-b")
    with pytest.raises(PeerRefusedError) as caught:
        Upload(DATA + b"x").send(store, 0, owner="site-c")
    assert caught.value.reason is Reason.TOO_LARGE


def test_own_blobs_are_served_with_proofs(tmp_path: Path, opened: Open) -> None:
    store = opened(tmp_path)
    digest = store.put_bytes(DATA)
    assert digest == Upload(DATA).digest == store.put_bytes(DATA)
    total, data, proof = opened(tmp_path).chunk(digest, 2)
    assert (total, data) == (len(DATA), b"tail")
    assert proof == Upload(DATA).tree.proof(2)
    for index in (3, -1):
        with pytest.raises(PeerRefusedError):
            store.chunk(digest, index)
    store.remove(digest)
    assert store.size(digest) is None


def test_a_damaged_disk_is_an_error_and_never_data(tmp_path: Path, opened: Open) -> None:
    digest = opened(tmp_path).put_bytes(DATA)
    path = next(tmp_path.glob("*/*.blob"))
    content = bytearray(path.read_bytes())
    content[CHUNK_BYTES] ^= 0x80
    path.write_bytes(content)
    store = opened(tmp_path)
    store.chunk(digest, 0)
    with pytest.raises(StoreError, match="damaged on disk at chunk 1"):
        store.chunk(digest, 1)
    with pytest.raises(StoreError, match="damaged"):
        store.read(digest)


def test_blobs_that_no_event_names_count_against_their_sender(tmp_path: Path, opened: Open) -> None:
    store = opened(tmp_path, max_open_uploads=2)
    small = [Upload(bytes([i]) * 10) for i in range(4)]
    for upload in small[:2]:
        assert upload.send(store, 0) is None
    with pytest.raises(PeerRefusedError) as caught:
        small[2].send(store, 0)
    assert caught.value.reason is Reason.TOO_MANY
    store.claim(small[0].digest)
    assert small[2].send(store, 0) is None
    store.sweep({small[0].digest})
    assert [store.size(u.digest) for u in small[:3]] == [10, None, None]
    assert small[3].send(store, 0) is None
