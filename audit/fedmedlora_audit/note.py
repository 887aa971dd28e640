r"""C2SP signed notes: one text, signed with Ed25519, readable with cat (AUDIT "Notes").

Format (c2sp.org/signed-note v1.0.0): the text, which ends in a newline; an empty line; then one line per
signature, ``— <key name> <base64(key id | signature)>``. A key is written as a *vkey*:
``<name>+<key id>+<base64(alg | key)>``.

Rules:
    * Text is UTF-8 without control characters other than the newline.
    * Base64 is canonical: one signature has exactly one spelling, else a byte could change unseen.
    * An event carries exactly one signature line (G45): a second one would change the leaf and frame its
      author. Only checkpoints may carry lines of further keys.
    * The 14 low-order Ed25519 encodings are no keys: under some of them one signature fits every message.

What this does not do: decide whose key counts, or keep private keys on disk.

Example:
    >>> signer = NoteSigner.generate("site-a")
    >>> VerifierKey.parse(signer.vkey).open(signer.sign("hello\n"))
    'hello\n'
"""

import base64
import binascii
import hashlib
import re
import secrets
import unicodedata
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, NamedTuple, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey, MLDSA44PublicKey

from fedmedlora_audit.errors import NoteError

ALG_ED25519: Final = 0x01
"""Signatures over the text itself: events, checkpoints of the log, manifests."""
ALG_COSIGNATURE: Final = 0x04
"""Witness keys (c2sp.org/tlog-cosignature): they sign heads, see `cosignature`, and no notes."""
ALG_COSIGNATURE_MLDSA: Final = 0x06
"""Witness keys of the same role that withstand quantum computers (ML-DSA-44, FIPS 204)."""
WITNESS_ALGORITHMS: Final = {"ed25519": ALG_COSIGNATURE, "ml-dsa-44": ALG_COSIGNATURE_MLDSA}
"""The kinds of witness key that a site can choose, by name."""
KEY_ID_BYTES: Final = 4
SIGNATURE_BYTES: Final = {ALG_ED25519: 64, ALG_COSIGNATURE: 64, ALG_COSIGNATURE_MLDSA: 2420}
"""Bytes of a signature by algorithm."""
PUBLIC_KEY_BYTES: Final = {ALG_ED25519: 32, ALG_COSIGNATURE: 32, ALG_COSIGNATURE_MLDSA: 1312}
"""Bytes of a public key by algorithm."""
_DASH: Final = "\u2014"
_CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f]")  # all below U+0020 but the newline

LOW_ORDER_KEYS: Final = frozenset(
    bytes.fromhex(encoding)
    for encoding in (
        "00" * 32,
        "00" * 31 + "80",
        "01" + "00" * 31,
        "01" + "00" * 30 + "80",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        "ec" + "ff" * 30 + "7f",
        "ec" + "ff" * 30 + "ff",
        "ed" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "ff",
        "ee" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "ff",
    )
)
"""8 points of small order and their 6 non-canonical spellings (CCTV ed25519 vectors)."""


def key_id(name: str, algorithm: int, public: bytes) -> str:
    """Return a key's id, 8 hex characters: the first 4 bytes of SHA-256(name | newline | alg | key)."""
    material = name.encode() + b"\n" + bytes([algorithm]) + public
    return hashlib.sha256(material).digest()[:KEY_ID_BYTES].hex()


@dataclass(frozen=True, slots=True)
class SignatureLine:
    """One parsed signature line: who says it signed, and the bytes."""

    name: str
    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class UnverifiedNote:
    """A note that has the right form; nothing about its signatures is known yet."""

    text: str
    lines: tuple[SignatureLine, ...]


def parse_note(note: bytes) -> UnverifiedNote:
    """Split a note into text and signature lines, refusing every second spelling.

    Raises:
        NoteError: The bytes are not a canonical signed note.
    """
    try:
        whole = note.decode("utf-8")
    except UnicodeDecodeError:
        raise NoteError("a note is UTF-8 text") from None
    if _CONTROL.search(whole):
        raise NoteError("a note holds no control characters other than the newline")
    text, blank, signatures = whole.rpartition("\n\n")
    if not blank or not signatures.endswith("\n"):
        raise NoteError("a note ends in an empty line and signature lines")
    lines = tuple(_parse_line(line) for line in signatures[:-1].split("\n"))
    return UnverifiedNote(text + "\n", lines)


def _parse_line(line: str) -> SignatureLine:
    parts = line.split(" ")
    if len(parts) != 3 or parts[0] != _DASH:
        raise NoteError("a signature line is a dash, a key name and a signature")
    _check_name(parts[1])
    blob = _decode_base64(parts[2], "a signature")
    if len(blob) <= KEY_ID_BYTES:
        raise NoteError("a signature line holds a key id and a signature")
    return SignatureLine(parts[1], blob[:KEY_ID_BYTES].hex(), blob[KEY_ID_BYTES:])


class Claim(NamedTuple):
    """A signature yet to be checked: kind and bytes of the key, the signature, what it is over."""

    algorithm: int
    public: bytes
    signature: bytes
    message: bytes


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with its name: opens notes of one author.

    Attributes:
        name: The key's name, without blanks or plus signs.
        key_id: 8 hex characters.
        algorithm: 0x01 (notes), 0x04 or 0x06 (witness cosignatures).
        public: The bytes of the key: 32 of Ed25519, 1312 of ML-DSA-44.
    """

    name: str
    key_id: str
    algorithm: int
    public: bytes

    @classmethod
    def parse(cls, vkey: str) -> Self:
        """Read a vkey.

        Raises:
            NoteError: The vkey is malformed, its id is not its own, or the key is of low order.
        """
        parts = vkey.split("+", 2)
        if len(parts) != 3:
            raise NoteError("a vkey is name, key id and key, joined by plus signs")
        name, identifier, encoded = parts
        _check_name(name)
        blob = _decode_base64(encoded, "a vkey")
        if not blob or len(blob) - 1 != PUBLIC_KEY_BYTES.get(blob[0]):
            raise NoteError(f"the key of {name} is not a key of a known kind")
        algorithm, public = blob[0], blob[1:]
        if public in LOW_ORDER_KEYS:
            raise NoteError(f"the key of {name} is a low-order point: its signatures would mean nothing")
        if identifier != key_id(name, algorithm, public):
            raise NoteError(f"the key id of {name} does not belong to its key")
        return cls(name, identifier, algorithm, public)

    @property
    def vkey(self) -> str:
        """The key in vkey form."""
        encoded = base64.b64encode(bytes([self.algorithm]) + self.public).decode()
        return f"{self.name}+{self.key_id}+{encoded}"

    def open(self, note: bytes) -> str:
        """Return the text of a note that carries exactly one signature line: this key's (G45).

        Raises:
            NoteError: Another form, another signer, or a signature that does not hold.
        """
        parsed = parse_note(note)
        self.need(holds(self.claim_alone(parsed)))
        return parsed.text

    def verify(self, note: UnverifiedNote) -> None:
        """Check this key's signature on a parsed note; lines of other keys are left alone.

        Raises:
            NoteError: There is no line of this key, more than one, or its signature does not hold.
        """
        self.need(holds(self.claim(note)))

    def claim(self, note: UnverifiedNote) -> Claim:
        """Return what has to hold for this key to have signed a parsed note; see `holds` and `need`.

        Raises:
            NoteError: There is no line of this key, or more than one.
        """
        if self.algorithm != ALG_ED25519:
            raise NoteError(f"the key {self.name} signs cosignatures, not notes")
        own = [line for line in note.lines if (line.name, line.key_id) == (self.name, self.key_id)]
        if len(own) != 1:
            raise NoteError(f"expected one signature by {self.name} ({self.key_id}), found {len(own)}")
        return Claim(self.algorithm, self.public, own[0].signature, note.text.encode())

    def claim_alone(self, note: UnverifiedNote) -> Claim:
        """Return the same for a note that may carry no other line (G45).

        Raises:
            NoteError: Another signer, or several lines.
        """
        # R5.1.1
        if len(note.lines) != 1:  # G45: a junk line would change the leaf and frame an honest author
            raise NoteError(f"a note has exactly one signature line, got {len(note.lines)}", check="G45")
        return self.claim(note)

    def need(self, held: bool) -> None:
        """Demand that this key's claim was found to hold.

        Raises:
            NoteError: It was not.
        """
        if not held:
            raise NoteError(f"the signature by {self.name} ({self.key_id}) does not hold")


class NoteSigner:
    """A private key with its name: signs notes of one author, or heads as a witness."""

    def __init__(
        self, name: str, key: Ed25519PrivateKey | MLDSA44PrivateKey, *, algorithm: int = ALG_ED25519
    ) -> None:
        """Take a key; ``algorithm`` 0x04 and 0x06 make a witness key, which signs no notes."""
        _check_name(name)
        self._key = key
        public = key.public_key().public_bytes_raw()
        self.verifier = VerifierKey(name, key_id(name, algorithm, public), algorithm, public)

    @classmethod
    def generate(cls, name: str, *, algorithm: int = ALG_ED25519) -> Self:
        """Make a fresh key from the operating system's randomness."""
        return cls.from_seed(name, secrets.token_bytes(32), algorithm=algorithm)

    @classmethod
    def from_seed(cls, name: str, seed: bytes, *, algorithm: int = ALG_ED25519) -> Self:
        """Make the key of a 32-byte seed."""
        if algorithm == ALG_COSIGNATURE_MLDSA:
            return cls(name, MLDSA44PrivateKey.from_seed_bytes(seed), algorithm=algorithm)
        return cls(name, Ed25519PrivateKey.from_private_bytes(seed), algorithm=algorithm)

    def __repr__(self) -> str:
        """Show the public side only."""
        return f"NoteSigner({self.vkey!r})"

    @property
    def name(self) -> str:
        """The key's name."""
        return self.verifier.name

    @property
    def key_id(self) -> str:
        """The key's id, 8 hex characters."""
        return self.verifier.key_id

    @property
    def vkey(self) -> str:
        """The public key in vkey form."""
        return self.verifier.vkey

    def sign(self, text: str) -> bytes:
        """Sign a text that ends in a newline; returns the note.

        Raises:
            NoteError: The text may not be a note, or this is a witness key.
        """
        if self.verifier.algorithm != ALG_ED25519:
            raise NoteError(f"the key {self.name} signs cosignatures, not notes")
        if not text.endswith("\n"):
            raise NoteError("the text of a note ends in a newline")
        if _CONTROL.search(text):
            raise NoteError("a note holds no control characters other than the newline")
        return f"{text}\n".encode() + signature_line(self.verifier, self._key.sign(text.encode()))

    def sign_bytes(self, message: bytes) -> bytes:
        """Return the raw signature over bytes that are no note: a proof of possession, a cosignature."""
        return self._key.sign(message)


def signature_line(key: VerifierKey, signature: bytes) -> bytes:
    """Write the signature line of a note, with its newline."""
    blob = bytes.fromhex(key.key_id) + signature
    return f"{_DASH} {key.name} {base64.b64encode(blob).decode()}\n".encode()


def verify_bytes(key: VerifierKey, message: bytes, signature: bytes) -> None:
    """Check a raw signature made by `NoteSigner.sign_bytes`.

    Raises:
        NoteError: The signature does not hold.
    """
    key.need(holds(Claim(key.algorithm, key.public, signature, message)))


def holds(claim: Claim) -> bool:
    """Tell whether a signature holds: the one costly step of opening a note, apart so that others may do it.

    Whoever calls this hands the answer to `VerifierKey.need`.
    """
    try:
        _public_key(claim.algorithm, claim.public).verify(claim.signature, claim.message)
    except (InvalidSignature, ValueError):
        return False
    return True


@lru_cache(maxsize=4096)  # a log has few keys and many signatures
def _public_key(algorithm: int, public: bytes) -> Ed25519PublicKey | MLDSA44PublicKey:
    if algorithm == ALG_COSIGNATURE_MLDSA:
        return MLDSA44PublicKey.from_public_bytes(public)
    return Ed25519PublicKey.from_public_bytes(public)


@lru_cache(maxsize=4096)  # names that are refused raise, and are not kept
def _check_name(name: str) -> None:
    if not name or "+" in name or any(unicodedata.category(c)[0] in "ZC" for c in name):
        raise NoteError("a key name is not empty and has no blanks, control characters or plus signs")


def _decode_base64(encoded: str, what: str) -> bytes:
    try:
        blob = base64.b64decode(encoded.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise NoteError(f"{what} is base64") from None
    if base64.b64encode(blob).decode() != encoded:  # G45: unused bits would give one signature two spellings
        raise NoteError(f"{what} is canonical base64", check="G45")
    return blob
