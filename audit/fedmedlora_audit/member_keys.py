"""Which keys speak for whom at which entry of the log (AUDIT "Keys over time").

A charter names each member's first event key and witness key. The event ``key.rotated`` brings in a later
one: the member signs it with its old event key, and the new key proves that the member holds it. A key counts
by leaf index, never by a clock: the old event key up to and with that entry, the new one after it; a witness
key for heads that do not cover the entry, and the new one for heads that do. After ``site.left`` a member has
no key at all.

A key book follows a log entry by entry. It judges nothing: the law does, with the same book.
"""

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Protocol, Self

from fedmedlora_audit.errors import NoteError
from fedmedlora_audit.event_data import KeyRotated, SiteLeft
from fedmedlora_audit.events import COORDINATOR_ID, Actor, Event
from fedmedlora_audit.note import NoteSigner, VerifierKey, verify_bytes

ROTATION_LABEL: Final = b"fedmedlora/v1/rotation\0"
"""Begins what old and new key sign; no note and no cosignature begins so."""


class NamedKeys(Protocol):
    """A member as a charter or a trust file names it."""

    @property
    def event_vkey(self) -> str:
        """Its first event key."""

    @property
    def witness_vkey(self) -> str:
        """Its first witness key."""


@dataclass(slots=True)
class KeyBook:
    """The keys of all parties, as far as a log has been read.

    Attributes:
        events: The key that each party's next event is signed with.
        left: Entry index of each ``site.left``, by member.
        used: Every public key that was ever named, the log's own included: none serves a second time.
    """

    events: dict[str, VerifierKey]
    _witnesses: dict[str, list[tuple[int, VerifierKey]]]
    used: set[bytes]
    left: dict[str, int] = field(default_factory=dict)

    @classmethod
    def begin(cls, members: Mapping[str, NamedKeys], *, coordinator_vkey: str, log_vkey: str) -> Self:
        """Open the book with the keys of a charter, or of a trust file."""
        events = {site: VerifierKey.parse(keys.event_vkey) for site, keys in members.items()}
        witnesses = {site: VerifierKey.parse(keys.witness_vkey) for site, keys in members.items()}
        events[COORDINATOR_ID] = VerifierKey.parse(coordinator_vkey)
        used = {key.public for key in (*events.values(), *witnesses.values(), VerifierKey.parse(log_vkey))}
        return cls(events, {site: [(-1, key)] for site, key in witnesses.items()}, used)

    def event_key_of(self, actor: Actor) -> VerifierKey | None:
        """Return the key that an actor's next event is signed with; None for a stranger."""
        return self.events.get(actor.id)

    def key_of(self, site: str, kind: str) -> VerifierKey:
        """Return a member's newest key of a kind, "event" or "witness"."""
        return self.events[site] if kind == "event" else self._witnesses[site][-1][1]

    def witnesses_at(self, size: int) -> dict[str, VerifierKey]:
        """Return the keys that cosign the head over the first ``size`` entries, by member.

        A member that left within them witnesses no more.
        """
        keys = {}
        for site, history in self._witnesses.items():
            if self.left.get(site, size) >= size:
                keys[site] = next(key for index, key in reversed(history) if index < size)
        return keys

    def take(self, index: int, event: Event) -> None:
        """Follow the log by one event; one that changes no key changes nothing.

        Args:
            index: Its entry index.
            event: The event, lawful or not: a reader that goes on after a finding follows it all the same.
        """
        site, data = event.actor.id, event.data
        if isinstance(data, SiteLeft):
            self.left.setdefault(site, index)
        if not isinstance(data, KeyRotated) or site not in self._witnesses:
            return
        try:
            key = VerifierKey.parse(data.vkey)
        except NoteError:
            return
        self.used.add(key.public)
        if data.key == "event":
            self.events[site] = key
        else:
            self._witnesses[site].append((index, key))


def rotation_message(
    *, origin: str, charter: str, site: str, kind: str, old: VerifierKey, new: VerifierKey
) -> bytes:
    """Return what a new key signs to show who holds it: for one log, one member, after one key."""
    fields = [text.encode() for text in (origin, charter, site, kind, old.vkey, new.vkey)]
    return ROTATION_LABEL + b"".join(len(part).to_bytes(4, "big") + part for part in fields)


def rotation_data(*, origin: str, charter: str, kind: str, old: NoteSigner, new: NoteSigner) -> KeyRotated:
    """Make the data of ``key.rotated``; the event is then signed with the old event key.

    Args:
        origin: The log's origin.
        charter: The charter's digest, 64 hex.
        kind: "event" or "witness".
        old: The member's key of that kind so far.
        new: The key that takes its place.
    """
    message = rotation_message(
        origin=origin, charter=charter, site=old.name, kind=kind, old=old.verifier, new=new.verifier
    )
    proofs = {"possession": _written(new.sign_bytes(message))}
    if kind == "witness":  # the event itself is signed with the old event key, not with this one
        proofs["consent"] = _written(old.sign_bytes(message))
    return KeyRotated.model_validate({"key": kind, "vkey": new.vkey, **proofs})


def check_proof(key: VerifierKey, message: bytes, proof: str) -> None:
    """Check a signature of ``rotation_message`` as it stands in the event.

    Raises:
        NoteError: It does not hold.
    """
    try:
        signature = base64.b64decode(proof, validate=True)
    except ValueError:  # not base64, or not even ASCII
        raise NoteError("a proof is base64") from None
    if _written(signature) != proof:
        raise NoteError("a proof is canonical base64", check="G45")
    verify_bytes(key, message, signature)


def _written(signature: bytes) -> str:
    return base64.b64encode(signature).decode()
