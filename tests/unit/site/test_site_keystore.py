"""Private keys of a site: made once, private, never shown."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from fedmedlora_audit.note import ALG_COSIGNATURE, ALG_COSIGNATURE_MLDSA
from fedmedlora_site.errors import FolderError
from fedmedlora_site.keystore import Keystore


def test_keys_survive_the_disk(tmp_path: Path) -> None:
    keys = Keystore.generate("site-a")
    keys.save(tmp_path / "keys")
    assert Keystore.load(tmp_path / "keys", "site-a") == keys


def test_every_key_file_is_private(tmp_path: Path) -> None:
    Keystore.generate("site-a").save(tmp_path / "keys")
    files = list((tmp_path / "keys").iterdir())
    assert len(files) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    assert stat.S_IMODE((tmp_path / "keys").stat().st_mode) == 0o700


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    keys = Keystore.generate("site-a")
    keys.save(tmp_path / "keys")
    with pytest.raises(FileExistsError):
        Keystore.generate("site-a").save(tmp_path / "keys")
    assert Keystore.load(tmp_path / "keys", "site-a") == keys


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    Keystore.generate("site-a").save(tmp_path / "keys")
    (tmp_path / "keys" / "event.seed").chmod(mode)
    with pytest.raises(FolderError, match="others can read"):
        Keystore.load(tmp_path / "keys", "site-a")


def test_a_key_of_another_length_is_refused(tmp_path: Path) -> None:
    Keystore.generate("site-a").save(tmp_path / "keys")
    path = tmp_path / "keys" / "storage.key"
    path.write_bytes(b"short")
    with pytest.raises(FolderError, match="expected 32 bytes"):
        Keystore.load(tmp_path / "keys", "site-a")


def test_a_key_behind_a_link_is_refused(tmp_path: Path) -> None:
    Keystore.generate("site-a").save(tmp_path / "keys")
    path = tmp_path / "keys" / "event.seed"
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FolderError):
        Keystore.load(tmp_path / "keys", "site-a")


def test_nothing_secret_is_shown() -> None:
    keys = Keystore.generate("site-a")
    shown = repr(keys)
    for secret in (keys.event_seed, keys.witness_seed, keys.storage_key, keys.round_secret, keys.tls_key_pem):
        assert repr(secret) not in shown
        assert secret.hex() not in shown
    assert "site-a" in shown


def test_event_and_witness_keys_are_of_their_roles() -> None:
    keys = Keystore.generate("site-a")
    assert keys.event_signer.vkey != keys.witness_signer.vkey
    assert keys.witness_signer.verifier.algorithm == ALG_COSIGNATURE
    assert keys.event_signer.name == "site-a"


def test_rounding_keys_differ_by_round_and_study_and_repeat() -> None:
    keys = Keystore.generate("site-a")
    seen = {keys.rounding_key(study, number) for study in ("one", "two") for number in (1, 2, 11)}
    assert len(seen) == 6
    assert keys.rounding_key("one", 1) == keys.rounding_key("one", 1)
    assert keys.rounding_key("one", 1) != Keystore.generate("site-a").rounding_key("one", 1)


def test_the_kind_of_the_witness_key_is_kept_with_it(tmp_path: Path) -> None:
    drawn = Keystore.generate("site-a", witness_kind="ml-dsa-44")
    drawn.save(tmp_path / "keys")
    assert (tmp_path / "keys" / "witness-ml-dsa-44.seed").exists()
    loaded = Keystore.load(tmp_path / "keys", "site-a")
    assert loaded == drawn
    assert loaded.witness_signer.verifier.algorithm == ALG_COSIGNATURE_MLDSA
    (tmp_path / "keys" / "witness.seed").write_bytes(bytes(32))
    with pytest.raises(FolderError, match="two witness keys"):
        Keystore.load(tmp_path / "keys", "site-a")
