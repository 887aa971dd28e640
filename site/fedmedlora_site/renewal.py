"""`site renew`: the next TLS key and certificate of an enrolled site (PROTOCOL §2.1).

With its present certificate a site asks by itself. After that one has expired or was revoked, it needs an
invitation of `coordinator invite --again`, and shows that it holds the event key it enrolled. Event and
witness keys stay as they are: they are the charter's, and no certificate speaks for them.
"""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from fedmedlora_audit.note import NoteSigner
from fedmedlora_protos.wire import (
    CERTIFICATE_REASONS,
    Reason,
    enrolment_statement,
    renewal_statement,
)
from fedmedlora_site.client import (
    CertificateAnswer,
    EnrolmentRequest,
    FederationClient,
    request_certificate,
)
from fedmedlora_site.config import SiteConfig
from fedmedlora_site.enrolment import Invitation
from fedmedlora_site.errors import CertificateError, RejectedError, TransportError
from fedmedlora_site.folder import SiteFolder
from fedmedlora_site.holdings import FolderLock
from fedmedlora_site.issued import read_issued
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.pins import Pins
from fedmedlora_site.server_check import server_problem
from fedmedlora_site.tls_identity import (
    TlsIdentity,
    discard_next,
    expired_sentence,
    fits,
    now_utc,
    staged_request,
    switch,
)


@dataclass(frozen=True)
class Renewed:
    """What a renewal came to.

    Attributes:
        ends: End of the new certificate.
        confirmed: Whether the coordinator was called with it already; that ends the one before.
    """

    ends: datetime
    confirmed: bool


def renew(root: Path, *, invitation: Path | None = None) -> Renewed:
    """Renew this site's certificate; an agent may be running on the folder.

    Args:
        root: The site's folder.
        invitation: From `coordinator invite --again`; None asks with the present certificate.

    Raises:
        CertificateError: The present certificate does not serve, or the answer is not acceptable.
        EnrolmentError: The invitation is not acceptable.
        TransportError: The coordinator cannot be reached; the same key is used again.
        RejectedError: The coordinator refused.
        FolderError: The folder is damaged, or another renewal is under way.
    """
    folder = SiteFolder.open(root)
    config = SiteConfig.load(folder.config)
    keys = Keystore.load(folder.keys, config.site.id)
    lock = FolderLock(folder.renewal_lock, "another renewal is under way")
    try:
        if invitation is not None:
            invited = Invitation.load(invitation)
            _renew_by_invitation(folder, config, keys, invited)
            return asyncio.run(_confirmed(folder, config))
        return asyncio.run(_renew_and_confirm(folder, config, keys.event_signer))
    finally:
        lock.release()


async def renew_over(client: FederationClient, folder: SiteFolder, signer: NoteSigner) -> TlsIdentity:
    """Renew over an open connection; who calls holds the renewal lock.

    Args:
        client: A connection with the present certificate.
        folder: This site's folder.
        signer: Its event key.

    Raises:
        CertificateError: The answer is not acceptable, or the present certificate is refused.
        TransportError: No answer; nothing was switched.
        RejectedError: The coordinator refused for another reason.
    """
    held = TlsIdentity.load(folder)
    held.need_valid(now_utc())
    csr = staged_request(folder, held.peer.site)
    held = TlsIdentity.load(folder)  # an interrupted switch may have been finished
    proof = signer.sign_bytes(renewal_statement(csr, held.peer))
    try:
        answer = await client.renew(csr, proof)
    except RejectedError as exc:
        if exc.reason in CERTIFICATE_REASONS:
            raise CertificateError(refused_sentence(exc.reason, held)) from None
        if exc.reason == Reason.BAD_REQUEST:  # a next key of long ago, whose certificate has ended
            discard_next(folder)
        raise
    _take(folder, answer, held)
    return TlsIdentity.load(folder)


async def _renew_and_confirm(folder: SiteFolder, config: SiteConfig, signer: NoteSigner) -> Renewed:
    held = TlsIdentity.load(folder)
    held.need_valid(now_utc())
    client = FederationClient(config.site.coordinator_address, held.credentials, config.network)
    try:
        await renew_over(client, folder, signer)
    except TransportError as exc:
        problem = server_problem(config.site.coordinator_address, held.ca_pem)
        raise TransportError(problem or f"{exc}; renewing needs a coordinator that serves a study") from None
    finally:
        await client.close()
    return await _confirmed(folder, config)


async def _confirmed(folder: SiteFolder, config: SiteConfig) -> Renewed:
    """Call with the new certificate once: that ends the one before, also for an agent that is running."""
    held = TlsIdentity.load(folder)
    client = FederationClient(config.site.coordinator_address, held.credentials, config.network)
    try:
        confirmed = await client.confirm() == held.peer.serial
    except TransportError:
        confirmed = False
    finally:
        await client.close()
    return Renewed(held.ends, confirmed)


def _renew_by_invitation(folder: SiteFolder, config: SiteConfig, keys: Keystore, invited: Invitation) -> None:
    invited.check(now_utc())
    pinned = Pins.load(folder.pins).coordinator
    ca = folder.ca.read_bytes()
    same_ca = x509.load_pem_x509_certificate(invited.ca_pem.encode()) == x509.load_pem_x509_certificate(ca)
    same_keys = (invited.log_vkey, invited.coordinator_vkey) == (pinned.log_vkey, pinned.coordinator_vkey)
    if invited.site != config.site.id or not same_ca or not same_keys:
        raise CertificateError("the invitation is for another site, or from another coordinator")
    occasion = hashlib.sha256(invited.token.encode()).hexdigest()[:16]
    csr = staged_request(folder, config.site.id, occasion)
    names = keys.event_signer.vkey, keys.witness_signer.vkey
    statement = enrolment_statement(csr, config.site.id, *names)
    request = EnrolmentRequest(
        address=invited.enrolment_address,
        ca_pem=ca,
        site=config.site.id,
        token=invited.token,
        csr_der=csr,
        event_vkey=names[0],
        witness_vkey=names[1],
        event_proof=keys.event_signer.sign_bytes(statement),
        witness_proof=keys.witness_signer.sign_bytes(statement),
    )
    try:
        answer = request_certificate(request)
    except RejectedError as exc:
        raise CertificateError(_INVITED.get(exc.reason, str(exc))) from None
    except TransportError as exc:
        raise TransportError(server_problem(invited.enrolment_address, ca) or str(exc)) from None
    _take(folder, answer, TlsIdentity(b"", ca, b""), site=config.site.id)


def _take(folder: SiteFolder, answer: CertificateAnswer, held: TlsIdentity, *, site: str = "") -> None:
    """Check the answer and switch; a certificate that does not fit changes nothing."""
    issued = read_issued(answer.certificate_pem, answer.ca_pem, x509.load_pem_x509_certificate(held.ca_pem))
    fresh = now_utc() < issued.certificate.not_valid_after_utc
    ours = fits(issued.certificate, folder.next_tls_key.read_bytes()) and issued.site == (
        site or held.peer.site
    )
    if not (issued.same_ca and fresh and ours):
        raise CertificateError("the coordinator answered with a certificate that is not this site's next one")
    switch(folder, answer.certificate_pem)


_INVITED = {
    Reason.EXPIRED_TOKEN.value: "the invitation has expired; ask the coordinator for a new one",
    Reason.USED_TOKEN.value: "the invitation was used already; ask the coordinator for a new one",
    Reason.BAD_TOKEN.value: "the coordinator does not know this invitation",
    Reason.OTHER_EVENT_KEY.value: "the invitation is for a site with another event key than this folder's",
}


def refused_sentence(reason: str, held: TlsIdentity) -> str:
    """Say to the operator why the coordinator refuses this site's certificate, and what helps."""
    site = held.peer.site
    again = f"`fedmedlora coordinator invite {site} --again`"
    known = {
        Reason.CERTIFICATE_EXPIRED.value: expired_sentence(site, held.ends),
        Reason.CERTIFICATE_REVOKED.value: "the coordinator has revoked this site's certificate; ask it "
        f"why: `fedmedlora coordinator reinstate {site}` takes it back, {again} makes way for a new one",
        Reason.CERTIFICATE_RENEWED.value: "the coordinator has seen a newer certificate of this site, "
        "which is not in this folder; if it is in no other folder of yours, somebody has your keys: call "
        f"the coordinator for `fedmedlora coordinator revoke {site}`",
        Reason.CERTIFICATE_UNKNOWN.value: "the coordinator does not know this site's certificate, which "
        f"may be newer than a backup that it was restored from; ask it for {again}",
    }
    return known.get(reason, f"the coordinator refused this site's certificate: {reason}")
