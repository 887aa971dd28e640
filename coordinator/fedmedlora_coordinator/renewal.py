"""The next certificate of a site: asked for with the one it has, and with its event key (PROTOCOL §2.1).

Two proofs, because the TLS key alone lies on a machine that talks to the network all day: who has copied
only that key cannot live on in renewals.
"""

import datetime as dt
import logging
from collections.abc import Callable

from fedmedlora_protos import wire

# isort: split
import grpc

from fedmedlora_audit.errors import NoteError
from fedmedlora_audit.note import VerifierKey, verify_bytes
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.callers import Callers
from fedmedlora_coordinator.certificates import Certificates
from fedmedlora_coordinator.enrolment import checked_csr
from fedmedlora_coordinator.enrolment_tables import key_hash
from fedmedlora_coordinator.errors import CoordinatorError, PeerRefusedError
from fedmedlora_protos.operating.logbook import tell
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_protos.v1 import federation_pb2_grpc as pb_grpc
from fedmedlora_protos.wire import PeerCertificate, Reason, Renewal

_LOG = logging.getLogger(__name__)


def renew(
    request: Renewal,
    peer: PeerCertificate,
    *,
    event_vkey: str | None,
    certificates: Certificates,
    authority: Authority,
    now: dt.datetime,
) -> bytes:
    """Judge one request of a site whose present certificate was admitted; return the next one (PEM).

    Args:
        request: What was asked.
        peer: The certificate that the site asks with.
        event_vkey: The event key that this site must hold; None when it is not known.
        certificates: The register.
        authority: The CA.
        now: Current time.

    Raises:
        PeerRefusedError: The request is refused; the reason says which check failed.
        AuthorityExpiredError: The CA can issue nothing any more.
        StoreError: The register refused; nothing was issued.
    """
    csr = checked_csr(request.csr_der, peer.site)
    # R2.1.5
    if event_vkey is None:
        raise PeerRefusedError(Reason.OTHER_EVENT_KEY, detail=f"no event key of '{peer.site}' is known")
    statement = wire.renewal_statement(request.csr_der, peer)
    try:
        verify_bytes(VerifierKey.parse(event_vkey), statement, request.event_proof)
    except NoteError:
        raise PeerRefusedError(Reason.BAD_PROOF) from None
    return certificates.renew(
        peer, key_hash(csr), now=now, issue=lambda: authority.issue_site(csr, peer.site, now=now)
    )


class CertificateService(pb_grpc.CertificatesServicer):
    """The calls about certificates on the federation listener."""

    def __init__(
        self,
        *,
        callers: Callers,
        certificates: Certificates,
        authority: Authority,
        event_vkey: Callable[[str], str | None],
        clock: Callable[[], dt.datetime],
    ) -> None:
        """Take the parts.

        Args:
            callers: Decides on the caller; it need be no member of the study.
            certificates: The register.
            authority: The CA.
            event_vkey: Event key of a site now.
            clock: Current time.
        """
        self._callers = callers
        self._certificates = certificates
        self._authority = authority
        self._event_vkey = event_vkey
        self._clock = clock

    async def Renew(  # noqa: N802 - the name is the protocol's
        self, request: pb.RenewRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> pb.RenewResponse:
        """Answer with the next certificate, or end the call with a reason."""
        try:
            peer = self._callers.admit(context)
            certificate = renew(
                wire.read_renew(request),
                peer,
                event_vkey=self._event_vkey(peer.site),
                certificates=self._certificates,
                authority=self._authority,
                now=self._clock(),
            )
        except (CoordinatorError, wire.WireError) as error:
            await self._callers.end(context, error)
        tell(_LOG, "certificate_changed", detail=f"issued the next certificate of '{peer.site}'")
        return pb.RenewResponse(certificate_pem=certificate, ca_pem=self._authority.pem)

    async def Confirm(  # noqa: N802
        self, request: pb.ConfirmRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> pb.ConfirmResponse:
        """Say which certificate was used; being admitted with it ended the older ones."""
        try:
            peer = self._callers.admit(context)
            wire.read_confirm(request)
        except (CoordinatorError, wire.WireError) as error:
            await self._callers.end(context, error)
        return pb.ConfirmResponse(serial=peer.serial)
