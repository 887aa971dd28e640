"""What ends with a certificate or an invitation, and what does not come back; on both kinds of store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509

from fedmedlora_coordinator import certificate_commands
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_core.errors import ConfigError
from fedmedlora_protos.wire import Reason, read_certificate
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


def test_a_renewal_that_was_admitted_before_the_revocation_is_refused_in_its_transaction(desk: Desk) -> None:
    """R2.1.8: what a serving coordinator has read of the register is up to a second old."""
    peer, other = desk.enrol("site-a"), desk.enrol("site-b")
    admission, pending = desk.admission(), make_csr("site-a")
    desk.renew(peer, pending)
    certificate_commands.revoke(desk.folder.root, "site-a", "key-compromised", now=NOW)
    assert refused(admission, peer) is None, "it has not read the register again"
    for csr in (make_csr("site-a"), pending):
        with pytest.raises(PeerRefusedError, match="was revoked") as caught:
            desk.renew(peer, csr)
        assert caught.value.reason is Reason.CERTIFICATE_REVOKED
    assert desk.states() == [("site-a", "revoked"), ("site-a", "revoked"), ("site-b", "valid")]
    desk.renew(other)


def test_a_certificate_that_has_ended_or_stands_nowhere_renews_nothing(plain: Desk) -> None:
    """R2.1.7, R2.1.8: renewed meanwhile, expired, of no register, or of another site."""
    first = plain.enrol("site-a")
    second = read_certificate(plain.renew(first))
    plain.admission().check(second)
    with pytest.raises(PeerRefusedError) as caught:
        plain.renew(first)
    assert caught.value.reason is Reason.CERTIFICATE_RENEWED
    csr = x509.load_der_x509_csr(make_csr("site-a"))
    minted = read_certificate(plain.authority.issue_site(csr, "site-a", now=NOW))
    with pytest.raises(PeerRefusedError) as caught:
        plain.renew(minted)
    assert caught.value.reason is Reason.CERTIFICATE_UNKNOWN
    plain.now += 826 * DAY
    with pytest.raises(PeerRefusedError) as caught:
        plain.renew(second)
    assert caught.value.reason is Reason.CERTIFICATE_EXPIRED
    assert len(plain.certificates.all()) == 2


def test_a_second_reinstatement_takes_no_older_revocation_back(plain: Desk) -> None:
    stolen = plain.enrol("site-a")
    certificate_commands.revoke(plain.folder.root, "site-a", "key-compromised", now=plain.now)
    fresh = plain.enrol("site-a", plain.invitation("site-a", again=True))
    with pytest.raises(ConfigError, match="the newest certificate of 'site-a' is not revoked"):
        certificate_commands.reinstate(plain.folder.root, "site-a", now=plain.now)
    plain.now += DAY
    certificate_commands.revoke(plain.folder.root, "site-a", "mistake", now=plain.now)
    assert certificate_commands.reinstate(plain.folder.root, "site-a", now=plain.now) == 1
    with pytest.raises(ConfigError, match="older ones stay revoked"):
        certificate_commands.reinstate(plain.folder.root, "site-a", now=plain.now)
    admission = plain.admission()
    assert refused(admission, fresh) is None
    assert refused(admission, stolen) is Reason.CERTIFICATE_REVOKED


def test_an_enrolment_voids_the_sites_other_invitations(desk: Desk) -> None:
    """R2.1.6: one from before it is bound to no event key, and would buy a certificate for any."""
    used, spare, other = desk.invitation("site-a"), desk.invitation("site-a"), desk.invitation("site-b")
    first = desk.enrol("site-a", used)
    enrolled = desk.signers.pop("site-a")
    with pytest.raises(PeerRefusedError) as caught:
        desk.enrol("site-a", spare, current_key=enrolled.vkey)
    assert caught.value.reason is Reason.BAD_TOKEN
    desk.enrol("site-b", other)
    assert refused(desk.admission(), first) is None
    assert desk.states() == [("site-a", "valid"), ("site-b", "valid")]


def test_a_request_that_is_refused_voids_no_invitation(plain: Desk) -> None:
    """The site would be left without any, by whoever sends nonsense in its name."""
    plain.enrol("site-a")
    tokens = [plain.invitation("site-a", again=True) for _ in range(2)]
    enrolled = plain.signers.pop("site-a")
    for token in ("no token of ours", tokens[0]):
        with pytest.raises(PeerRefusedError):
            plain.enrol("site-a", token)
    plain.signers["site-a"] = enrolled
    assert refused(plain.admission(), plain.enrol("site-a", tokens[1])) is None


def test_the_line_about_a_revoked_site_names_the_invitation_that_keeps_its_keys(plain: Desk) -> None:
    """R2.1.6: a plain one would be good for any event key."""
    peer = plain.enrol("site-a")
    certificate_commands.revoke(plain.folder.root, "site-a", "machine-lost", now=NOW)
    with pytest.raises(PeerRefusedError, match=r"reinstate site-a` or `coordinator invite site-a --again`"):
        plain.admission().check(peer)
