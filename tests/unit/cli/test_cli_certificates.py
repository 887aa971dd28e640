"""The commands on certificates: lines for people, JSON for scripts, exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from fedmedlora_cli.__main__ import main
from fedmedlora_coordinator import setup
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.database import transaction
from fedmedlora_coordinator.enrolment_tables import record_certificate
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.register import Register
from fedmedlora_site.folder import SiteFolder
from fedmedlora_testkit.certified import certified_folder, certify
from fedmedlora_testkit.house import NOW
from fedmedlora_testkit.rehearsal import free_port


@pytest.fixture
def centre(tmp_path: Path) -> Path:
    """A coordinator's folder with one certified site, whose own folder is beside it."""
    root = tmp_path / "centre"
    address = f"127.0.0.1:{free_port()}"
    setup.init(root, name="n", address=address, enrolment_address="h:2")
    authority, database = Authority.load(Folder(root)), enrolment_database(Folder(root))
    site = certified_folder(tmp_path / "st-mary", "st-mary", authority, address)
    Register(database).close()
    engine = database.open_shared()
    with transaction(engine, "entering") as connection:
        record_certificate(connection, "st-mary", site.certificate.read_bytes(), NOW)
    engine.dispose()
    return root


def ran(*arguments: str) -> int:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    return int(ended.value.code or 0)


def states(root: Path, capsys: pytest.CaptureFixture[str]) -> dict[str, str]:
    capsys.readouterr()
    assert ran("coordinator", "certificates", "--dir", str(root), "--json", "-") == 0
    rows = json.loads(capsys.readouterr().out)["certificates"]
    return {row["site"] or row["of"]: row["state"] for row in rows}


def test_certificates_are_listed_revoked_and_reinstated(
    centre: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = ("--dir", str(centre))
    assert states(centre, capsys) == {"ca": "valid", "server": "valid", "st-mary": "valid"}
    assert ran("coordinator", "revoke", "st-mary", *folder, "--reason", "machine-lost") == 0
    assert "revoked 1 certificates of 'st-mary'" in capsys.readouterr().out
    assert states(centre, capsys)["st-mary"] == "revoked"
    assert ran("coordinator", "certificates", *folder) == 0
    assert " revoked machine-lost 20" in capsys.readouterr().out
    assert ran("coordinator", "reinstate", "st-mary", *folder) == 0
    assert "may connect again" in capsys.readouterr().out
    assert states(centre, capsys)["st-mary"] == "valid"


def test_a_reason_is_of_a_closed_list(centre: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert ran("coordinator", "revoke", "st-mary", "--dir", str(centre), "--reason", "ill") == 2
    assert "a reason is one of key-compromised, site-left" in capsys.readouterr().err
    assert states(centre, capsys)["st-mary"] == "valid"


def test_the_coordinators_own_certificate_is_renewed(
    centre: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = (centre / "tls" / "server.pem").read_bytes()
    assert ran("coordinator", "renew", "--dir", str(centre)) == 0
    assert "renewed: the server certificate is valid until" in capsys.readouterr().out
    assert (centre / "tls" / "server.pem").read_bytes() != before


def test_site_renew_says_in_one_line_why_it_cannot(centre: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site = Folder(centre.parent / "st-mary").root
    assert ran("site", "renew", "--dir", str(site)) == 2  # nobody listens
    assert "renewing needs a coordinator that serves a study" in capsys.readouterr().err
    certify(SiteFolder(site), "st-mary", Authority.load(Folder(centre)), now=NOW.replace(year=2020), days=30)
    assert ran("site", "renew", "--dir", str(site)) == 1
    found = capsys.readouterr().err
    assert "expired on" in found
    assert "coordinator invite st-mary --again" in found
    assert found.count("\n") == 1
