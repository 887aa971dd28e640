"""Updates at rest are encrypted and bound to their names."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_site.errors import FolderError
from fedmedlora_site.vault import Vault

KEY = bytes(range(32))


def test_vectors_come_back_to_the_bit(tmp_path: Path) -> None:
    vault = Vault(tmp_path, KEY)
    floats = np.array([0.0, -1.5, np.pi], dtype=np.float32)
    ring = np.array([0, 2**32 - 1, 77], dtype=np.uint32)
    vault.store_floats("f", floats)
    vault.store_ring("r", ring)
    assert vault.load_floats("f").tobytes() == floats.tobytes()
    assert vault.load_ring("r").tolist() == ring.tolist()
    vault.load_ring("r")[0] = 5  # a fresh, writable array
    assert vault.names() == ["f", "r"]


def test_nothing_lies_on_the_disk_in_the_clear(tmp_path: Path) -> None:
    data = secrets.token_bytes(256)
    Vault(tmp_path, KEY).store("update", data)
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert all(data[i : i + 16] not in found for i in range(0, 240, 16))


@pytest.mark.parametrize("at", [0, 25, 40, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, at: int) -> None:
    vault = Vault(tmp_path, KEY)
    vault.store("update", b"x" * 64)
    blob = bytearray(vault.path("update").read_bytes())
    blob[at] ^= 1
    vault.path("update").write_bytes(blob)
    with pytest.raises(FolderError, match="changed on disk"):
        vault.load("update")


def test_files_cannot_be_exchanged(tmp_path: Path) -> None:
    vault = Vault(tmp_path, KEY)
    vault.store("update-00001", b"one")
    vault.path("update-00001").rename(vault.path("update-00002"))
    with pytest.raises(FolderError):
        vault.load("update-00002")


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    Vault(tmp_path, KEY).store("update", b"x")
    with pytest.raises(FolderError):
        Vault(tmp_path, bytes(32)).load("update")


def test_what_is_deleted_is_gone(tmp_path: Path) -> None:
    vault = Vault(tmp_path, KEY)
    vault.store("update", b"x")
    vault.delete("update")
    vault.delete("update")
    assert not vault.holds("update")
    with pytest.raises(FolderError, match="missing"):
        vault.load("update")
    assert "x" not in repr(vault)
