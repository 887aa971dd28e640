"""The site's private keys: made here, mode 0600, never sent and never shown.

Five secrets, one role each: the TLS key, the event-signing key, the witness key, the key that encrypts
updates at rest, and the secret that the rounding streams of all rounds derive from.
"""

from __future__ import annotations

import os
import secrets
import stat
from dataclasses import dataclass, field
from pathlib import Path

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from fedmedlora_audit.note import WITNESS_ALGORITHMS, NoteSigner
from fedmedlora_site.durable import create_private, make_folder
from fedmedlora_site.errors import FolderError

SECRET_BYTES = 32
EVENT_SEED = "event.seed"
_SECRETS = (EVENT_SEED, "witness.seed", "storage.key", "round.secret")
WITNESS_SEEDS = {"ed25519": "witness.seed", "ml-dsa-44": "witness-ml-dsa-44.seed"}
_TLS = "tls.key"


@dataclass(frozen=True, repr=False)
class Keystore:
    """One site's private keys in memory.

    Args:
        site: The site's id; the name in its verifier keys.
        tls_key_pem: PKCS #8 PEM of the TLS key (EC P-256).
        event_seed: Ed25519 seed of the event key, 32 bytes.
        witness_seed: Seed of the witness key, 32 bytes.
        storage_key: AES-256 key for updates at rest.
        round_secret: Root of the rounding streams, 32 bytes.
        witness_kind: "ed25519" or "ml-dsa-44"; the name of the seed's file says which.
    """

    site: str
    tls_key_pem: bytes
    event_seed: bytes
    witness_seed: bytes
    storage_key: bytes
    round_secret: bytes
    witness_kind: str = field(default="ed25519", kw_only=True)

    def __repr__(self) -> str:
        """Name the site and nothing else."""
        return f"Keystore(site={self.site!r}, …)"

    @classmethod
    def generate(cls, site: str, *, witness_kind: str = "ed25519") -> Keystore:
        """Draw all keys of a new site."""
        tls_key = ec.generate_private_key(ec.SECP256R1())
        pem = tls_key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        drawn = (secrets.token_bytes(SECRET_BYTES) for _ in _SECRETS)
        return cls(site, pem, *drawn, witness_kind=witness_kind)

    def save(self, folder: Path) -> None:
        """Write every key into `folder`, each file 0600; an existing key is never overwritten.

        Raises:
            FileExistsError: A key file is there already.
        """
        make_folder(folder)
        folder.chmod(0o700)
        create_private(folder / _TLS, self.tls_key_pem)
        values = (self.event_seed, self.witness_seed, self.storage_key, self.round_secret)
        for name, value in zip(_file_names(self.witness_kind), values, strict=True):
            create_private(folder / name, value)

    @classmethod
    def load(cls, folder: Path, site: str) -> Keystore:
        """Read the keys of `site`.

        Raises:
            FolderError: A file is missing, malformed, or readable by others (the operator's).
        """
        held = [kind for kind, name in WITNESS_SEEDS.items() if (folder / name).exists()]
        kind = held[0] if held else "ed25519"
        if len(held) > 1:
            raise FolderError(f"{folder}: holds two witness keys; the card names one of them")
        values = [read_secret(folder / name) for name in _file_names(kind)]
        return cls(site, read_private(folder / _TLS), *values, witness_kind=kind)

    @property
    def event_signer(self) -> NoteSigner:
        """Signs this site's events."""
        return NoteSigner.from_seed(self.site, self.event_seed)

    @property
    def witness_signer(self) -> NoteSigner:
        """Signs heads of the log as a witness."""
        algorithm = WITNESS_ALGORITHMS[self.witness_kind]
        return NoteSigner.from_seed(self.site, self.witness_seed, algorithm=algorithm)

    def rounding_key(self, study_id: str, round_number: int) -> bytes:
        """Derive the key of one round's rounding stream, equal in every attempt (PROTOCOL §4)."""
        info = b"fedmedlora/v1/rounding\0" + study_id.encode() + b"\0" + str(round_number).encode()
        return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=info).derive(self.round_secret)

    def site_noise_key(self, update: bytes) -> bytes:
        """Derive the key of the noise that one encoded update gets, and no other (R4.14.5).

        Args:
            update: From `fedmedlora_core.site_noise.update_digest`.
        """
        info = b"fedmedlora/v1/site-noise\0" + update
        return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=info).derive(self.round_secret)

    def draw_key(self, sid: str, ring: str) -> bytes:
        """Derive the key by which this site draws the chunks of one published sum (R4.6.4).

        Args:
            sid: The session, 64 hex.
            ring: Digest of the published sum, 64 hex.
        """
        info = b"fedmedlora/v1/chunk-draw\0" + bytes.fromhex(sid) + bytes.fromhex(ring)
        return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=info).derive(self.round_secret)

    def graph_secret(self, charter: str, round_number: int) -> bytes:
        """Derive where one round's chain of contributions to the graph starts (R6.15.6).

        Args:
            charter: Digest of the charter, 64 hex: another study never reveals this one's contributions.
            round_number: The round.
        """
        info = b"fedmedlora/v1/graph\0" + bytes.fromhex(charter) + str(round_number).encode()
        return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=info).derive(self.round_secret)

    def noise_key(self, job: bytes) -> bytes:
        """Derive the key of a private training's draws and noise (R4.13.4).

        Args:
            job: Digest of everything that decides the training's result, 32 bytes.
        """
        info = b"fedmedlora/noise/1" + job
        return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=info).derive(self.round_secret)

    def ledger_name(self, job: bytes) -> bytes:
        """Derive the name of a private training in the ledger, which says nothing of the notes.

        It follows from this site's secret, as the noise does: with another secret it is another training.
        """
        info = b"fedmedlora/ledger-job/1" + job
        return HKDF(hashes.SHA256(), SECRET_BYTES, salt=None, info=info).derive(self.round_secret)


def _file_names(witness_kind: str) -> tuple[str, ...]:
    return tuple(WITNESS_SEEDS[witness_kind] if name == "witness.seed" else name for name in _SECRETS)


def read_private(path: Path) -> bytes:
    """Read a key file that only its owner may read.

    Raises:
        FolderError: It is missing, a link, or readable by others (the operator's).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as exc:
        raise FolderError(f"{path}: cannot be read ({exc.strerror or type(exc).__name__})") from None
    with os.fdopen(descriptor, "rb") as file:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) & 0o077:
            raise FolderError(f"{path}: others can read this key; run `chmod 600 {path}`")
        return file.read()


def read_secret(path: Path) -> bytes:
    """Read a 32-byte secret that only its owner may read.

    Raises:
        FolderError: It is missing, of another length, or readable by others (the operator's).
    """
    data = read_private(path)
    if len(data) != SECRET_BYTES:
        raise FolderError(f"{path}: expected {SECRET_BYTES} bytes, found {len(data)}")
    return data
