"""The trust file: what an auditor holds before opening a bundle (AUDIT "Trust file").

It names the log, its key, the charter, every member's keys and the first entry. It comes from the sites'
pins by a route of its own, never from the coordinator or from the bundle: a bundle that brought its own
keys would prove nothing.
"""

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal, Self

import rfc8785
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from pydantic import AfterValidator, Field, ValidationError

from fedmedlora_audit.charter import CharterTerms, MemberKeys
from fedmedlora_audit.errors import CharterError, NoteError, StampError, TrustError
from fedmedlora_audit.event_data import Closed, Digest, Id
from fedmedlora_audit.events import COORDINATOR_ID
from fedmedlora_audit.member_keys import KeyBook
from fedmedlora_audit.note import VerifierKey
from fedmedlora_audit.stamps import load_root


def _vkey(value: str) -> str:
    try:
        VerifierKey.parse(value)
    except NoteError as error:
        raise ValueError(error.sentence) from None
    return value


def _tsa_root(value: str) -> str:
    try:
        load_root(value)
    except StampError as error:
        raise ValueError(error.sentence) from None
    return value


Vkey = Annotated[str, AfterValidator(_vkey)]
TsaRoot = Annotated[str, AfterValidator(_tsa_root)]


class TrustedMember(Closed):
    """A member's keys, as the sites have pinned them."""

    event_vkey: Vkey
    witness_vkey: Vkey


class Trust(Closed):
    """What the auditor takes as given.

    Attributes:
        origin: The log's origin.
        log_vkey: The key that signs checkpoints.
        coordinator_vkey: The key that signs the coordinator's events.
        charter: Digest of the charter that every member signed.
        quorum: Cosignatures that a head will need once witnesses sign heads (the charter's threshold).
        members: Keys by member id.
        genesis: Leaf hash of the log's first entry.
        tsa_roots: Certificates (base64 of DER) of the time-stamping authorities whose stamps count; None
            when the reviewer trusts none, and C7 is not judged.
    """

    schema_: Literal["fltrust/1"] = Field(default="fltrust/1", alias="schema")
    origin: Annotated[str, Field(min_length=1, max_length=128)]
    log_vkey: Vkey
    coordinator_vkey: Vkey
    charter: Digest
    quorum: Annotated[int, Field(ge=0, le=10_000)]
    members: dict[Id, TrustedMember]
    genesis: Digest
    tsa_roots: Annotated[tuple[TsaRoot, ...], Field(min_length=1, max_length=32)] | None = None

    @classmethod
    def from_terms(
        cls, terms: CharterTerms, *, genesis: bytes | str, tsa_roots: Sequence[x509.Certificate] = ()
    ) -> Self:
        """Make the trust file of a charter that a site has checked against its own pins.

        Args:
            terms: The accepted charter.
            genesis: Leaf hash of the first entry of the site's mirror.
            tsa_roots: Certificates of the time-stamping authorities that count.
        """
        encoded = tuple(base64.b64encode(root.public_bytes(Encoding.DER)).decode() for root in tsa_roots)
        return cls(
            origin=terms.origin,
            log_vkey=terms.log_vkey,
            coordinator_vkey=terms.coordinator_vkey,
            charter=terms.digest,
            quorum=terms.threshold,
            members={site: _member(keys) for site, keys in terms.members.items()},
            genesis=genesis if isinstance(genesis, str) else genesis.hex(),
            tsa_roots=encoded or None,
        )

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Read a trust file.

        Raises:
            TrustError: It is not one.
        """
        try:
            return cls.model_validate(json.loads(text))
        except ValidationError as error:
            where = ".".join(str(part) for part in error.errors(include_input=False)[0]["loc"])
            raise TrustError(f"not a trust file: field {where}") from None
        except (ValueError, RecursionError):
            raise TrustError("not a trust file: no JSON") from None

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a trust file from disk.

        Raises:
            TrustError: It cannot be read or is not one.
        """
        try:
            return cls.from_json(path.read_bytes())
        except OSError:
            raise TrustError(f"cannot read the trust file {path}") from None

    def to_json(self) -> bytes:
        """Return the file's text: canonical JSON and a newline."""
        return rfc8785.dumps(self.model_dump(mode="json", by_alias=True, exclude_none=True)) + b"\n"

    def key_book(self) -> KeyBook:
        """Open a book of the parties' keys, which follows the log from its first entry."""
        return KeyBook.begin(self.members, coordinator_vkey=self.coordinator_vkey, log_vkey=self.log_vkey)

    def differences(self, terms: CharterTerms) -> list[CharterError]:
        """Name where a charter is not the one of this trust file (T1), or has other members (G32)."""
        found = []
        if terms.digest != self.charter:
            found.append(CharterError("the charter is not the trusted one", check="T1"))
        if self.from_terms(terms, genesis=self.genesis).members != self.members:
            found.append(CharterError("the charter's members or keys are not the trusted ones", check="G32"))
        named = (terms.origin, terms.log_vkey, terms.coordinator_vkey)
        if named != (self.origin, self.log_vkey, self.coordinator_vkey):
            found.append(CharterError("the charter names another log or other keys", check="T1"))
        return found

    @property
    def tsa_certificates(self) -> tuple[x509.Certificate, ...]:
        """The authorities' certificates; empty when the reviewer trusts none."""
        return tuple(load_root(root) for root in self.tsa_roots or ())

    def write(self, path: Path) -> None:
        """Write the trust file."""
        path.write_bytes(self.to_json())

    @property
    def fingerprints(self) -> Mapping[str, str]:
        """Fingerprint of every event key by party, to be read out by telephone."""
        keys = {site: member.event_vkey for site, member in self.members.items()}
        keys |= {COORDINATOR_ID: self.coordinator_vkey, "log": self.log_vkey}
        return {
            party: hashlib.sha256(VerifierKey.parse(key).public).hexdigest() for party, key in keys.items()
        }


def _member(keys: MemberKeys) -> TrustedMember:
    return TrustedMember(event_vkey=keys.event_vkey, witness_vkey=keys.witness_vkey)
