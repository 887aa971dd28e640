"""What a certificate that stands in no register costs: one reading, however often it calls."""

from __future__ import annotations

import datetime as dt
from pathlib import Path

import pytest

from fedmedlora_coordinator import setup
from fedmedlora_coordinator.admission import Admission
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.certificates import Certificates, IssuedCertificate
from fedmedlora_coordinator.database import transaction
from fedmedlora_coordinator.enrolment_tables import record_certificate
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.register import Register
from fedmedlora_protos.wire import Reason, read_certificate
from fedmedlora_testkit.certificates import member_certificate

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Counting(Certificates):
    """The register, with a count of how often it was read."""

    readings = 0

    def all(self) -> list[IssuedCertificate]:
        self.readings += 1
        return super().all()


def enter(folder: Folder, site: str, pem: bytes) -> None:
    engine = enrolment_database(folder).open_shared()
    with transaction(engine, "entering certificates") as connection:
        record_certificate(connection, site, pem, NOW)
    engine.dispose()


def test_an_unknown_certificate_costs_one_reading_however_often_it_calls(tmp_path: Path) -> None:
    # R3.1.5
    setup.init(tmp_path, name="n", address="h:1", enrolment_address="h:2", now=NOW)
    folder = Folder(tmp_path)
    Register(enrolment_database(folder)).close()
    authority = Authority.load(folder)
    (_, minted), (_, issued) = (member_certificate(authority, site, now=NOW) for site in ("site-a", "site-b"))
    register = Counting(enrolment_database(folder))
    admission = Admission(register, lambda: NOW)
    began = register.readings
    for _ in range(50):
        with pytest.raises(PeerRefusedError) as caught:
            admission.check(read_certificate(minted))
        assert caught.value.reason is Reason.CERTIFICATE_UNKNOWN
    assert register.readings == began + 1
    enter(folder, "site-b", issued)
    admission.check(read_certificate(issued))  # one that was issued a moment ago gets in at once
    enter(folder, "site-a", minted)  # as when a register is restored
    admission.refresh()  # as every second
    admission.check(read_certificate(minted))
    register.close()
