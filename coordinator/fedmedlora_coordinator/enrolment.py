"""The enrolment service: a token and two proofs of possession against a client certificate (PROTOCOL §2.1).

Order of the checks: the request's own form, the request's self-signature, both proofs of possession (weak
keys refused), and last the token, which only a request that is right in itself can use up.
"""

import datetime as dt
import hashlib
import logging
from collections.abc import Callable

from fedmedlora_protos import wire

# isort: split
import grpc
from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedmedlora_audit.errors import NoteError
from fedmedlora_audit.note import ALG_ED25519, WITNESS_ALGORITHMS, VerifierKey, verify_bytes
from fedmedlora_coordinator.authority import Authority
from fedmedlora_coordinator.errors import CoordinatorError, PeerRefusedError
from fedmedlora_coordinator.peer_limits import PeerLimits
from fedmedlora_coordinator.register import Register
from fedmedlora_coordinator.status import refuse
from fedmedlora_protos.operating.logbook import tell
from fedmedlora_protos.v1 import federation_pb2 as pb
from fedmedlora_protos.v1 import federation_pb2_grpc as pb_grpc
from fedmedlora_protos.wire import Enrolment, Reason

_LOG = logging.getLogger(__name__)
Clock = Callable[[], dt.datetime]


def enroll(
    request: Enrolment,
    *,
    register: Register,
    authority: Authority,
    now: dt.datetime,
    current_key: str | None = None,
) -> bytes:
    """Judge one request and return the client certificate (PEM).

    Args:
        request: What was asked.
        register: Of tokens and certificates.
        authority: The CA.
        now: Current time.
        current_key: The site's event key as the log knows it; None where no study runs.

    Raises:
        PeerRefusedError: The request is refused; the reason says which check failed.
    """
    csr = checked_csr(request.csr_der, request.site)
    event_key = _checked_key(request.event_vkey, request.site, ALG_ED25519)
    witness_key = _checked_key(request.witness_vkey, request.site, *WITNESS_ALGORITHMS.values())
    if event_key.public == witness_key.public:
        raise PeerRefusedError(Reason.BAD_REQUEST, detail="one key for two roles")
    statement = wire.enrolment_statement(
        request.csr_der, request.site, request.event_vkey, request.witness_vkey
    )
    # R2.1.2: each key proves itself; `VerifierKey.parse` has refused keys of low order.
    for key, proof in ((event_key, request.event_proof), (witness_key, request.witness_proof)):
        try:
            verify_bytes(key, statement, proof)
        except NoteError:
            raise PeerRefusedError(Reason.BAD_PROOF) from None
    return register.redeem(
        site=request.site,
        token=request.token,
        request_hash=hashlib.sha256(statement).digest(),
        keys=(request.event_vkey, request.witness_vkey),
        now=now,
        issue=lambda: authority.issue_site(csr, request.site, now=now),
        current_key=current_key,
    )


def checked_csr(csr_der: bytes, site: str) -> x509.CertificateSigningRequest:
    """Read the certificate request: signed by its own key, a P-256 key, its name is the site's."""
    try:
        csr = x509.load_der_x509_csr(csr_der)
        valid = csr.is_signature_valid
        key = csr.public_key()
        names = [a.value for a in csr.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    except (ValueError, x509.InvalidVersion, UnsupportedAlgorithm, InvalidSignature):
        raise PeerRefusedError(Reason.BAD_REQUEST, detail="unreadable certificate request") from None
    if not valid:
        raise PeerRefusedError(Reason.BAD_PROOF, detail="the certificate request is not signed by its key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise PeerRefusedError(Reason.BAD_REQUEST, detail="the TLS key must be P-256")
    if names != [site]:
        raise PeerRefusedError(Reason.BAD_REQUEST, detail="the certificate request names another site")
    return csr


def _checked_key(vkey: str, site: str, *algorithms: int) -> VerifierKey:
    try:
        key = VerifierKey.parse(vkey)
    except NoteError:
        raise PeerRefusedError(Reason.WEAK_KEY) from None
    if key.algorithm not in algorithms or key.name != site:
        raise PeerRefusedError(Reason.BAD_REQUEST, detail="a key of another kind or name")
    return key


class EnrolmentService(pb_grpc.EnrolmentServicer):
    """The one call of the enrolment listener."""

    def __init__(self, register: Register, authority: Authority, clock: Clock, limits: PeerLimits) -> None:
        """Take the register of tokens, the CA, a clock, and who says which address calls too often."""
        self._limits = limits
        self._register = register
        self._authority = authority
        self._clock = clock
        self.event_vkey: Callable[[str], str | None] = lambda _site: None  # of the study that runs, if any

    async def Enroll(  # noqa: N802 - the name is the protocol's
        self, request: pb.EnrollRequest, context: "grpc.aio.ServicerContext[object, object]"
    ) -> pb.EnrollResponse:
        """Answer with a certificate, or end the call with a reason."""
        try:
            self._limits.admit_enrolment(context.peer())
            checked = wire.read_enroll(request)
            certificate = enroll(
                checked,
                register=self._register,
                authority=self._authority,
                now=self._clock(),
                current_key=self.event_vkey(checked.site),
            )
        except (CoordinatorError, wire.WireError) as error:
            await self._limits.refused(context, error)
            await refuse(context, error)
        tell(_LOG, "site_enrolled", site=checked.site)
        return pb.EnrollResponse(certificate_pem=certificate, ca_pem=self._authority.pem)
