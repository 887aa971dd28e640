"""One decoder under test, and the samples that several of them share."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from fedmedlora_audit.cosignature import checkpoint_of, cosign
from fedmedlora_audit.note import ALG_COSIGNATURE_MLDSA, NoteSigner
from fedmedlora_protos import wire
from fedmedlora_testkit.audit_log import StudyLog, witness_of

Decode = Callable[[bytes], object]


@dataclass(frozen=True)
class Decoder:
    """One decoder under test.

    Args:
        seeds: Makes valid encodings; each of them decodes.
        decode: Reads one byte string.
        error: The only error that it may raise; none when it is an empty tuple.
    """

    seeds: Callable[[], Sequence[bytes]]
    decode: Decode
    error: type[Exception] | tuple[type[Exception], ...]


@cache
def log() -> StudyLog:
    """A whole run with every kind of event."""
    return StudyLog().play(2, {"upload": ["site-d"]})


def head() -> bytes:
    return log().checkpoint()


def cosignature_lines() -> list[bytes]:
    """Lines of both kinds of witness key; the second kind's owner is unknown here."""
    checkpoint = checkpoint_of(head())
    stranger = NoteSigner.from_seed("site-q", bytes(32), algorithm=ALG_COSIGNATURE_MLDSA)
    signers = [*map(witness_of, log().sites), stranger]
    return [cosign(checkpoint, signer, time=1_772_323_200) for signer in signers]


@cache
def certificate() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "site-a")])
    now = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, now, now + datetime.timedelta(days=1))
    uri = x509.UniformResourceIdentifier(f"{wire.SITE_URI_PREFIX}site-a")
    builder = builder.add_extension(x509.SubjectAlternativeName([uri]), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
