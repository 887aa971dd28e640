"""The switch from one TLS key and certificate to the next: a kill anywhere leaves a pair that works."""

from __future__ import annotations

import datetime as dt
import stat
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.enrolment_tables import key_hash
from fedmedlora_site import tls_identity
from fedmedlora_site.durable import write_atomic
from fedmedlora_site.errors import CertificateError, FolderError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.tls_identity import TlsIdentity, discard_next, fits, staged_request, switch
from fedmedlora_testkit.certified import certified_folder, certify

NOW = dt.datetime(2026, 1, 2, tzinfo=dt.UTC)


class Killed(BaseException):
    """The process ends here."""


class Centre:
    """A coordinator's part: one certificate for one key."""

    def __init__(self) -> None:
        self.authority = Authority.create("n", now=NOW)
        self.issued: dict[bytes, bytes] = {}

    def certify(self, der: bytes) -> bytes:
        csr = x509.load_der_x509_csr(der)
        known = key_hash(csr)
        if known not in self.issued:
            self.issued[known] = self.authority.issue_site(csr, "site-a", now=NOW)
        return self.issued[known]


@pytest.fixture
def centre() -> Centre:
    return Centre()


@pytest.fixture
def folder(tmp_path: Path, centre: Centre) -> SiteFolder:
    return certified_folder(tmp_path / "site", "site-a", centre.authority, "h:1")


def renewal(folder: SiteFolder, centre: Centre) -> None:
    switch(folder, centre.certify(staged_request(folder, "site-a")))


def killing(at: int, monkeypatch: pytest.MonkeyPatch, *, after: bool) -> list[int]:
    """Let the process die before or after one durable step; returns the counter of steps."""
    count = [0]

    def wrap(step: Callable[..., Any]) -> Callable[..., Any]:
        def killed(*args: Any, **options: Any) -> Any:
            count[0] += 1
            mine = count[0] == at
            if mine and not after:
                raise Killed
            result = step(*args, **options)
            if mine:
                raise Killed
            return result

        return killed

    for name in ("create_private", "write_atomic"):
        monkeypatch.setattr(tls_identity, name, wrap(getattr(tls_identity, name)))
    for name in ("replace", "unlink"):
        monkeypatch.setattr(Path, name, wrap(getattr(Path, name)))
    return count


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_a_kill_at_any_step_leaves_a_pair_that_works_and_trying_again_ends_it(
    tmp_path: Path, centre: Centre, after: bool
) -> None:
    at, finished = 0, False
    while not finished:
        at += 1
        folder = certified_folder(tmp_path / str(at), "site-a", centre.authority, "h:1")
        first, issued = TlsIdentity.load(folder).certificate_pem, len(centre.issued)
        with pytest.MonkeyPatch.context() as patch:
            count = killing(at, patch, after=after)
            with suppress(Killed):
                renewal(folder, centre)
            finished = count[0] < at
        held = TlsIdentity.load(folder)
        assert fits(x509.load_pem_x509_certificate(held.certificate_pem), held.key_pem)
        if held.certificate_pem == first:
            renewal(folder, centre)
            assert len(centre.issued) == issued + 1, "an answer that was lost is asked for again"
        tls_identity.settle(folder)
        after_all = TlsIdentity.load(folder)
        assert after_all.certificate_pem != first
        assert folder.tls_key.read_bytes() == after_all.key_pem
        assert not folder.next_tls_key.exists()
    assert at > 6


def test_with_the_key_switched_first_a_kill_would_leave_no_pair(folder: SiteFolder, centre: Centre) -> None:
    """The protection off: the order the other way round."""
    staged_request(folder, "site-a")
    folder.next_tls_key.replace(folder.tls_key)
    with pytest.raises(FolderError, match=r"no key in .* belongs to it"):
        TlsIdentity.load(folder)


def test_the_next_key_is_private_and_new(folder: SiteFolder, centre: Centre) -> None:
    before = folder.tls_key.read_bytes()
    staged_request(folder, "site-a")
    assert stat.S_IMODE(folder.next_tls_key.stat().st_mode) == 0o600
    assert folder.next_tls_key.read_bytes() != before
    renewal(folder, centre)
    assert stat.S_IMODE(folder.tls_key.stat().st_mode) == 0o600
    assert before not in repr(TlsIdentity.load(folder)).encode()


def test_each_occasion_has_a_key_of_its_own_and_asks_with_the_same_bytes(folder: SiteFolder) -> None:
    first = staged_request(folder, "site-a")
    assert staged_request(folder, "site-a") == first
    other = staged_request(folder, "site-a", "0123")
    assert other != first
    assert staged_request(folder, "site-a", "0123") == other
    assert len(list(folder.tls.glob("next-*.der"))) == 1


def test_a_torn_key_of_a_power_cut_is_made_anew(folder: SiteFolder, centre: Centre) -> None:
    folder.next_tls_key.write_bytes(b"-----BEGIN PRIV")
    folder.next_tls_key.chmod(0o600)
    TlsIdentity.load(folder)
    renewal(folder, centre)
    assert TlsIdentity.load(folder).key_pem == folder.tls_key.read_bytes()


def test_a_next_key_that_is_in_use_is_not_thrown_away(folder: SiteFolder, centre: Centre) -> None:
    der = staged_request(folder, "site-a")
    write_atomic(folder.certificate, centre.certify(der))  # killed before the key followed
    discard_next(folder)
    TlsIdentity.load(folder)


def test_due_when_less_than_a_third_is_left_and_refused_when_nothing_is(
    folder: SiteFolder, centre: Centre
) -> None:
    certify(folder, "site-a", centre.authority, now=NOW, days=300)
    held = TlsIdentity.load(folder)
    assert not held.is_due(NOW + dt.timedelta(days=199))
    assert held.is_due(NOW + dt.timedelta(days=201))
    held.need_valid(NOW + dt.timedelta(days=299))
    with pytest.raises(
        CertificateError,
        match=r"expired on 2026-10-29 00:00 UTC; .*invite site-a --again`.*site renew --invitation",
    ) as caught:
        held.need_valid(NOW + dt.timedelta(days=301))
    assert "\n" not in str(caught.value)
