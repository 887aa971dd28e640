"""What both ends of the wire share: strict reading of messages, refusal reasons, limits, names (PROTOCOL §3).

Protobuf accepts what it does not know and fills in what is missing. Nothing past this module does: every
field is checked here for presence, length and alphabet; a message with unknown fields is refused.
"""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from google.protobuf.message import Message
from google.protobuf.unknown_fields import UnknownFieldSet

from fedmedlora_protos.v1 import federation_pb2 as pb

CHUNK_BYTES: Final = 1 << 20
MAX_NOTE_BYTES: Final = 64 * 1024 + 1024  # event text (64 KiB) and its signature line
MAX_BLOB_BYTES: Final = 1 << 40
MAX_PROOF_HASHES: Final = 64
MAX_WITNESS_VKEY: Final = 2048  # of ML-DSA-44 with the longest name
WITNESS_SIGNATURE_BYTES: Final = (64, 2420)  # Ed25519, ML-DSA-44
BATCH_NOTES: Final = 256  # entries in one Watch message
BATCH_BYTES: Final = 2 << 20
MAX_MESSAGE_BYTES: Final = 4 << 20

SERVER_NAME: Final = "coordinator"  # a name in every coordinator certificate, whatever the address
SITE_URI_PREFIX: Final = "fedmedlora:site:"
INVITATION_SCHEMA: Final = "fedmedlora-invitation/1"
CHECK_METADATA_KEY: Final = "check"  # trailing metadata of a law refusal: the id of the broken rule

# A hospital's firewall drops idle connections silently: both sides ping. A peer of whom nothing arrives for
# 20 s is pinged, and given up when nothing has arrived 80 s later (R3.1.4). A chunk of 1 MiB is answered only
# when it is whole, and a ping waits behind it: a shorter time would cut slow lines again and again.
DEAD_SECONDS: Final = 100
CHANNEL_OPTIONS: Final[tuple[tuple[str, int], ...]] = (
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 80_000),
    ("grpc.http2.ping_timeout_ms", 80_000),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.enable_retries", 0),
)

# What reading a certificate raises beside ValueError.
_X509_ERRORS: Final = (
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
)
_SITE = re.compile(r"[a-z0-9-]{1,32}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_TOKEN = re.compile(r"[A-Za-z0-9_-]{43}")


class Reason(StrEnum):
    """Why a call was refused: the whole text of a gRPC error (never free text, never data)."""

    MALFORMED = "malformed"
    NOT_A_MEMBER = "not_a_member"
    WRONG_ACTOR = "wrong_actor"
    BAD_SIGNATURE = "bad_signature"
    BAD_EVENT = "bad_event"
    LAW_REFUSED = "law_refused"
    BLOB_MISSING = "blob_missing"
    BAD_PAYLOAD = "bad_payload"
    BAD_CHUNK = "bad_chunk"
    UNKNOWN_BLOB = "unknown_blob"
    TOO_LARGE = "too_large"
    TOO_MANY = "too_many"
    TOO_FAST = "too_fast"
    AHEAD_OF_LOG = "ahead_of_log"
    WRONG_HEAD = "wrong_head"
    BAD_TOKEN = "bad_token"  # noqa: S105 - a reason, not a secret
    EXPIRED_TOKEN = "expired_token"  # noqa: S105
    USED_TOKEN = "used_token"  # noqa: S105
    BAD_REQUEST = "bad_request"
    WEAK_KEY = "weak_key"
    BAD_PROOF = "bad_proof"
    OTHER_EVENT_KEY = "other_event_key"
    CERTIFICATE_UNKNOWN = "certificate_unknown"
    CERTIFICATE_RENEWED = "certificate_renewed"
    CERTIFICATE_EXPIRED = "certificate_expired"
    CERTIFICATE_REVOKED = "certificate_revoked"
    UNSUPPORTED = "unsupported"
    WRONG_VERSION = "wrong_version"
    STOPPING = "stopping"
    INTERNAL = "internal"


CERTIFICATE_REASONS: Final = frozenset(
    {
        Reason.CERTIFICATE_UNKNOWN,
        Reason.CERTIFICATE_RENEWED,
        Reason.CERTIFICATE_EXPIRED,
        Reason.CERTIFICATE_REVOKED,
    }
)
"""Refusals of the caller's certificate itself: no other call with it will do better."""


class WireError(ValueError):
    """The peer's message breaks the rules of the wire; names the field, never its content."""


@dataclass(frozen=True)
class ChunkUpload:
    """One checked PutChunk request; `data` is None when the sender only asks what is missing."""

    digest: str
    total_bytes: int
    index: int
    data: bytes | None
    proof: tuple[bytes, ...]


@dataclass(frozen=True)
class Renewal:
    """One checked Renew request; signatures are still to be judged."""

    csr_der: bytes
    event_proof: bytes


@dataclass(frozen=True)
class PeerCertificate:
    """What a verified client certificate says: whose it is, and which of that site's.

    Attributes:
        site: The site's id.
        serial: Serial number, hex.
        digest: SHA-256 of the certificate.
    """

    site: str
    serial: str
    digest: bytes


@dataclass(frozen=True)
class Enrolment:
    """One checked Enroll request; signatures and token are still to be judged."""

    site: str
    token: str
    csr_der: bytes
    event_vkey: str
    witness_vkey: str
    event_proof: bytes
    witness_proof: bytes


def read_submit(request: pb.SubmitRequest) -> bytes:
    """Return the note of a Submit request, or raise WireError."""
    _no_unknown_fields(request)
    _length("note", request.note, 1, MAX_NOTE_BYTES)
    return request.note


def read_watch(request: pb.WatchRequest) -> int:
    """Return the first index that a watcher asks for, or raise WireError."""
    _no_unknown_fields(request)
    return request.from_index


def read_put_chunk(request: pb.PutChunkRequest) -> ChunkUpload:
    """Return a checked chunk upload, or raise WireError."""
    _no_unknown_fields(request)
    _text("digest", request.digest, _DIGEST)
    total = request.total_bytes
    if not 1 <= total <= MAX_BLOB_BYTES:
        raise WireError("total_bytes")
    if request.query:
        if request.data or request.proof or request.index:
            raise WireError("query")
        return ChunkUpload(request.digest, total, 0, None, ())
    last = (total - 1) // CHUNK_BYTES
    if request.index > last:
        raise WireError("index")
    expected = CHUNK_BYTES if request.index < last else total - last * CHUNK_BYTES
    _length("data", request.data, expected, expected)
    return ChunkUpload(request.digest, total, request.index, request.data, _proof(request.proof))


def read_get_chunk(request: pb.GetChunkRequest) -> tuple[str, int]:
    """Return digest and chunk index of a GetChunk request, or raise WireError."""
    _no_unknown_fields(request)
    _text("digest", request.digest, _DIGEST)
    return request.digest, request.index


def read_cosign(request: pb.CosignRequest) -> tuple[bytes, bytes]:
    """Return checkpoint and cosignature of a Cosign request, or raise WireError."""
    _no_unknown_fields(request)
    _length("checkpoint", request.checkpoint, 1, 4096)
    _length("cosignature", request.cosignature, 1, 4096)
    return request.checkpoint, request.cosignature


def read_enroll(request: pb.EnrollRequest) -> Enrolment:
    """Return a checked Enroll request, or raise WireError."""
    _no_unknown_fields(request)
    _text("site", request.site, _SITE)
    _text("token", request.token, _TOKEN)
    _length("csr_der", request.csr_der, 64, 4096)
    for name, vkey, most in (
        ("event_vkey", request.event_vkey, 256),
        ("witness_vkey", request.witness_vkey, MAX_WITNESS_VKEY),
    ):
        if not 1 <= len(vkey) <= most:
            raise WireError(name)
    _length("event_proof", request.event_proof, 64, 64)
    if len(request.witness_proof) not in WITNESS_SIGNATURE_BYTES:
        raise WireError("witness_proof")
    return Enrolment(
        site=request.site,
        token=request.token,
        csr_der=request.csr_der,
        event_vkey=request.event_vkey,
        witness_vkey=request.witness_vkey,
        event_proof=request.event_proof,
        witness_proof=request.witness_proof,
    )


def read_renew(request: pb.RenewRequest) -> Renewal:
    """Return a checked Renew request, or raise WireError."""
    _no_unknown_fields(request)
    _length("csr_der", request.csr_der, 64, 4096)
    _length("event_proof", request.event_proof, 64, 64)
    return Renewal(request.csr_der, request.event_proof)


def read_confirm(request: pb.ConfirmRequest) -> None:
    """Raise WireError unless a Confirm request is empty."""
    _no_unknown_fields(request)


def renewal_statement(csr_der: bytes, peer: PeerCertificate) -> bytes:
    """Return the bytes that a site's event key signs to ask for its next certificate (PROTOCOL §2.1)."""
    site = peer.site.encode()
    digest = hashlib.sha256(csr_der).digest()
    return b"fedmedlora/v1/renew\0" + digest + peer.digest + len(site).to_bytes(4, "big") + site


def enrolment_statement(csr_der: bytes, site: str, event_vkey: str, witness_vkey: str) -> bytes:
    """Return the bytes that both new keys of a site sign to prove possession (PROTOCOL §2)."""
    parts = [b"fedmedlora/v1/enrol\0", hashlib.sha256(csr_der).digest()]
    for field in (site, event_vkey, witness_vkey):
        encoded = field.encode()
        parts.append(len(encoded).to_bytes(4, "big") + encoded)
    return b"".join(parts)


def site_id_of_certificate(pem: bytes) -> str:
    """Return the site id in a member's certificate, or raise WireError; see `read_certificate`."""
    return read_certificate(pem).site


@lru_cache(maxsize=1024)
def read_certificate(pem: bytes) -> PeerCertificate:
    """Return whose certificate it is and which, or raise WireError.

    The id is the one URI `fedmedlora:site:<id>` of the alternative names; the common name is for people.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (ValueError, *_X509_ERRORS):
        raise WireError("certificate") from None
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    if len(uris) != 1 or not uris[0].startswith(SITE_URI_PREFIX):
        raise WireError("certificate")
    site = uris[0].removeprefix(SITE_URI_PREFIX)
    _text("certificate", site, _SITE)
    return PeerCertificate(site, f"{certificate.serial_number:x}", certificate.fingerprint(hashes.SHA256()))


def _no_unknown_fields(message: Message) -> None:
    if len(UnknownFieldSet(message)):
        raise WireError("unknown field")


def _length(name: str, value: bytes, low: int, high: int) -> None:
    if not low <= len(value) <= high:
        raise WireError(name)


def _text(name: str, value: str, pattern: re.Pattern[str]) -> None:
    if not pattern.fullmatch(value):
        raise WireError(name)


def _proof(proof: Iterable[bytes]) -> tuple[bytes, ...]:
    hashes = tuple(proof)
    if len(hashes) > MAX_PROOF_HASHES or any(len(item) != 32 for item in hashes):
        raise WireError("proof")
    return hashes
