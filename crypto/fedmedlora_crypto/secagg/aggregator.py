"""The aggregator's side of a session, without I/O and without memory (PROTOCOL §6.8 to §6.12).

Every method gets all it needs as payloads, so an aggregator that was killed goes on from its store. It
holds no secret; what it learns in `unmask` - the self seeds of the survivors and the mask keys of those
that dropped out - is what the protocol lets it learn.

What is not here: collecting payloads, waiting, and the decision who has dropped out.
"""

import hmac
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from fedmedlora_crypto.errors import (
    DealtWronglyError,
    NotInRosterError,
    PeerError,
    ShareCommitmentError,
    ShortInboxError,
    ShortOpeningsError,
    ShortRosterError,
    ShortSurvivorsError,
    ThinInboxError,
    ThinSurvivorsError,
    ViewError,
    WrongOpeningError,
)
from fedmedlora_crypto.keys import Binding
from fedmedlora_crypto.secagg import masks
from fedmedlora_crypto.secagg.graph import Graph
from fedmedlora_crypto.secagg.messages import (
    MASK_KEY,
    SELF_SEED,
    KeysMessage,
    OpenedMessage,
    SharesMessage,
    decode_opened,
    decode_shares,
)
from fedmedlora_crypto.secagg.roster import graph_of, read_keys
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.shamir import ShareValueError, combine_shares
from fedmedlora_crypto.xof import Keystream, Vector, add_keystreams, require_ring_vector


@dataclass(frozen=True)
class Unmasking:
    """Who answered well and who did not.

    Attributes:
        used: Parties whose opened shares rebuilt the seeds.
        refused: For each other party the error that names the defect of its payload.
    """

    used: tuple[int, ...]
    refused: dict[int, PeerError]


@dataclass(frozen=True, repr=False)
class Opening:
    """The masks that lie on one sum; no repr, since a keystream of a survivor is one site's mask.

    Attributes:
        streams: What has to be added to the sum of the uploads, each with its sign.
        unmasking: Who was used for it and who was refused.
    """

    streams: tuple[tuple[Keystream, int], ...]
    unmasking: Unmasking


class Aggregator:
    """Checks what the parties send and takes the masks off their sum."""

    def __init__(self, terms: SessionTerms) -> None:
        """Keep the constants of the session; there is no other state."""
        self._terms = terms

    def admit(self, keys: Mapping[int, bytes]) -> tuple[tuple[int, ...], dict[int, str]]:
        """Decide who is in U1 (R6.8.1).

        Args:
            keys: The keys payload of each party that advertised.

        Returns:
            U1 in index order, and for each other party why it is left out: `malformed_key`,
            `wrong_contribution`, `low_order_key` or `duplicate_key`.
        """
        usable, refused = read_keys(self._terms, keys)
        return tuple(usable), {party: refusal.left_out for party, refusal in refused.items()}

    def graph(self, keys: Mapping[int, bytes]) -> Graph:
        """Return who holds whose shares among U1.

        Args:
            keys: The keys payload of each member of U1.

        Raises:
            PeerError: A member should have been left out.
        """
        return graph_of(self._terms, self._usable(keys))

    def check_shares(
        self,
        sender: int,
        payload: bytes,
        *,
        holders: Collection[int] | None = None,
        view: bytes | None = None,
    ) -> None:
        """Check what can be checked of a shares payload without opening its boxes (PROTOCOL §6.9).

        Args:
            sender: The party it came from.
            payload: What it sent.
            holders: When given, the holders have to be exactly these (`graph`).
            view: When given, the view has to be this one.

        Raises:
            PeerError: Malformed, of another session, sender, view or list of holders.
        """
        message = decode_shares(payload, sid=self._terms.sid, party=sender, suite=self._terms.layout)
        if view is not None and message.view != view:
            raise ViewError("shares were dealt under another list of keys", party=sender)
        if holders is not None and message.holders != tuple(sorted(holders)):
            raise ViewError("shares were dealt to other holders", party=sender)

    def unmask(
        self,
        total: Vector,
        keys: Mapping[int, bytes],
        shares: Mapping[int, bytes],
        survivors: Collection[int],
        opened: Mapping[int, bytes],
        *,
        threads: int = 1,
    ) -> Unmasking:
        """Take the masks off the sum of the survivors' vectors, in place (PROTOCOL §6.12).

        Args:
            total: Sum of the masked vectors of U3, modulo 2**32. Left as it was when this raises.
            keys: Keys payloads of U1.
            shares: Shares payloads of U2.
            survivors: U3.
            opened: Opened-shares payloads of parties in U3.
            threads: Worker threads; the result does not depend on it.

        Returns:
            Who was used and who was refused, by name and defect; a lying holder does not stop the round
            while T others are left.

        Raises:
            QuorumError: U1, U2, U3 or the usable opened shares are fewer than T.
            DealtWronglyError: A dealer's shares rebuild something else than it announced.
            PeerError: A stored payload is bad.
        """
        require_ring_vector(total)
        opening = self.open_masks(keys, shares, survivors, opened)
        # R6.12.7: the sum is touched only now, when nothing can fail any more.
        add_keystreams(total, opening.streams, threads=threads)
        return opening.unmasking

    def open_masks(
        self,
        keys: Mapping[int, bytes],
        shares: Mapping[int, bytes],
        survivors: Collection[int],
        opened: Mapping[int, bytes],
    ) -> "Opening":
        """Rebuild the masks that lie on a sum, from the payloads of its session (PROTOCOL §6.12).

        The coordinator takes them off the whole sum; a member or a reviewer off single ranges (§4.6). The
        arguments and errors are those of `unmask`.

        Returns:
            The keystreams to be added, with their signs (none in a suite without masks), and who was used.
        """
        case = self._read(keys, shares, survivors)
        good: dict[int, OpenedMessage] = {}
        refused: dict[int, PeerError] = {}
        for party in sorted(opened):
            try:
                good[party] = self._check_opened(case, party, opened[party])
            except PeerError as error:
                refused[party] = error
        if len(good) < self._terms.threshold:
            # The defects are what an operator needs to see; they hang on the error as its notes.
            short = ShortOpeningsError(len(good), self._terms.threshold)
            for party, defect in refused.items():
                short.add_note(f"party {party}: {defect}")
            raise short
        streams = self._streams(case, good)
        return Opening(tuple(streams) if self._terms.layout.masked else (), Unmasking(tuple(good), refused))

    def _usable(self, keys: Mapping[int, bytes]) -> dict[int, KeysMessage]:
        usable, left_out = read_keys(self._terms, keys)
        for refusal in left_out.values():
            raise refusal
        return usable

    def _read(
        self, keys: Mapping[int, bytes], shares: Mapping[int, bytes], survivors: Collection[int]
    ) -> "_Case":
        """Parse the stored payloads and check the sizes and the order of the three sets."""
        usable = self._usable(keys)
        graph = graph_of(self._terms, usable)
        dealt = {dealer: self._dealt(dealer, shares[dealer]) for dealer in sorted(shares)}
        chosen = tuple(sorted(set(survivors)))
        if not set(chosen) <= set(dealt) <= set(usable):
            raise NotInRosterError("the sets of the session do not lie within each other")
        for have, error in (
            (usable, ShortRosterError),
            (dealt, ShortInboxError),
            (chosen, ShortSurvivorsError),
        ):
            if len(have) < self._terms.threshold:
                raise error(len(have), self._terms.threshold)
        graph.check_windows(dealt, ThinInboxError)
        graph.check_windows(chosen, ThinSurvivorsError)
        view = dealt[chosen[0]].view
        for dealer, message in dealt.items():
            if message.view != view or message.holders != graph.holders_of(dealer):
                raise ViewError("shares were dealt under another list of keys", party=dealer)
        return _Case(self._terms.binding(view), usable, dealt, frozenset(chosen), graph)

    def _dealt(self, dealer: int, payload: bytes) -> SharesMessage:
        """Read a shares payload and let go of its boxes, which only their holders can open."""
        message = decode_shares(payload, sid=self._terms.sid, party=dealer, suite=self._terms.layout)
        return replace(message, boxes=())

    def _check_opened(self, case: "_Case", party: int, payload: bytes) -> OpenedMessage:
        """Check an opened-shares payload against the lists and the dealers' commitments."""
        if party not in case.survivors:
            raise NotInRosterError("not among the survivors", party=party)
        message = decode_opened(payload, sid=self._terms.sid, party=party)
        if message.view != case.binding.view:
            raise ViewError("shares were opened under another list of keys", party=party)
        dealers = case.dealers_to(party)
        if message.dealers != dealers or message.kinds != tuple(map(case.kind, dealers)):
            raise WrongOpeningError("not the shares that were asked for", party=party)
        for dealer, kind, share in zip(message.dealers, message.kinds, message.shares, strict=True):
            # R6.12.4: the commitment says who lies, the dealer or the holder.
            expected = masks.share_commitment(
                case.binding, dealer=dealer, holder=party, kind=kind, share=share
            )
            if not hmac.compare_digest(expected, case.dealt[dealer].commitment(party, kind)):
                raise ShareCommitmentError("an opened share does not fit its commitment", party=party)
        return message

    def _streams(self, case: "_Case", good: Mapping[int, OpenedMessage]) -> list[tuple[Keystream, int]]:
        """Return what has to be added to the sum: minus the self masks, minus the dangling pair masks."""
        opened = {x: dict(zip(message.dealers, message.shares, strict=True)) for x, message in good.items()}
        streams: list[tuple[Keystream, int]] = []
        for dealer in case.dealt:
            responders = [x for x in case.graph.holders_of(dealer) if x in opened]
            # R6.15.8: T openings are no help to a dealer whose own neighbours are silent.
            if len(responders) < (needed := self._terms.share_threshold):
                raise ShortOpeningsError(len(responders), needed)
            seed = _rebuild({x: opened[x][dealer] for x in responders[:needed]}, dealer)
            if dealer in case.survivors:
                streams.append(self._self_mask(case, dealer, seed))
            else:
                streams += self._pair_masks(case, dealer, seed)
        return streams

    def _self_mask(self, case: "_Case", dealer: int, seed: bytes) -> tuple[Keystream, int]:
        # R6.12.5: a wrong seed would leave noise in the sum that looks like a result.
        announced = case.keys[dealer].seed_commitment
        if not hmac.compare_digest(masks.seed_commitment(self._terms.sid, dealer, seed), announced):
            raise DealtWronglyError("the self-mask seed is not the announced one", party=dealer)
        return masks.self_mask(case.binding, dealer, seed), -1

    def _pair_masks(self, case: "_Case", dealer: int, seed: bytes) -> list[tuple[Keystream, int]]:
        """Return the masks between a dropped party and its survivors, as that party would have added them.

        Its own sign is the opposite of the survivor's, so adding its masks cancels what the survivors
        added.
        """
        key = masks.mask_agreement_key(self._terms.layout, seed, sid=self._terms.sid)
        # R6.12.5
        if not hmac.compare_digest(key.public, case.keys[dealer].mask_key):
            raise DealtWronglyError("the mask key is not the advertised one", party=dealer)
        streams = []
        for survivor in case.graph.holders_of(dealer):
            if survivor not in case.survivors:
                continue
            secret = masks.pair_secret(case.binding, (dealer, key), seed, case.dealt[survivor])
            peer = (survivor, case.keys[survivor].mask_key)
            streams.append(masks.pair_mask(case.binding, (dealer, key), peer, secret=secret))
        return streams


@dataclass(frozen=True)
class _Case:
    """The three sets of a session, parsed."""

    binding: Binding
    keys: dict[int, KeysMessage]
    dealt: dict[int, SharesMessage]
    survivors: frozenset[int]
    graph: Graph

    def dealers_to(self, holder: int) -> tuple[int, ...]:
        """Return the members of U2 whose shares a party holds; neighbours are so on both sides."""
        return tuple(x for x in self.graph.holders_of(holder) if x in self.dealt)

    def kind(self, dealer: int) -> int:
        """Return which kind of share of a dealer may be opened."""
        return SELF_SEED if dealer in self.survivors else MASK_KEY


def _rebuild(shares: dict[int, bytes], dealer: int) -> bytes:
    """Rebuild a seed from shares that all fit their commitments, so that a failure is the dealer's."""
    try:
        return combine_shares(shares)
    except ShareValueError:
        raise DealtWronglyError("shares do not rebuild a seed", party=dealer) from None
