"""Real processes: a certificate is renewed while a study runs, another is revoked, a third has expired."""

from __future__ import annotations

import asyncio
import datetime as dt
import json
import signal
from contextlib import suppress
from pathlib import Path
from subprocess import Popen, TimeoutExpired

import pytest
from cryptography.hazmat.primitives import serialization

from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.certificate_commands import listed, revoke
from fedmedlora_coordinator.database import transaction
from fedmedlora_coordinator.enrolment_tables import record_certificate
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.invites import invite
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.reports import replayed, require_study
from fedmedlora_coordinator.settings import CoordinatorSettings, Timing
from fedmedlora_site.client import FederationClient
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.enrolment import enroll
from fedmedlora_site.errors import CertificateError, EnrolmentError, RejectedError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.renewal import renew
from fedmedlora_site.tls_identity import TlsIdentity
from fedmedlora_testkit.certified import certify
from fedmedlora_testkit.rehearsal import Federation, enrolling, finish

PATIENT = Timing(
    grace_seconds=2.0, ready_grace_seconds=2.0, abort_seconds=60.0, step_seconds=60.0, training_seconds=60.0
)


def await_event(path: Path, wanted: dict[str, object], process: Popen[bytes]) -> None:
    """Follow the coordinator's progress until an event has these values."""
    with path.open("rb") as lines:
        while True:
            line = lines.readline()
            if line.startswith(b"{") and line.endswith(b"\n") and wanted.items() <= json.loads(line).items():
                return
            if not line:
                with suppress(TimeoutExpired):
                    process.wait(0.05)
                    raise AssertionError(f"{path} ended without {wanted}")


async def answer_to(identity: TlsIdentity, config: SiteConfig) -> str:
    """What the coordinator says to a certificate."""
    client = FederationClient(config.site.coordinator_address, identity.credentials, config.network)
    try:
        return await client.confirm()
    except RejectedError as exc:
        return exc.reason
    finally:
        await client.close()


def test_a_study_goes_on_while_a_certificate_is_renewed_and_another_revoked(tmp_path: Path) -> None:
    """site-b and site-c stand still meanwhile, so that round 2 is open when the certificates change."""
    federation = Federation.build(tmp_path, rounds=2, timing=PATIENT)
    folder = Folder(federation.coordinator_root)
    old = TlsIdentity.load(SiteFolder(federation.site_root("site-a")))
    config = SiteConfig.load(federation.site_root("site-a") / "site.toml")
    coordinator = federation.coordinator()
    sites = {site: federation.site(site) for site in federation.ids}
    try:
        progress = tmp_path / "coordinator.log"
        await_event(progress, {"event": "round.closed", "round": 1}, coordinator)
        for site in ("site-b", "site-c"):
            sites[site].send_signal(signal.SIGSTOP)

        assert renew(federation.site_root("site-a")).confirmed
        new = TlsIdentity.load(SiteFolder(federation.site_root("site-a")))
        assert asyncio.run(answer_to(new, config)) == new.peer.serial
        assert asyncio.run(answer_to(old, config)) == "certificate_renewed"

        assert revoke(folder.root, "site-d", "key-compromised") == 1
        assert finish(sites["site-d"]) == 1
        assert "has revoked this site's certificate" in (tmp_path / "site-d.log").read_text()
        assert sites["site-a"].poll() is None
        for site in ("site-b", "site-c"):
            sites[site].send_signal(signal.SIGCONT)
        assert finish(coordinator) == 0
        assert [finish(sites[site]) for site in ("site-a", "site-b", "site-c")] == [0, 0, 0]
    finally:
        for process in (coordinator, *sites.values()):
            process.kill()
            process.wait()

    state, entries = replayed(folder, require_study(folder))
    assert [closed.round for closed in state.closed_rounds] == [1, 2]
    last = [entry.event for entry in entries if entry.event.round == 2]
    accepted = {event.actor.id for event in last if event.type == "aggregate.accepted"}
    assert accepted == {"site-a", "site-b", "site-c"}
    states = [(row["site"], row["state"]) for row in listed(folder.root) if row["of"] == "site"]
    assert states[:2] == [("site-a", "renewed"), ("site-a", "valid")]
    assert states[-1] == ("site-d", "revoked")


def test_after_expiry_an_invitation_and_the_event_key_bring_the_same_site_back(tmp_path: Path) -> None:
    # R2.1.6
    federation = Federation.build(tmp_path, ids=("site-a", "site-b", "site-c"))
    root, folder = federation.coordinator_root, SiteFolder(federation.site_root("site-a"))
    card = folder.card.read_text()
    past = dt.datetime(2020, 1, 1, tzinfo=dt.UTC)
    expired = certify(folder, "site-a", Authority.load(Folder(root)), now=past)
    engine = enrolment_database(Folder(root)).open_shared()
    with transaction(engine, "entering") as connection:
        record_certificate(connection, "site-a", expired, past)
    engine.dispose()
    with pytest.raises(CertificateError, match=r"expired on 2022-04-05.*coordinator invite site-a --again"):
        renew(folder.root)
    invitation = invite(root, "site-a", again=True, out=tmp_path / "again.json")
    address = CoordinatorSettings.load(Folder(root).config).coordinator.enrolment_address
    with enrolling(root, address):
        with pytest.raises(EnrolmentError, match="is for an enrolled site"):
            enroll(invitation, tmp_path / "impostor")
        with pytest.raises(CertificateError, match="for another site"):
            renew(federation.site_root("site-b"), invitation=invitation)
        made = renew(folder.root, invitation=invitation)
    held = TlsIdentity.load(folder)
    assert held.ends == made.ends > dt.datetime.now(dt.UTC) + dt.timedelta(days=800)
    assert not made.confirmed  # no study is served; the new one is used when it is
    assert folder.card.read_text() == card
    assert serialization.load_pem_private_key(folder.tls_key.read_bytes(), None)
    assert not folder.next_tls_key.exists()
