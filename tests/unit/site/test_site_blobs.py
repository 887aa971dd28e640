"""Payload files: whole on the disk, named by their digest."""

from __future__ import annotations

from pathlib import Path

import pytest

from fedmedlora_audit.blob import verify_chunk
from fedmedlora_site.blobs import UploadFolder
from fedmedlora_site.errors import FolderError

DATA = bytes(range(256)) * 4096 * 2 + b"tail"  # three chunks


def test_every_chunk_proves_itself(tmp_path: Path) -> None:
    upload = UploadFolder(tmp_path / "uploads").store(DATA)
    assert upload.chunk_count == 3
    joined = b""
    for index in range(upload.chunk_count):
        data, proof = upload.chunk(index)
        verify_chunk(
            digest=upload.digest, total_bytes=upload.total_bytes, index=index, data=data, proof=proof
        )
        joined += data
    assert joined == DATA


def test_a_restart_sends_the_same_bytes(tmp_path: Path) -> None:
    # R5.4.4
    upload = UploadFolder(tmp_path).store(DATA)
    again = UploadFolder(tmp_path).open(upload.digest)
    assert again.chunk(2) == upload.chunk(2)
    assert again.total_bytes == len(DATA)


def test_a_changed_or_missing_file_is_noticed(tmp_path: Path) -> None:
    folder = UploadFolder(tmp_path)
    upload = folder.store(b"payload")
    upload.path.write_bytes(b"paYload")
    with pytest.raises(FolderError, match="changed on disk"):
        folder.open(upload.digest)
    upload.path.unlink()
    with pytest.raises(FolderError, match="missing"):
        folder.open(upload.digest)


def test_a_torn_write_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / ".abc.tmp").write_bytes(b"half")
    UploadFolder(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_what_is_needed_is_kept(tmp_path: Path) -> None:
    folder = UploadFolder(tmp_path)
    one, two = folder.store(b"one"), folder.store(b"two")
    folder.keep_only([two.digest])
    assert not one.path.exists()
    assert folder.open(two.digest).total_bytes == 3
