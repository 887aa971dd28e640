"""`coordinator init` and `coordinator invite`: what is made, what is private, what is refused whole."""

from __future__ import annotations

import datetime as dt
import json
import stat
from pathlib import Path

import pytest
from cryptography import x509

from fedmedlora_audit.note import VerifierKey
from fedmedlora_coordinator import invites, setup
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.settings import CoordinatorSettings
from fedmedlora_core.errors import ConfigError

NOW = dt.datetime(2026, 1, 2, 3, 4, 5, tzinfo=dt.UTC)


def make(tmp_path: Path) -> tuple[Folder, setup.Initialised]:
    root = tmp_path / "coordinator"
    made = setup.init(
        root, name="North Sea", address="fed.example:7001", enrolment_address="10.0.0.1:7002", now=NOW
    )
    return Folder(root), made


def test_init_makes_a_folder_whose_secrets_only_the_owner_reads(tmp_path: Path) -> None:
    folder, made = make(tmp_path)
    for path in (folder.ca_key, folder.tls_key, folder.log_key, folder.event_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.root.stat().st_mode) == 0o700
    assert VerifierKey.parse(made.log_vkey).name == "north-sea"
    assert VerifierKey.parse(made.coordinator_vkey).name == "coordinator"
    assert Authority.load(folder).fingerprint == made.ca_fingerprint
    assert CoordinatorSettings.load(folder.config).coordinator.listen == "0.0.0.0:7001"
    assert [p.name for p in tmp_path.iterdir()] == ["coordinator"]


def test_the_server_certificate_names_the_hosts_and_the_fixed_name(tmp_path: Path) -> None:
    folder, _ = make(tmp_path)
    certificate = x509.load_pem_x509_certificate(folder.tls_certificate.read_bytes())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["coordinator", "fed.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.1"]
    certificate.verify_directly_issued_by(Authority.load(folder).certificate)


@pytest.mark.parametrize(
    ("address", "enrolment"),
    [("nowhere", "h:1"), ("h:0", "h:1"), ("h:70000", "h:1"), ("h:7001", "h:7001"), (":7001", "h:1")],
)
def test_init_refuses_bad_addresses_and_leaves_nothing(tmp_path: Path, address: str, enrolment: str) -> None:
    with pytest.raises(ConfigError, match=r"^[^\n]+$"):
        setup.init(tmp_path / "c", name="n", address=address, enrolment_address=enrolment)
    assert list(tmp_path.iterdir()) == []


def test_init_refuses_a_folder_in_use(tmp_path: Path) -> None:
    (tmp_path / "c").mkdir()
    (tmp_path / "c" / "mine").write_text("x")
    with pytest.raises(ConfigError, match="not empty"):
        setup.init(tmp_path / "c", name="n", address="h:1", enrolment_address="h:2")
    assert (tmp_path / "c" / "mine").read_text() == "x"


def test_an_unknown_key_names_the_nearest_one(tmp_path: Path) -> None:
    folder, _ = make(tmp_path)
    text = folder.config.read_text().replace("grace_seconds = 120.0", "grace_second = 30.0", 1)
    folder.config.write_text(text)
    with pytest.raises(ConfigError, match=r"timing\.grace_second'; did you mean 'grace_seconds'"):
        CoordinatorSettings.load(folder.config)


def test_an_invitation_holds_the_only_copy_of_its_token(tmp_path: Path) -> None:
    folder, made = make(tmp_path)
    path = invites.invite(folder.root, "site-a", hours=1, now=NOW)
    invitation = json.loads(path.read_text())
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert invitation["ca_fingerprint"] == made.ca_fingerprint
    assert invitation["expires"] == "2026-01-02T04:04:05Z"
    assert len(invitation["token"]) == 43
    for other in folder.root.rglob("*"):
        if other.is_file() and other != path:
            assert invitation["token"].encode() not in other.read_bytes()


@pytest.mark.parametrize("site", ["", "Site", "a" * 33, "a/b", "coordinator"])
def test_invite_refuses_ids_that_are_none(tmp_path: Path, site: str) -> None:
    folder, _ = make(tmp_path)
    with pytest.raises(ConfigError, match="site id"):
        invites.invite(folder.root, site)
    assert list(folder.invitations.iterdir()) == []


def test_invite_without_a_coordinator_folder_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="coordinator init"):
        invites.invite(tmp_path, "site-a")


def test_a_folder_is_served_once_at_a_time(tmp_path: Path) -> None:
    folder, _ = make(tmp_path)
    with folder.locked(), pytest.raises(ConfigError, match="another coordinator"), folder.locked():
        pass
    with folder.locked():
        pass
