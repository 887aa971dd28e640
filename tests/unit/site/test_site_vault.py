"""Updates at rest are encrypted and bound to their names."""

from __future__ import annotations

import secrets
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_site.errors import FolderError
from fedmedlora_site.vault import CHUNK_BYTES, Vault

KEY = bytes(range(32))


def test_vectors_come_back_to_the_bit(tmp_path: Path) -> None:
    vault = Vault(tmp_path, KEY)
    floats = np.array([0.0, -1.5, np.pi], dtype=np.float32)
    ring = np.array([0, 2**32 - 1, 77], dtype=np.uint32)
    vault.store_floats("f", floats)
    vault.store_ring("r", ring)
    loaded, room = vault.load_floats("f", spare=2)
    assert loaded.tobytes() == floats.tobytes() == room[:-2].tobytes()
    assert np.shares_memory(loaded, room)
    assert vault.load_ring("r").tolist() == ring.tolist()
    vault.load_ring("r")[0] = 5  # a fresh, writable array
    assert vault.names() == ["f", "r"]


def test_nothing_lies_on_the_disk_in_the_clear(tmp_path: Path) -> None:
    data = secrets.token_bytes(256)
    Vault(tmp_path, KEY).store("update", data)
    found = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert all(data[i : i + 16] not in found for i in range(0, 240, 16))


@pytest.mark.parametrize("at", [0, 30, 70, -1])
def test_a_changed_byte_is_noticed(tmp_path: Path, at: int) -> None:
    vault = Vault(tmp_path, KEY)
    vault.store("update", b"x" * 64)
    blob = bytearray(vault.path("update").read_bytes())
    blob[at] ^= 1
    vault.path("update").write_bytes(blob)
    with pytest.raises(FolderError, match="changed on disk"):
        vault.load("update")


LONG = bytes(range(256)) * 4096 + bytes(range(255, -1, -1)) * 4096 + b"tail"  # three chunks
HEADER = len(b"fedmedlora/v1/vault-stream\0") + 32
SEALED = CHUNK_BYTES + 16


def chunks_of(path: Path) -> tuple[bytes, list[bytes]]:
    blob = path.read_bytes()
    return blob[:HEADER], [blob[at : at + SEALED] for at in range(HEADER, len(blob), SEALED)]


@pytest.mark.parametrize("size", [0, 1, CHUNK_BYTES - 1, CHUNK_BYTES, CHUNK_BYTES + 1, len(LONG)])
def test_every_length_comes_back(tmp_path: Path, size: int) -> None:
    vault = Vault(tmp_path, KEY)
    vault.store("update", LONG[:size])
    assert vault.load("update") == LONG[:size]


@pytest.mark.parametrize(
    "order", [[0, 1], [0], [], [1, 0, 2], [0, 2], [0, 1, 2, 2], [0, 1, 1, 2], [2, 1, 0], [2]]
)
def test_chunks_cannot_be_cut_off_moved_or_repeated(tmp_path: Path, order: list[int]) -> None:
    # R4.5.8
    vault = Vault(tmp_path, KEY)
    vault.store("update", LONG)
    header, chunks = chunks_of(vault.path("update"))
    vault.path("update").write_bytes(header + b"".join(chunks[at] for at in order))
    with pytest.raises(FolderError, match="changed on disk"):
        vault.load("update")
    vault.path("update").write_bytes(header + b"".join(chunks))
    assert vault.load("update") == LONG


@pytest.mark.parametrize("nonce", ["number", "last"])
def test_without_number_and_end_in_the_nonce_chunks_can_be_moved_or_cut_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nonce: str
) -> None:
    weak = {
        "number": lambda index, last: bytes(11) + bytes([last]),
        "last": lambda index, last: index.to_bytes(12),
    }
    monkeypatch.setattr("fedmedlora_site.vault._nonce", weak[nonce])
    vault = Vault(tmp_path, KEY)
    vault.store("update", LONG)
    header, chunks = chunks_of(vault.path("update"))
    kept = [chunks[1], chunks[0], chunks[2]] if nonce == "number" else chunks[:2]
    vault.path("update").write_bytes(header + b"".join(kept))
    assert vault.load("update") != LONG


def test_chunks_of_two_files_do_not_mix(tmp_path: Path) -> None:
    vault = Vault(tmp_path, KEY)
    vault.store("update", LONG)
    first_header, first = chunks_of(vault.path("update"))
    vault.store("update", LONG)
    second_header, second = chunks_of(vault.path("update"))
    assert first != second
    for mixed in (first_header + b"".join([first[0], second[1], first[2]]), second_header + b"".join(first)):
        vault.path("update").write_bytes(mixed)
        with pytest.raises(FolderError):
            vault.load("update")


def test_a_file_that_holds_no_vector_is_refused(tmp_path: Path) -> None:
    vault = Vault(tmp_path, KEY)
    vault.store("update", b"abc")
    with pytest.raises(FolderError, match="does not hold a vector"):
        vault.load_ring("update")
    with pytest.raises(ValueError, match="32 bytes"):
        Vault(tmp_path, KEY[:16])


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
