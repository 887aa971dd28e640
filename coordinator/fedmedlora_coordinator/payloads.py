"""Which payload goes with which event, and who may fetch it (PROTOCOL §3.2).

The law sees digests only; here are the bytes. An event whose payload is not on the disk is not taken, so a
receipt always covers the payload too.
"""

from collections.abc import Iterable, Sequence
from typing import Final

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import AggregatePublished, SurvivorsFixed
from fedmedlora_audit.events import Entry, Event, Object
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_coordinator.blobs import BlobStore
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.model import RoundSizes
from fedmedlora_coordinator.neighbourhoods import Neighbourhoods, party_of
from fedmedlora_coordinator.recounted_payloads import RecountedPayloads
from fedmedlora_core.vote import vote_length
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_crypto.secagg.aggregator import Aggregator
from fedmedlora_crypto.secagg.suites import CKKS_SUITE, PLAIN_SUITE
from fedmedlora_protos.wire import Reason

MAX_SMALL_BYTES: Final = 4 << 20  # keys, shares and opened shares of any study fit (1024 members, hybrid)
EVIDENCE_ROLES: Final = frozenset({"masked-update", "opened-shares"})
PUBLIC_ROLES: Final = frozenset({"keys", "shares", "ring-sum", "adapter"})


class Payloads:
    """The rules about payloads, with what the log has said about digests so far."""

    def __init__(
        self,
        terms: CharterTerms,
        blobs: BlobStore,
        sizes: Sequence[RoundSizes],
    ) -> None:
        """Take the charter, the blobs and sizes.

        Args:
            terms: The charter.
            blobs: The payloads.
            sizes: Of the vectors of odd rounds, and of even ones if they are others.
        """
        self._terms = terms
        self._blobs = blobs
        self._sizes = tuple(sizes)
        self._summed: set[str] = set()  # uploads of a fixed U3
        self._roles: dict[str, str] = {}
        self._opened: dict[str, set[str]] = {}  # sid -> digests that were opened shares from the first
        self._evidence: set[str] = set()  # digests of the evidence of published sums
        self.neighbourhoods = Neighbourhoods(terms, blobs)
        self._recounted = RecountedPayloads(terms)

    def learn(self, entries: Iterable[Entry]) -> None:
        """Note in which role a digest was named.

        The coordinator's word stands, then the first site's. A later one changes nothing: a site could name
        another's upload as its own keys, to read it, or a published sum as its upload, to have it deleted.
        """
        for entry in entries:
            self._learn_evidence(entry.event)
            self.neighbourhoods.learn(entry)
            self._recounted.learn(entry.event)
            if isinstance(entry.event.data, SurvivorsFixed):
                self._summed |= {row.digest for row in entry.event.data.u3}
            for item in entry.event.objects:
                self._blobs.claim(item.digest)
                if entry.event.actor.role == "coordinator":
                    self._roles[item.digest] = item.role
                else:
                    self._roles.setdefault(item.digest, item.role)

    def _learn_evidence(self, event: Event) -> None:
        """R3.2.3: the uploads and opened shares behind a sum may be fetched once the sum is in the log.

        Only those: uploads of U3, and opened shares that came before the sum. The upload of a site that
        dropped out, or of an attempt that was given up, is never among them, though a survivor name it as
        its own opened shares: what was named before is not what this event opens. Ciphertexts are not
        evidence (R4.6.7): who holds their key reads each alone.
        """
        if event.type == "unmask.response" and event.sid is not None:
            if event.object_digest not in self._roles:
                self._opened.setdefault(event.sid, set()).add(event.object_digest)
        elif isinstance(event.data, AggregatePublished) and self._terms.suite != CKKS_SUITE:
            self._evidence |= {row.digest for row in event.data.inputs}
            self._evidence |= self._opened.get(event.data.sid, set())

    def may_fetch(self, site: str, digest: str) -> bool:
        """Tell whether a member may fetch a blob.

        R6.16.6: who holds the CKKS key adds the survivors' uploads itself, so it may fetch exactly those,
        once the survivors are fixed; nobody else may, and no other upload.
        """
        custody = self._terms.custody
        if custody is not None and custody.decrypts(site) and digest in self._summed:
            return self._roles.get(digest) == "masked-update"
        return self.is_public(digest)

    def is_public(self, digest: str) -> bool:
        """Tell whether members may fetch a blob: keys, sealed shares, sums, and a sum's evidence (R3.2.3)."""
        role = self._roles.get(digest)
        if role in PUBLIC_ROLES or self._recounted.is_shown(digest):  # R4.7.5, R4.15.6
            return True
        return role in EVIDENCE_ROLES and digest in self._evidence

    def opened(self, sid: str) -> set[str]:
        """Return the digests that a session's responses were the first to name."""
        return self._opened.get(sid, set())

    def lasting(self) -> set[str]:
        """Return the digests of payloads that stay when their session is over: those that are public."""
        return {digest for digest, role in self._roles.items() if role in PUBLIC_ROLES}

    def most_moved(self) -> int:
        """Return a bound of the payload bytes that a site moves in one step: the sum, and all uploads."""
        largest = max(max(sizes.ring, sizes.upload) for sizes in self._sizes)
        return (self._terms.n + 2) * max(largest, MAX_SMALL_BYTES)

    def check_upload(self, total_bytes: int) -> None:
        """Refuse a blob that no event of this study could name.

        Raises:
            PeerRefusedError: too_large.
        """
        known = {4 * vote_length(self._terms.n)}
        known |= {size for sizes in self._sizes for size in (sizes.ring, sizes.upload)}
        if total_bytes > MAX_SMALL_BYTES and total_bytes not in known:
            raise PeerRefusedError(Reason.TOO_LARGE)

    def check_chunk(self, total_bytes: int, index: int, data: bytes) -> None:
        """Refuse a chunk of a ring vector with bytes behind its last word.

        Raises:
            PeerRefusedError: bad_payload.
        """
        # R4.5.2: found at the sum, one bad byte would cost everybody the round.
        last = index * CHUNK_BYTES + len(data) - 1
        for sizes in self._sizes:
            if total_bytes == sizes.ring and last in sizes.padding and data[-1]:
                raise PeerRefusedError(Reason.BAD_PAYLOAD)

    def check(self, event: Event) -> None:
        """Check the payload of a site's event before the event is written.

        Raises:
            PeerRefusedError: blob_missing, or bad_payload when the bytes do not fit their role, or were
                named before.
        """
        for item in event.objects:
            # R3.2.7: who names another's payload as its own could have it shown or kept.
            if item.digest in self._roles and not self._recurs(item.role):
                raise PeerRefusedError(Reason.BAD_PAYLOAD, detail="the payload was named before")
            # R3.2.2: a blob has a size here once it is complete and durable.
            size = self._blobs.size(item.digest)
            if size is None or size != item.bytes:
                raise PeerRefusedError(Reason.BLOB_MISSING)
            self._check_size(item, event.round, self._recounted.upload_bytes(event.sid))
            if item.role == "shares" and event.sid is not None:
                self._check_shares(event, item, event.sid)

    def _recurs(self, role: str) -> bool:
        """Tell whether honest sites can send the same bytes twice: a sum, or an update without masks."""
        return role == "decrypted-sum" or (role == "masked-update" and self._terms.suite == PLAIN_SUITE)

    def _check_size(self, item: Object, round_number: int | None, counted: int | None) -> None:
        sizes = self._sizes[((round_number or 1) - 1) % len(self._sizes)]  # R4.10.2
        upload_bytes = sizes.upload if counted is None else counted
        exact = {"masked-update": upload_bytes, "decrypted-sum": sizes.ring}.get(item.role)
        if item.bytes > MAX_SMALL_BYTES if exact is None else item.bytes != exact:
            raise PeerRefusedError(Reason.BAD_PAYLOAD)

    def _check_shares(self, event: Event, item: Object, sid: str) -> None:
        sender, known = party_of(self._terms, event.actor.id), self.neighbourhoods
        aggregator = Aggregator(known.terms_of(sid))
        try:
            # Shares dealt under another list would only be found by every site, at the cost of the attempt.
            holders = known.graph_of(sid).holders_of(sender)
            payload = self._blobs.read(item.digest)
            aggregator.check_shares(sender, payload, holders=holders, view=known.view_of(sid))
        except CryptoError as error:
            raise PeerRefusedError(Reason.BAD_PAYLOAD, detail=type(error).__name__) from None
