"""Cosignatures: a witness says which head it saw, and when (c2sp.org/tlog-cosignature, AUDIT "Witnesses").

Every member of a study is a witness of its log. It mirrors the log, so it knows that a head continues the one
before; then it signs that head with its witness key, under its own clock. A head counts once T members have
cosigned it: two such quorums share an honest member (2T > n + c), and an honest member cosigns one history.

Format: one more line on the checkpoint's note, ``— <name> base64(key id | time | signature)``, the time in 8
big-endian bytes of seconds since 1970. An Ed25519 key (0x04) signs ``cosignature/v1``, ``time <T>`` and the
body; an ML-DSA-44 key (0x06) signs a binary structure that also names the witness.

Which heads are cosigned follows from the log alone (`is_cosigned_after`), so that all members sign the same
sizes: the head that covers ``survivors.fixed``, before anything is opened, and the one that ends a round.

What this does not do: keep a witness's state, which has to be on its disk before it answers.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from fedmedlora_audit.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from fedmedlora_audit.errors import CheckpointError, NoteError
from fedmedlora_audit.note import (
    ALG_COSIGNATURE,
    SIGNATURE_BYTES,
    WITNESS_ALGORITHMS,
    NoteSigner,
    SignatureLine,
    VerifierKey,
    parse_note,
    signature_line,
    verify_bytes,
)

TIME_BYTES: Final = 8
COSIGNED_AFTER: Final = frozenset(
    {"survivors.fixed", "round.closed", "round.aborted", "round.rolled_back", "run.closed"}
)
"""Events after which the head is cosigned."""


def is_cosigned_after(event_type: str) -> bool:
    """Tell whether the head that ends with an event of this type is one that witnesses sign."""
    return event_type in COSIGNED_AFTER


@dataclass(frozen=True, slots=True)
class CosignedHead:
    """A head of the log with the witnesses that stand behind it.

    Attributes:
        checkpoint: The head.
        times: Seconds since 1970 by member, of each cosignature that holds.
        note: The note as it was read.
    """

    checkpoint: Checkpoint
    times: Mapping[str, int]
    note: bytes

    def need_quorum(self, quorum: int) -> None:
        """Demand cosignatures of so many members.

        Raises:
            CheckpointError: There are fewer (C3).
        """
        if len(self.times) < quorum:
            raise CheckpointError(f"the head has {len(self.times)} of {quorum} cosignatures", check="C3")

    @property
    def median_time(self) -> int:
        """The median of the witnesses' clocks, the lower one of two; a third of them cannot move it far.

        Raises:
            CheckpointError: Nobody cosigned it.
        """
        if not self.times:
            raise CheckpointError("the head has no cosignature", check="C3")
        return sorted(self.times.values())[(len(self.times) - 1) // 2]


def cosign(checkpoint: Checkpoint, signer: NoteSigner, *, time: int) -> bytes:
    """Cosign a head; returns the signature line with its newline.

    Args:
        checkpoint: A head that continues every head this witness has signed; the caller has checked it.
        signer: The witness key.
        time: Seconds since 1970 by this witness's clock; >= 0.

    Raises:
        NoteError: The key is no witness key (the caller's mistake).
    """
    if signer.verifier.algorithm not in WITNESS_ALGORITHMS.values():
        raise NoteError(f"the key {signer.name} signs notes, not cosignatures")
    signature = signer.sign_bytes(cosignature_message(checkpoint, time, signer.verifier))
    return signature_line(signer.verifier, time.to_bytes(TIME_BYTES, "big") + signature)


def open_cosignature(line: SignatureLine, key: VerifierKey, checkpoint: Checkpoint) -> int:
    """Check one cosignature of a head; returns its time in seconds since 1970.

    Raises:
        CheckpointError: It is not by that key or does not hold.
    """
    named = (line.name, line.key_id) == (key.name, key.key_id)
    size = TIME_BYTES + SIGNATURE_BYTES[key.algorithm]
    if key.algorithm not in WITNESS_ALGORITHMS.values() or not named or len(line.signature) != size:
        raise CheckpointError(f"the cosignature by {line.name} is not by a known witness key", check="C3")
    time = int.from_bytes(line.signature[:TIME_BYTES], "big")
    try:
        verify_bytes(key, cosignature_message(checkpoint, time, key), line.signature[TIME_BYTES:])
    except NoteError:
        raise CheckpointError(f"the cosignature by {line.name} does not hold", check="C3") from None
    return time


def open_line(line: bytes, key: VerifierKey, checkpoint: Checkpoint) -> int:
    """Check a cosignature that came as a bare line; returns its time in seconds since 1970.

    Raises:
        CheckpointError: It is no line, not by that key, or does not hold.
    """
    try:
        lines = parse_note(checkpoint.body.encode() + b"\n" + line).lines
    except NoteError as error:
        raise CheckpointError(f"cosignature: {error.sentence}", check="C3") from None
    if len(lines) != 1:
        raise CheckpointError("a cosignature is one line", check="C3")
    return open_cosignature(lines[0], key, checkpoint)


def with_cosignatures(note: bytes, lines: Iterable[bytes]) -> bytes:
    """Put cosignature lines under a head's own signature, in the order of their bytes."""
    return note + b"".join(sorted(lines))


class Member(Protocol):
    """A member as a charter or a trust file names it."""

    @property
    def witness_vkey(self) -> str:
        """Its witness key."""


def witness_keys(members: Mapping[str, Member]) -> dict[str, VerifierKey]:
    """Return every member's witness key."""
    return {site: VerifierKey.parse(member.witness_vkey) for site, member in members.items()}


def open_cosigned(
    note: bytes, log_key: VerifierKey, witnesses: Mapping[str, VerifierKey], *, origin: str
) -> CosignedHead:
    """Open a head with its cosignatures; lines of unknown keys are left alone (c2sp.org/signed-note).

    Args:
        note: The head with whatever lines it carries.
        log_key: The log's key; its signature has to hold.
        witnesses: Witness keys by member.
        origin: The only origin accepted.

    Raises:
        CheckpointError: The head is not the log's, or a known key's line does not hold or comes twice.
    """
    checkpoint = open_checkpoint(note, log_key, origin=origin)
    owners = {(key.name, key.key_id): (site, key) for site, key in witnesses.items()}
    times: dict[str, int] = {}
    for line in parse_note(note).lines:
        owner = owners.get((line.name, line.key_id))
        if owner is None:
            continue
        site, key = owner
        if site in times:
            raise CheckpointError(f"{site} cosigned the head twice", check="C3")
        times[site] = open_cosignature(line, key, checkpoint)
    return CosignedHead(checkpoint, times, note)


def checkpoint_of(note: bytes) -> Checkpoint:
    """Read the head of a note without looking at its signatures, for whoever has checked them before.

    Raises:
        CheckpointError: It is malformed.
    """
    try:
        return parse_checkpoint(parse_note(note).text)
    except NoteError as error:
        raise CheckpointError(f"checkpoint: {error.sentence}") from None


def cosignature_message(checkpoint: Checkpoint, time: int, key: VerifierKey) -> bytes:
    """Return what a witness signs: a text, or the structure `cosigned_message` of the specification."""
    if key.algorithm == ALG_COSIGNATURE:
        return f"cosignature/v1\ntime {time}\n{checkpoint.body}".encode()
    parts = [
        b"subtree/v1\n\0",
        _opaque(key.name),
        time.to_bytes(8, "big"),
        _opaque(checkpoint.origin),
        (0).to_bytes(8, "big"),  # a head is the subtree from entry 0 on
        checkpoint.size.to_bytes(8, "big"),
        checkpoint.root,
    ]
    return b"".join(parts)


def _opaque(name: str) -> bytes:
    """Encode a name as ``opaque<1..2^8-1>`` of RFC 8446."""
    encoded = name.encode()
    if not 1 <= len(encoded) <= 255:
        raise NoteError("a name in a cosignature has 1 to 255 bytes")
    return bytes([len(encoded)]) + encoded
