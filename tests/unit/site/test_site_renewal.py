"""A site's renewal: the answer of a coordinator that lies changes nothing."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509

from fedmedlora_audit.note import NoteSigner
from fedmedlora_coordinator.authority import Authority
from fedmedlora_site.client import CertificateAnswer, FederationClient
from fedmedlora_site.errors import CertificateError, RejectedError, SiteError
from fedmedlora_site.renewal import refused_sentence, renew_over
from fedmedlora_site.tls_identity import TlsIdentity
from fedmedlora_testkit.certified import certified_folder

NOW = dt.datetime.now(dt.UTC)
HONEST, OTHER = (Authority.create(name, now=NOW) for name in ("n", "m"))
Answer = Callable[[x509.CertificateSigningRequest], CertificateAnswer]


class Liar:
    """A coordinator that answers a renewal as it likes."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer

    async def renew(self, csr_der: bytes, event_proof: bytes) -> CertificateAnswer:
        return self.answer(x509.load_der_x509_csr(csr_der))


def issued(authority: Authority, site: str, now: dt.datetime = NOW, ca: Authority = HONEST) -> Answer:
    return lambda csr: CertificateAnswer(authority.issue_site(csr, site, now=now), ca.pem)


def of_another_key(csr: x509.CertificateSigningRequest) -> CertificateAnswer:
    server = HONEST.issue_server(HONEST.key.public_key(), [], now=NOW)
    return CertificateAnswer(server, HONEST.pem)


LIES: dict[str, Answer] = {
    "another CA": issued(OTHER, "site-a"),
    "another CA that is said to be ours": issued(OTHER, "site-a", ca=OTHER),
    "a new CA beside": issued(HONEST, "site-a", ca=OTHER),
    "another site": issued(HONEST, "site-b"),
    "expired": issued(HONEST, "site-a", NOW - dt.timedelta(days=1000)),
    "another key": of_another_key,
    "no certificate": lambda csr: CertificateAnswer(b"x", HONEST.pem),
}


@pytest.mark.parametrize("lie", LIES)
def test_an_answer_that_is_not_this_sites_next_certificate_changes_nothing(tmp_path: Path, lie: str) -> None:
    folder = certified_folder(tmp_path / "site", "site-a", HONEST, "h:1")
    before = TlsIdentity.load(folder)
    client = cast("FederationClient", Liar(LIES[lie]))
    with pytest.raises(CertificateError):
        asyncio.run(renew_over(client, folder, NoteSigner.generate("site-a")))
    assert TlsIdentity.load(folder) == before


def test_the_same_with_an_honest_answer_switches(tmp_path: Path) -> None:
    folder = certified_folder(tmp_path / "site", "site-a", HONEST, "h:1")
    before = TlsIdentity.load(folder)
    client = cast("FederationClient", Liar(issued(HONEST, "site-a")))
    after = asyncio.run(renew_over(client, folder, NoteSigner.generate("site-a")))
    assert after.peer.serial != before.peer.serial
    assert after.key_pem != before.key_pem


@pytest.mark.parametrize(
    ("reason", "kept"), [("bad_request", False), ("bad_proof", True), ("certificate_revoked", True)]
)
def test_a_next_key_that_was_refused_is_thrown_away_and_every_other_is_kept(
    tmp_path: Path, reason: str, kept: bool
) -> None:
    def refuse(csr: x509.CertificateSigningRequest) -> CertificateAnswer:
        raise RejectedError(reason)

    folder = certified_folder(tmp_path / "site", "site-a", HONEST, "h:1")
    client = cast("FederationClient", Liar(refuse))
    with pytest.raises(SiteError):
        asyncio.run(renew_over(client, folder, NoteSigner.generate("site-a")))
    assert folder.next_tls_key.exists() is kept


@pytest.mark.parametrize("reason", ["revoked", "renewed", "expired", "unknown"])
def test_every_refusal_of_a_certificate_is_one_line_with_a_command(tmp_path: Path, reason: str) -> None:
    held = TlsIdentity.load(certified_folder(tmp_path / "site", "site-a", HONEST, "h:1"))
    sentence = refused_sentence(f"certificate_{reason}", held)
    assert "coordinator " in sentence
    assert "site-a" in sentence
    assert "\n" not in sentence
