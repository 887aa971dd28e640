"""Key custody at a site: made or imported once, private, and only ever the one that the charter names."""

from __future__ import annotations

import stat
import sys
from pathlib import Path

import pytest

from fedmedlora_cli.__main__ import main
from fedmedlora_core.errors import ConfigError
from fedmedlora_crypto.ckks import PublicContext, generate
from fedmedlora_crypto.ckks import library as library_module
from fedmedlora_site import custody
from fedmedlora_site.acceptance import accept
from fedmedlora_site.errors import AcceptanceError, FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.holdings import Holdings
from fedmedlora_testkit.ckks import ckks_overrides, key_pair
from fedmedlora_testkit.stage_site import make_site, staged_study


def site(root: Path, kind: str = "holder", holder: str = "site-a") -> Path:
    """A site that accepted a CKKS study and holds what the custody says."""
    return make_site(root, staged_study(**ckks_overrides(kind, holder)))


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A site of a masked study: no key."""
    return make_site(tmp_path / "bare", staged_study())


@pytest.mark.parametrize(("kind", "holder", "decrypts"), [
    ("holder", "site-a", True), ("holder", "site-b", False), ("shared", "", True),
])  # fmt: skip
def test_a_site_holds_exactly_what_the_custody_gives_it(
    tmp_path: Path, kind: str, holder: str, decrypts: bool
) -> None:
    """R6.16.5."""
    held = Holdings.open(site(tmp_path, kind, holder)).custody
    assert held is not None
    assert (held.secret is not None) is decrypts
    assert repr(held) == f"Custody(decrypts={decrypts})"
    assert held.context.digest == key_pair()[0].digest


def test_a_masked_study_has_no_custody(bare: Path) -> None:
    assert Holdings.open(bare).custody is None


def test_a_key_is_made_once_and_is_private(bare: Path, tmp_path: Path) -> None:
    out, copy = tmp_path / "context.bin", tmp_path / "copy.key"
    digest = custody.make_key(bare, out, shared_key_out=copy)
    assert PublicContext.decode(out.read_bytes()).digest == digest
    for secret in (SiteFolder(bare).ckks_secret, copy):
        assert stat.S_IMODE(secret.stat().st_mode) == 0o600
        assert secret.read_bytes() not in out.read_bytes()
    with pytest.raises(ConfigError, match="never overwritten"):
        custody.make_key(bare, tmp_path / "again.bin")


def test_an_imported_key_has_to_fit_the_context(bare: Path, tmp_path: Path) -> None:
    """R6.16.7."""
    context, secret = key_pair()
    _, other = generate()
    files = {}
    for name, data in {"context": context.encode(), "key": secret.encode(), "other": other.encode()}.items():
        files[name] = tmp_path / name
        files[name].write_bytes(data)
        files[name].chmod(0o600)
    with pytest.raises(FolderError, match="another CKKS context"):
        custody.import_key(bare, files["other"], context=files["context"])
    with pytest.raises(FolderError, match="not a CKKS key file"):
        custody.import_key(bare, files["context"], context=files["context"])
    with pytest.raises(ConfigError, match="accept the study first"):
        custody.import_key(bare, files["key"])
    assert not SiteFolder(bare).ckks_secret.exists(), "a refusal writes nothing"
    assert custody.import_key(bare, files["key"], context=files["context"]) == context.digest
    assert custody.import_key(bare, files["key"], context=files["context"]) == context.digest
    SiteFolder(bare).ckks_secret.unlink()
    custody.make_key(bare, tmp_path / "new.bin")
    with pytest.raises(ConfigError, match="holds another key"):
        custody.import_key(bare, files["key"], context=files["context"])


def test_a_key_that_others_can_read_is_not_imported(bare: Path, tmp_path: Path) -> None:
    context, secret = key_pair()
    (tmp_path / "context").write_bytes(context.encode())
    (tmp_path / "key").write_bytes(secret.encode())
    (tmp_path / "key").chmod(0o644)
    with pytest.raises(FolderError, match="others can read"):
        custody.import_key(bare, tmp_path / "key", context=tmp_path / "context")


@pytest.mark.parametrize("defect", ["missing", "another", "changed"])
def test_an_agent_does_not_start_without_the_charters_key(tmp_path: Path, defect: str) -> None:
    root = site(tmp_path)
    secret = SiteFolder(root).ckks_secret
    secret.unlink()
    if defect != "missing":
        data = generate()[1].encode() if defect == "another" else key_pair()[1].encode()[:-1]
        secret.write_bytes(data)
        secret.chmod(0o600)
    with pytest.raises(FolderError, match=r"ckks\.key"):
        Holdings.open(root)


def test_an_agent_does_not_start_with_another_context(tmp_path: Path) -> None:
    root = site(tmp_path, holder="site-b")
    context = SiteFolder(root).ckks_context
    context.write_bytes(generate()[0].encode())
    with pytest.raises(FolderError, match="is not the CKKS context"):
        Holdings.open(root)
    context.write_bytes(b"short")
    with pytest.raises(FolderError, match="is not a public CKKS context"):
        Holdings.open(root)


@pytest.mark.parametrize("defect", ["missing", "another", "secret", "altered"])
def test_a_study_whose_context_is_not_the_charters_is_not_accepted(tmp_path: Path, defect: str) -> None:
    """R6.16.7: also a package that gives the secret key away, or a key with a coefficient out of range."""
    root = site(tmp_path, holder="site-b")
    file = tmp_path / "package" / "ckks-context.bin"
    context, secret = key_pair()
    file.unlink()
    data = {
        "another": generate()[0].encode(),
        "secret": secret.encode(),
        "altered": context.encode()[:-8] + b"\xff" * 8,
    }.get(defect)
    if data is not None:
        file.write_bytes(data)
    with pytest.raises(AcceptanceError, match=r"ckks-context\.bin"):
        accept(root, tmp_path / "package")


def test_a_site_without_the_library_hears_it_before_the_charter_is_recorded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = site(tmp_path, holder="site-b")
    library_module.library.cache_clear()
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(AcceptanceError, match=r"install fedmedlora\[ckks\]"):
        accept(root, tmp_path / "package")
    library_module.library.cache_clear()


def test_the_commands_make_a_key_and_hand_it_over(
    bare: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    context, key = tmp_path / "context.bin", tmp_path / "ckks.key"
    other = make_site(tmp_path / "other", staged_study())

    def command(*arguments: object) -> int:
        with pytest.raises(SystemExit) as ended:
            main([str(argument) for argument in arguments])
        return int(ended.value.code or 0)

    made = command("site", "ckks-key", "--dir", bare, "--out", context, "--shared-key-out", key)
    assert made == 0
    assert command("site", "ckks-import", key, "--dir", other, "--context", context) == 0
    spoken = capsys.readouterr().out
    digest = PublicContext.decode(context.read_bytes()).digest
    assert spoken.count(digest) == 2
    assert "SECRET" in spoken and "could now read single updates" in spoken
    assert command("site", "ckks-key", "--dir", bare, "--out", tmp_path / "again.bin") == 2
    cards = ("--coordinator-card", "x", "--member", "y")
    assert command("study", "new", "--out", tmp_path / "s", "--id", "s", *cards, "--secure", "ckks") == 2
    assert "--ckks-context" in capsys.readouterr().err


def test_sizes_are_known_before_a_round() -> None:
    plan = custody.size_plan(staged_study(**ckks_overrides()))
    assert plan is not None
    assert plan.upload_bytes == 131072
    assert plan.site_seconds == 0, "nothing measured, nothing claimed"
    measured = custody.size_plan(staged_study(**ckks_overrides()), measured=True)
    assert measured is not None and measured.site_seconds > 0
    assert custody.size_plan(staged_study()) is None
