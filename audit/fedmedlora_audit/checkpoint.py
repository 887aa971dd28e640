"""Checkpoints: the signed head of the log (c2sp.org/tlog-checkpoint, AUDIT "Checkpoints").

The body has three lines: origin, tree size, base64 of the root. The log's key signs it as a note. Further
signature lines (witness cosignatures) may follow and are left alone here; extension lines are refused.
"""

import base64
import binascii
import re
from dataclasses import dataclass
from typing import Final

from fedmedlora_audit.errors import CheckpointError, NoteError
from fedmedlora_audit.merkle import HASH_BYTES
from fedmedlora_audit.note import NoteSigner, VerifierKey, parse_note

_SIZE: Final = re.compile(r"0|[1-9][0-9]{0,15}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What a head says: this log has this many entries under this root.

    Attributes:
        origin: The log's name, unique for ever.
        size: Number of entries.
        root: 32 bytes.
    """

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        """The text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def sign_checkpoint(checkpoint: Checkpoint, signer: NoteSigner) -> bytes:
    """Sign a checkpoint with the log's key; returns the note."""
    return signer.sign(checkpoint.body)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read the body of a checkpoint.

    Raises:
        CheckpointError: It has another form than origin, size, root.
    """
    lines = text.split("\n")
    if len(lines) != 4 or lines[3] or not lines[0]:
        raise CheckpointError("a checkpoint has the three lines origin, size and root")
    if not _SIZE.fullmatch(lines[1]):
        raise CheckpointError("a checkpoint's size is a decimal number without leading zeros")
    try:
        root = base64.b64decode(lines[2].encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise CheckpointError("a checkpoint's root is base64") from None
    if len(root) != HASH_BYTES or base64.b64encode(root).decode() != lines[2]:
        raise CheckpointError(f"a checkpoint's root is the canonical base64 of {HASH_BYTES} bytes")
    return Checkpoint(lines[0], int(lines[1]), root)


def open_checkpoint(note: bytes, key: VerifierKey, *, origin: str | None = None) -> Checkpoint:
    """Return the checkpoint of a note signed by the log's key.

    Args:
        note: The signed checkpoint.
        key: The log's key.
        origin: When given, the only origin accepted.

    Raises:
        CheckpointError: The note is malformed, not signed by that key, or of another log.
    """
    try:
        parsed = parse_note(note)
        key.verify(parsed)
    except NoteError as error:
        raise CheckpointError(f"checkpoint: {error.sentence}") from None
    checkpoint = parse_checkpoint(parsed.text)
    if origin is not None and checkpoint.origin != origin:
        raise CheckpointError("the checkpoint is of another log")
    return checkpoint
