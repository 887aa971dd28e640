"""Which payload goes with which event, and who may fetch it (PROTOCOL §3.2).

The law sees digests only; here are the bytes. An event whose payload is not on the disk is not taken, so a
receipt always covers the payload too.
"""

from collections.abc import Iterable
from typing import Final

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import KeysBroadcast
from fedmedlora_audit.events import Entry, Event, Object
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.vote_payloads import VotePayloads
from fedmedlora_core.vote import vote_length
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_crypto.secagg.aggregator import Aggregator
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_protos.wire import Reason

MAX_SMALL_BYTES: Final = 4 << 20  # keys, shares and opened shares of any study fit (1024 members, hybrid)
PUBLIC_ROLES: Final = frozenset({"keys", "shares", "ring-sum", "adapter"})


def session_terms(terms: CharterTerms, sid: str) -> SessionTerms:
    """Return the constants of one session, from the charter alone."""
    return SessionTerms(
        sid=bytes.fromhex(sid),
        n=terms.n,
        threshold=terms.threshold,
        colluding=terms.colluding_sites,
        suite=terms.suite,
    )


def party_of(terms: CharterTerms, site: str) -> int:
    """Return a member's party index: its position in the charter, from 1."""
    return terms.member_ids.index(site) + 1


class Payloads:
    """The rules about payloads, with what the log has said about digests so far."""

    def __init__(
        self, terms: CharterTerms, blobs: BlobStore, ring_bytes: int, padding: Iterable[int] = ()
    ) -> None:
        """Take the charter, the blobs, the size of a masked update and where its padding lies, in bytes."""
        self._terms = terms
        self._blobs = blobs
        self._ring_bytes = ring_bytes
        self._padding = tuple(padding)
        self._roles: dict[str, str] = {}
        self._votes = VotePayloads()
        self._broadcast: dict[str, KeysBroadcast] = {}

    def learn(self, entries: Iterable[Entry]) -> None:
        """Note in which role a digest was named.

        The coordinator's word stands, then the first site's. A later one changes nothing: a site could name
        another's upload as its own keys, to read it, or a published sum as its upload, to have it deleted.
        """
        for entry in entries:
            self._votes.learn(entry.event)
            if isinstance(entry.event.data, KeysBroadcast):
                self._broadcast[entry.event.data.sid] = entry.event.data
            for item in entry.event.objects:
                self._blobs.claim(item.digest)
                if entry.event.actor.role == "coordinator":
                    self._roles[item.digest] = item.role
                else:
                    self._roles.setdefault(item.digest, item.role)

    def is_public(self, digest: str) -> bool:
        """Tell whether members may fetch a blob: keys, sealed shares and sums; no upload, no opened share.

        But those of counted votes: every voter counts again (R4.7.5).
        """
        return self._roles.get(digest) in PUBLIC_ROLES or self._votes.is_shown(digest)

    def lasting(self) -> set[str]:
        """Return the digests of payloads that stay when their session is over: those that are public."""
        return {digest for digest, role in self._roles.items() if role in PUBLIC_ROLES}

    def check_upload(self, total_bytes: int) -> None:
        """Refuse a blob that no event of this study could name.

        Raises:
            PeerRefusedError: too_large.
        """
        known = (self._ring_bytes, 4 * vote_length(self._terms.n))
        if total_bytes > MAX_SMALL_BYTES and total_bytes not in known:
            raise PeerRefusedError(Reason.TOO_LARGE)

    def check(self, event: Event) -> None:
        """Check the payload of a site's event before the event is written.

        Raises:
            PeerRefusedError: blob_missing, or bad_payload when the bytes do not fit their role.
        """
        for item in event.objects:
            size = self._blobs.size(item.digest)
            if size is None or size != item.bytes:
                raise PeerRefusedError(Reason.BLOB_MISSING)
            self._check_size(item, self._votes.is_vote(event.sid))
            if item.role == "shares" and event.sid is not None:
                self._check_shares(event, item, event.sid)

    def _check_size(self, item: Object, vote: bool) -> None:
        upload_bytes = 4 * vote_length(self._terms.n) if vote else self._ring_bytes
        fits = item.bytes == upload_bytes if item.role == "masked-update" else item.bytes <= MAX_SMALL_BYTES
        if not fits:
            raise PeerRefusedError(Reason.BAD_PAYLOAD)
        # R4.5.2: found at the sum, one bad byte would cost everybody the round.
        padded = item.role == "masked-update" and not vote
        if padded and any(self._blobs.byte_at(item.digest, at) for at in self._padding):
            raise PeerRefusedError(Reason.BAD_PAYLOAD)

    def _check_shares(self, event: Event, item: Object, sid: str) -> None:
        sender = party_of(self._terms, event.actor.id)
        aggregator = Aggregator(session_terms(self._terms, sid))
        broadcast = self._broadcast[sid]
        holders = [party_of(self._terms, row.id) for row in broadcast.u1]
        try:
            # Shares dealt under another list would only be found by every site, at the cost of the attempt.
            aggregator.check_shares(
                sender, self._blobs.read(item.digest), u1=holders, view=bytes.fromhex(broadcast.view)
            )
        except CryptoError as error:
            raise PeerRefusedError(Reason.BAD_PAYLOAD, detail=type(error).__name__) from None
