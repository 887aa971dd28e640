"""The register of certificates: who is let in, and what ends a certificate; on both kinds of store."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from sqlalchemy import text

from fedmedlora_audit.note import NoteSigner
from fedmedlora_coordinator import certificate_commands, invites
from fedmedlora_coordinator.admission import Admission
from fedmedlora_coordinator.authority import CA_DAYS
from fedmedlora_coordinator.backup import backup
from fedmedlora_coordinator.certificate_watch import CertificateWatch
from fedmedlora_coordinator.certificates import MOST_RENEWALS_A_DAY, Certificates, RevocationReason
from fedmedlora_coordinator.database import transaction
from fedmedlora_coordinator.errors import AuthorityExpiredError, PeerRefusedError
from fedmedlora_coordinator.folder import Folder
from fedmedlora_coordinator.placement import enrolment_database
from fedmedlora_coordinator.renewal import renew
from fedmedlora_coordinator.restoring import restore
from fedmedlora_coordinator.server_certificate import (
    renew_server,
    renew_server_if_due,
    server_certificate,
)
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.wire import (
    Reason,
    Renewal,
    read_certificate,
    renewal_statement,
)
from fedmedlora_testkit.enrolment_desk import DAY, NOW, Desk, make_csr, refused
from fedmedlora_testkit.places import KINDS, make_place, running_places
from fedmedlora_testkit.postgres import PostgresServer


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    yield from running_places()


@pytest.fixture(params=KINDS)
def desk(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Desk]:
    found = Desk(tmp_path / "c", make_place(request.param, tmp_path, request).url)
    yield found
    found.close()


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[Desk]:
    found = Desk(tmp_path / "c")
    yield found
    found.close()


def test_an_enrolled_site_is_let_in_and_listed(desk: Desk) -> None:
    peer = desk.enrol("site-a")
    assert refused(desk.admission(), peer) is None
    assert desk.states() == [("site-a", "valid")]


def test_a_certificate_in_no_register_gets_nobody_in(plain: Desk) -> None:
    # R2.1.8
    csr = x509.load_der_x509_csr(make_csr("site-a"))
    minted = read_certificate(plain.authority.issue_site(csr, "site-a", now=NOW))
    assert refused(plain.admission(), minted) is Reason.CERTIFICATE_UNKNOWN


def test_the_next_certificate_ends_the_one_before_when_it_is_first_used(desk: Desk) -> None:
    # R2.1.7
    first = desk.enrol("site-a")
    other = desk.enrol("site-b")
    admission = desk.admission()
    desk.now += DAY
    second = read_certificate(desk.renew(first))
    assert refused(admission, first) is None  # a kill here leaves a site that works
    assert refused(admission, second) is None
    assert refused(admission, first) is Reason.CERTIFICATE_RENEWED
    assert refused(desk.admission(), first) is Reason.CERTIFICATE_RENEWED  # after a restart too
    assert refused(admission, other) is None
    assert desk.states() == [("site-a", "renewed"), ("site-a", "valid"), ("site-b", "valid")]


def test_the_same_key_again_gets_the_same_certificate(desk: Desk) -> None:
    peer = desk.enrol("site-a")
    key = ec.generate_private_key(ec.SECP256R1())
    first = desk.renew(peer, make_csr("site-a", key))
    assert desk.renew(peer, make_csr("site-a", key)) == first
    assert len(desk.certificates.all()) == 2


def test_a_key_that_was_certified_before_is_no_next_key(plain: Desk) -> None:
    first = plain.enrol("site-a")
    key = ec.generate_private_key(ec.SECP256R1())
    second = read_certificate(plain.renew(first, make_csr("site-a", key)))
    with pytest.raises(PeerRefusedError):
        plain.renew(second, make_csr("site-a", key))  # the one in use
    third = read_certificate(plain.renew(second))
    plain.admission().check(third)
    with pytest.raises(PeerRefusedError) as caught:
        plain.renew(third, make_csr("site-a", key))
    assert caught.value.reason is Reason.BAD_REQUEST


def test_a_renewal_needs_the_event_key(plain: Desk) -> None:
    # R2.1.5: who has copied the TLS key alone cannot live on in renewals.
    peer = plain.enrol("site-a")
    with pytest.raises(PeerRefusedError) as caught:
        plain.renew(peer, signer=NoteSigner.generate("site-a"))
    assert caught.value.reason is Reason.BAD_PROOF
    assert len(plain.certificates.all()) == 1


def test_a_proof_for_one_certificate_renews_no_other(plain: Desk) -> None:
    first, csr = plain.enrol("site-a"), make_csr("site-a")
    proof = plain.signers["site-a"].sign_bytes(renewal_statement(csr, first))
    second = read_certificate(plain.renew(first))
    with pytest.raises(PeerRefusedError) as caught:
        renew(
            Renewal(csr, proof),
            second,
            event_vkey=plain.signers["site-a"].vkey,
            certificates=plain.certificates,
            authority=plain.authority,
            now=NOW,
        )
    assert caught.value.reason is Reason.BAD_PROOF


def test_a_site_that_renews_without_end_is_stopped_for_a_day(plain: Desk) -> None:
    peer = plain.enrol("site-a")
    for _ in range(MOST_RENEWALS_A_DAY - 1):
        plain.renew(peer)
    with pytest.raises(PeerRefusedError) as caught:
        plain.renew(peer)
    assert caught.value.reason is Reason.TOO_MANY
    plain.now += DAY + dt.timedelta(minutes=1)
    plain.renew(peer)


def test_an_expired_certificate_is_refused_with_what_helps(plain: Desk) -> None:
    peer = plain.enrol("site-a")
    admission = plain.admission()
    assert refused(admission, peer) is None
    plain.now += 826 * DAY
    with pytest.raises(
        PeerRefusedError, match=r"'site-a' expired on 2028-04-06.*invite site-a --again"
    ) as caught:
        admission.check(peer)
    assert caught.value.reason is Reason.CERTIFICATE_EXPIRED


def test_a_revoked_site_is_refused_under_all_its_certificates_until_reinstated(desk: Desk) -> None:
    # R2.1.8
    first, other = desk.enrol("site-a"), desk.enrol("site-b")
    second = read_certificate(desk.renew(first))
    unused = desk.invitation("site-a")
    admission = desk.admission()
    assert certificate_commands.revoke(desk.folder.root, "site-a", "key-compromised", now=NOW) == 2
    admission.refresh()
    assert [refused(admission, peer) for peer in (first, second)] == [Reason.CERTIFICATE_REVOKED] * 2
    assert refused(desk.admission(), second) is Reason.CERTIFICATE_REVOKED  # after a restart too
    assert refused(admission, other) is None
    with pytest.raises(PeerRefusedError) as caught:
        desk.enrol("site-a", unused)  # an invitation that was under way is void
    assert caught.value.reason is Reason.BAD_TOKEN
    assert desk.states()[0] == ("site-a", "revoked")
    assert certificate_commands.reinstate(desk.folder.root, "site-a", now=NOW) == 2
    admission.refresh()
    assert refused(admission, second) is None


def test_a_fresh_invitation_is_a_way_back_and_the_revoked_certificates_stay_so(plain: Desk) -> None:
    first = plain.enrol("site-a")
    certificate_commands.revoke(plain.folder.root, "site-a", "machine-lost", now=NOW)
    fresh = plain.enrol("site-a", plain.invitation("site-a", again=True))
    admission = plain.admission()
    assert refused(admission, fresh) is None
    assert refused(admission, first) is Reason.CERTIFICATE_REVOKED


@pytest.mark.parametrize("act", ["revoke", "reinstate"])
def test_a_site_or_reason_that_is_unknown_is_the_operators(plain: Desk, act: str) -> None:
    root = plain.folder.root
    with pytest.raises(ConfigError, match="no certificate was issued to 'site-x'"):
        certificate_commands.revoke(root, "site-x", "mistake") if act == "revoke" else (
            certificate_commands.reinstate(root, "site-x")
        )
    with pytest.raises(ConfigError, match="a reason is one of key-compromised, "):
        certificate_commands.revoke(root, "site-a", "because")


def test_what_is_not_revoked_is_not_reinstated(plain: Desk) -> None:
    plain.enrol("site-a")
    with pytest.raises(ConfigError, match="no certificate of 'site-a' is revoked"):
        certificate_commands.reinstate(plain.folder.root, "site-a")


def test_an_invitation_again_is_for_the_event_key_of_that_site(plain: Desk) -> None:
    # R2.1.6
    plain.enrol("site-a")
    token = plain.invitation("site-a", again=True)
    enrolled = plain.signers.pop("site-a")
    with pytest.raises(PeerRefusedError) as caught:
        plain.enrol("site-a", token)  # somebody else's key: the token in other hands buys nothing
    assert caught.value.reason is Reason.OTHER_EVENT_KEY
    plain.signers["site-a"] = enrolled
    assert refused(plain.admission(), plain.enrol("site-a", token)) is None
    with pytest.raises(ConfigError, match="has not enrolled yet"):
        invites.invite(plain.folder.root, "site-x", again=True)


def test_the_key_that_the_log_knows_stands_before_the_enrolled_one(plain: Desk) -> None:
    plain.enrol("site-a")
    token, rotated = plain.invitation("site-a", again=True), NoteSigner.generate("site-a")
    with pytest.raises(PeerRefusedError):
        plain.enrol("site-a", token, current_key=rotated.vkey)
    plain.signers["site-a"] = rotated
    plain.enrol("site-a", token, current_key=rotated.vkey)


def test_a_revocation_is_in_a_backup(desk: Desk, tmp_path: Path) -> None:
    peer = desk.enrol("site-a")
    certificate_commands.revoke(desk.folder.root, "site-a", "mistake", now=NOW)
    backup(desk.folder.root, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new", store_url="")
    certificates = Certificates(enrolment_database(Folder(tmp_path / "new")))
    assert refused(Admission(certificates, desk.clock), peer) is Reason.CERTIFICATE_REVOKED
    certificates.close()


def test_a_register_without_the_table_gets_it_filled(plain: Desk, tmp_path: Path) -> None:
    """A folder of an earlier version: its sites are let in as before, and so are those of its backups."""
    peers = [plain.enrol("site-a")]
    plain.now += DAY
    peers.append(plain.enrol("site-b"))
    before = plain.certificates.all()
    engine = enrolment_database(plain.folder).open_shared()
    with transaction(engine, "as it was") as connection:
        connection.execute(text("DROP TABLE certificates"))
    engine.dispose()
    backup(plain.folder.root, tmp_path / "b.tar")
    restore(tmp_path / "b.tar", tmp_path / "new")
    for folder in (plain.folder, Folder(tmp_path / "new")):
        certificates = Certificates(enrolment_database(folder))
        assert sorted(certificates.all(), key=lambda row: row.number) == before
        admission = Admission(certificates, plain.clock)
        assert [refused(admission, peer) for peer in peers] == [None, None]
        assert certificates.event_vkey("site-b") == plain.signers["site-b"].vkey
        certificates.close()


def test_an_open_stream_ends_with_the_certificate(plain: Desk) -> None:
    peer, other = plain.enrol("site-a"), plain.enrol("site-b")

    async def run() -> list[object]:
        admission, never = plain.admission(), asyncio.Event()
        streams = [
            asyncio.create_task(admission.admitted_until(who, _wait(never))) for who in (peer, peer, other)
        ]
        await asyncio.sleep(0)
        plain.certificates.revoke("site-a", RevocationReason.MISTAKE, NOW)
        admission.refresh()
        ended = await asyncio.wait_for(asyncio.gather(*streams[:2], return_exceptions=True), 20)
        assert not streams[2].done()
        never.set()
        await streams[2]  # ends as its event does
        return list(ended)

    for error in asyncio.run(run()):
        assert isinstance(error, PeerRefusedError)
        assert error.reason is Reason.CERTIFICATE_REVOKED


async def _wait(event: asyncio.Event) -> None:
    await event.wait()


def test_a_stream_of_a_revoked_site_does_not_begin(plain: Desk) -> None:
    peer = plain.enrol("site-a")
    plain.certificates.revoke("site-a", RevocationReason.MISTAKE, NOW)
    with pytest.raises(PeerRefusedError):
        asyncio.run(plain.admission().admitted_until(peer, _wait(asyncio.Event())))


def test_the_operator_is_told_of_each_certificate_that_ends_once_before_and_once_after(plain: Desk) -> None:
    for site in ("site-a", "site-b", "site-z"):
        plain.enrol(site)
    admission = plain.admission()
    watch = CertificateWatch(plain.folder, admission, {"site-a", "site-b"}, plain.clock)
    assert watch.look() == []
    plain.now += 800 * DAY
    before = watch.look()
    assert [line.split("'")[1] for line in before] == ["site-a", "site-b"]
    assert all("expires on 2028-04-06; there: `site renew`" in line for line in before)
    assert watch.look() == []
    plain.now += 30 * DAY
    assert all("invite" in line and "expired on 2028-04-06" in line for line in watch.look())
    assert watch.look() == []


def test_the_server_certificate_is_renewed_for_the_same_key_and_names(plain: Desk) -> None:
    before = server_certificate(plain.folder)
    renew_server_if_due(plain.folder, NOW + 500 * DAY)
    assert server_certificate(plain.folder) == before
    renew_server_if_due(plain.folder, NOW + 600 * DAY)
    after = server_certificate(plain.folder)
    assert after.not_valid_after_utc == NOW + 1425 * DAY
    assert after.public_key() == before.public_key()
    after.verify_directly_issued_by(plain.authority.certificate)
    names = x509.SubjectAlternativeName
    assert after.extensions.get_extension_for_class(names) == before.extensions.get_extension_for_class(names)


def test_an_expired_server_certificate_that_cannot_be_renewed_is_one_line(plain: Desk) -> None:
    plain.folder.tls_key.unlink()
    renew_server_if_due(plain.folder, NOW + 600 * DAY)  # not over yet: told, and served on
    with pytest.raises(ConfigError, match=r"server.pem: expired on 2028-04-06.*coordinator renew --dir"):
        renew_server_if_due(plain.folder, NOW + 900 * DAY)


def test_nothing_outlives_the_ca_and_an_expired_ca_issues_nothing(plain: Desk) -> None:
    late = NOW + (CA_DAYS - 10) * DAY
    assert renew_server(plain.folder, now=late).not_valid_after_utc == NOW + CA_DAYS * DAY
    plain.now = NOW + CA_DAYS * DAY
    with pytest.raises(AuthorityExpiredError, match="CA expired on 2035-12-31"):
        plain.enrol("site-a")
    with pytest.raises(AuthorityExpiredError, match="study new --continues"):
        renew_server_if_due(plain.folder, plain.now)


def test_the_list_names_ca_and_server_too(plain: Desk) -> None:
    found = certificate_commands.listed(plain.folder.root, now=NOW + 900 * DAY)
    assert [(row["of"], row["state"]) for row in found] == [("ca", "valid"), ("server", "expired")]
    assert found[1]["until"] == "2028-04-06T00:00:00Z"
