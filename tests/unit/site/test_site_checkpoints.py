"""States of an unfinished training in the vault: encrypted, rationed by time, gone when changed on disk."""

from __future__ import annotations

from pathlib import Path

from fedmedlora_site.checkpoints import CHECKPOINT_NAME, VaultCheckpoints
from fedmedlora_site.vault import Vault

KEY = bytes(range(32))
STATE = b"a half-trained adapter " * 100


def test_a_state_is_kept_encrypted_and_replaced(tmp_path: Path) -> None:
    checkpoints = VaultCheckpoints(Vault(tmp_path, KEY), 0)
    assert checkpoints.read() is None
    checkpoints.write(b"earlier")
    checkpoints.write(STATE)
    assert VaultCheckpoints(Vault(tmp_path, KEY), 0).read() == STATE
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert len(stored) > len(STATE)
    assert b"half-trained" not in stored
    checkpoints.clear()
    assert list(tmp_path.iterdir()) == []


def test_a_state_that_was_changed_or_has_another_key_is_none(tmp_path: Path) -> None:
    VaultCheckpoints(Vault(tmp_path, KEY), 0).write(STATE)
    assert VaultCheckpoints(Vault(tmp_path, bytes(32)), 0).read() is None
    file = Vault(tmp_path, KEY).path(CHECKPOINT_NAME)
    damaged = bytearray(file.read_bytes())
    damaged[-1] ^= 1
    file.write_bytes(damaged)
    assert VaultCheckpoints(Vault(tmp_path, KEY), 0).read() is None


def test_states_are_rationed_by_the_clock(tmp_path: Path) -> None:
    now = [100.0]
    checkpoints = VaultCheckpoints(Vault(tmp_path, KEY), 60.0, clock=lambda: now[0])
    assert not checkpoints.due()
    now[0] = 160.0
    assert checkpoints.due()
    checkpoints.write(STATE)
    assert not checkpoints.due()
