"""This site's side of one session: its secrets, and its own opinion of everything it is told (PROTOCOL §6).

Rules:
    * sid, view, H(U2) and H(U3) are computed here, from this site's own charter and its own base adapter, and
      compared; a difference ends this site's part in the session.
    * Every list must hold this site with exactly the digest of the bytes it sent.
    * c, s, b and the shares live in this object only. They are gone when it is, or when it is erased.

What this module does not do: files, markers, events, the network - and what the law has checked already is
checked again where it protects this site, because the coordinator may have another law.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.event_data import IdDigest
from fedmedlora_audit.session import list_hash, session_id, view_of
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_crypto.secagg.graph import Commitments, chain_link, contribution
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_site.errors import StepRefusal

Rows = Sequence[IdDigest]


class LiveSession:
    """One session as one site lives through it; silent about its secrets.

    Args:
        terms: The accepted charter.
        site: This site.
        round_number: The round.
        attempt: The attempt of the round.
        purpose: "update", "statistics" or "score".
        base: Digest of this site's own base adapter.
        commitments: With a graph, what each site committed to before the session (R6.15.6), hex.
        graph_secret: With a graph, where this site's own chain of contributions starts.

    Raises:
        StepRefusal: The charter's graph is not safe, or the log holds another commitment than this site's.
    """

    def __init__(
        self,
        terms: CharterTerms,
        site: str,
        *,
        round_number: int,
        attempt: int,
        purpose: str,
        base: str,
        commitments: Mapping[str, str] | None = None,
        graph_secret: bytes = b"",
    ) -> None:
        """Compute the session's name; make no secret yet."""
        self.sid = session_id(
            origin=terms.origin,
            charter=terms.digest,
            round_number=round_number,
            attempt=attempt,
            purpose=purpose,
            base=base,
            suite=terms.suite,
        )
        self.round = round_number
        self._terms = terms
        self._site = site
        self._index = {member: i for i, member in enumerate(terms.member_ids, start=1)}
        try:
            self._party = self._make_party(chain_link(purpose, attempt), commitments or {}, graph_secret)
        except CryptoError as exc:
            raise StepRefusal("advertise", exc.reason, self._sentence(exc)) from None
        self.view = ""
        self.u2: tuple[IdDigest, ...] = ()
        self.u3: tuple[IdDigest, ...] = ()

    def _make_party(self, link: int, heads: Mapping[str, str], graph_secret: bytes) -> Party:
        terms, me = self._terms, self._index[self._site]
        graph = commitments = None
        own = b""
        if terms.graph is not None:
            graph = GraphTerms(*terms.graph)
            commitments = Commitments(link, {self._index[x]: bytes.fromhex(heads[x]) for x in heads})
            own = contribution(graph_secret, me, attempt=link)
        session = SessionTerms(
            sid=bytes.fromhex(self.sid),
            n=terms.n,
            threshold=terms.threshold,
            colluding=terms.colluding_sites,
            suite=terms.suite,
            graph=graph,
            commitments=commitments,
        )
        return Party(session, me, contribution=own)

    def __repr__(self) -> str:
        """Name the session only."""
        return f"LiveSession(sid={self.sid[:12]}…, round={self.round})"

    @property
    def h_u2(self) -> str:
        """Digest of the inbox this site masked with."""
        return list_hash(self.u2)

    @property
    def h_u3(self) -> str:
        """Digest of the survivor set this site agreed to."""
        return list_hash(self.u3)

    def check_opening(self, *, sid: str, suite: str, ready: Collection[str]) -> None:
        """Compare `session.opened` with this site's own names (decisions G33, G36).

        Raises:
            StepRefusal: Another sid, another suite, too few sites, or a site that is no member.
        """
        step = "advertise"
        if suite != self._terms.suite:
            raise StepRefusal(step, "wrong_charter", "the session has another suite than the charter")
        if sid != self.sid:
            raise StepRefusal(step, "wrong_sid", "the session's name does not follow from this site's base")
        self._check_list(step, ready, self._terms.member_ids, "short_roster")

    def advertise(self) -> bytes:
        """Make this session's keys; returns the keys payload."""
        return self._party.advertise()

    def share(self, u1: Rows, view: str, own_digest: str, payloads: Mapping[str, bytes]) -> bytes:
        """Check U1 and deal the shares (decisions G33 to G35).

        Args:
            u1: The list of `keys.broadcast`.
            view: Its view.
            own_digest: Digest of the keys that this site advertised.
            payloads: The keys payload of each member of U1, checked against its digest.

        Raises:
            StepRefusal: U1 is not what this site can accept.
        """
        step = "share"
        self._check_list(step, [row.id for row in u1], self._terms.member_ids, "short_roster")
        self._check_own(step, u1, own_digest)
        if view != view_of(self.sid, u1):
            raise StepRefusal(step, "wrong_digest", "the view does not follow from the list of keys")
        try:
            dealt = self._party.share(self._by_index(payloads), bytes.fromhex(view))
        except CryptoError as exc:
            raise StepRefusal(step, exc.reason, self._sentence(exc)) from None
        self.view = view
        return dealt

    def inbox(self, u2: Iterable[str]) -> tuple[str, ...]:
        """Return the sites of U2 whose shares this site needs: its neighbours and itself (R6.15.1).

        Raises:
            StepRefusal: U2 names a site that is no member.
        """
        listed = {self._index.get(site, 0) for site in u2}
        if 0 in listed:
            raise StepRefusal("upload", "not_in_roster", "a list names a site that does not belong there")
        try:
            near = self._party.neighbours_in(listed)
        except CryptoError as exc:
            raise StepRefusal("upload", exc.reason, self._sentence(exc)) from None
        names = self._terms.member_ids
        return tuple(names[party - 1] for party in near)

    def fix(self, u2: Rows, view: str, own_digest: str, payloads: Mapping[str, bytes]) -> None:
        """Check the agreed inbox U2 and open the own shares in it (decision G34).

        Args:
            u2: The list of `shares.fixed`.
            view: The view it names.
            own_digest: Digest of the shares that this site sent.
            payloads: The shares payload of each site that `inbox` names, checked against its digest.

        Raises:
            StepRefusal: U2 is not what this site can mask with.
        """
        step = "upload"
        self._check_view(step, view)
        self._check_list(step, [row.id for row in u2], self._terms.member_ids, "short_inbox")
        self._check_own(step, u2, own_digest)
        try:
            self._party.fix(self._by_index(payloads), [self._index[row.id] for row in u2])
        except CryptoError as exc:
            raise StepRefusal(step, exc.reason, self._sentence(exc)) from None
        self.u2 = tuple(u2)

    def mask(self, vector: NDArray[np.uint32], *, threads: int = 1) -> None:
        """Add this session's masks in place, once (decision G38).

        Raises:
            StepRefusal: Masks were used before.
        """
        try:
            self._party.mask(vector, threads=threads)
        except CryptoError as exc:
            raise StepRefusal("upload", exc.reason, self._sentence(exc)) from None

    def check_survivors(self, u3: Rows, view: str, own_digest: str) -> None:
        """Compare `survivors.fixed` with what this site sent and saw (decision G34).

        Args:
            u3: The list of `survivors.fixed`.
            view: The view it names.
            own_digest: Digest of the masked upload that this site signed.

        Raises:
            StepRefusal: U3 is not within U2, too small or thin, or lacks this site's own upload.
        """
        # R5.5.3: within the U2 this site masked with, and with its own upload in it.
        step = "survivors"
        self._check_view(step, view)
        ids = [row.id for row in u3]
        self._check_list(step, ids, [row.id for row in self.u2], "short_survivors")
        self._check_own(step, u3, own_digest)
        try:  # before the marker: a set that nobody agrees to must not use up this site's consent
            self._party.check_survivors([self._index[site] for site in ids])
        except CryptoError as exc:
            raise StepRefusal(step, exc.reason, self._sentence(exc)) from None

    def agree(self, u3: Rows) -> None:
        """Agree to a checked survivor set; the marker is on the disk already.

        Raises:
            StepRefusal: This site has agreed in this session before.
        """
        try:
            self._party.agree([self._index[row.id] for row in u3])
        except CryptoError as exc:
            raise StepRefusal("survivors", exc.reason, self._sentence(exc)) from None
        self.u3 = tuple(u3)

    def check_request(
        self, *, signers: Collection[str], self_of: Collection[str], pair_of: Collection[str]
    ) -> None:
        """Compare `unmask.request` with the survivor set this site agreed to (decisions G34, G38).

        Raises:
            StepRefusal: The lists would open anything but the agreed sum.
        """
        step = "unmask"
        survivors = {row.id for row in self.u3}
        dropped = {row.id for row in self.u2} - survivors
        if set(self_of) & set(pair_of):
            raise StepRefusal(step, "both_seeds", "a site is asked for in both lists")
        if set(self_of) != survivors or set(pair_of) != dropped:
            raise StepRefusal(step, "both_seeds", "the lists are not the survivors and the dropped")
        self._check_list(step, signers, survivors, "short_survivors")

    def open(self, signers: Collection[str]) -> bytes:
        """Open exactly one kind of share of each site of U2; erases everything else first.

        Raises:
            StepRefusal: Shares were opened before.
        """
        survivors = [self._index[row.id] for row in self.u3]
        try:
            return self._party.open(survivors, [self._index[site] for site in signers])
        except CryptoError as exc:
            raise StepRefusal("unmask", exc.reason, self._sentence(exc)) from None

    def erase(self) -> None:
        """Drop all secrets."""
        self._party.erase()

    def _check_view(self, step: str, view: str) -> None:
        if view != self.view or not self.view:
            raise StepRefusal(step, "wrong_digest", "the list belongs to another view")

    def _check_list(self, step: str, ids: Collection[str], within: Collection[str], short: str) -> None:
        """A list has no repetition, stays within another, and reaches T (never n's current value)."""
        if len(set(ids)) != len(ids):
            raise StepRefusal(step, "duplicate", "a list names a site twice")
        if not set(ids) <= set(within):
            raise StepRefusal(step, "not_in_roster", "a list names a site that does not belong there")
        if len(ids) < self._terms.threshold:
            raise StepRefusal(
                step, short, f"{len(ids)} sites, the charter's threshold is {self._terms.threshold}"
            )

    def _check_own(self, step: str, rows: Rows, own_digest: str) -> None:
        own = [row.digest for row in rows if row.id == self._site]
        if not own:
            raise StepRefusal(step, "not_included", "the list does not hold this site")
        if own != [own_digest]:
            raise StepRefusal(step, "wrong_digest", "the list holds other bytes than this site sent")

    def _by_index(self, payloads: Mapping[str, bytes]) -> dict[int, bytes]:
        return {self._index[site]: data for site, data in payloads.items()}

    def _sentence(self, exc: CryptoError) -> str:
        """Say which site's message is bad, by id."""
        party = getattr(exc, "party", None)
        names = {i: site for site, i in self._index.items()}
        return str(exc) if party is None else f"{names.get(party, '?')}: {exc}"
