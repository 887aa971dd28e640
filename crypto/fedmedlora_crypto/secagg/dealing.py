"""A party's keys and seeds: dealing, receiving and deriving masks with them (PROTOCOL §6.8 to §6.10).

A `Dealer` lives from `Party.advertise` to `Party.fix`; after that the seeds exist only as shares of
others. It knows nothing of order: `Party` calls it.
"""

import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedmedlora_crypto.errors import MalformedError, ShareCommitmentError, ViewError
from fedmedlora_crypto.keys import SEED_BYTES, Binding
from fedmedlora_crypto.secagg import masks
from fedmedlora_crypto.secagg.boxes import open_shares, seal_shares
from fedmedlora_crypto.secagg.graph import Graph
from fedmedlora_crypto.secagg.messages import (
    MASK_KEY,
    SELF_SEED,
    KeysMessage,
    SharesMessage,
    decode_shares,
)
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.shamir import SHARE_BYTES, ShareValueError, parse_share, split_secret
from fedmedlora_crypto.xof import Keystream

Randomness = Callable[[int], bytes]
Shares = dict[int, bytes]  # kind -> share


@dataclass(frozen=True)
class Roster:
    """U1 as this party has accepted it.

    Attributes:
        binding: What keys are bound to under this view of U1.
        keys: The keys of this party and its neighbours, in index order.
        graph: Its members, and who of them holds whose shares.
    """

    binding: Binding
    keys: dict[int, KeysMessage]
    graph: Graph


class Dealer:
    """The secrets of one party of one session; silent about them."""

    def __init__(self, terms: SessionTerms, index: int, randomness: Randomness) -> None:
        """Draw fresh seeds (R6.8.3) and make the keys."""
        self._terms = terms
        self._index = index
        self._randomness = randomness
        self.mask_seed = randomness(SEED_BYTES)  # s_u
        self.self_seed = randomness(SEED_BYTES)  # b_u
        self.share_key = masks.share_agreement_key(terms.layout, randomness(SEED_BYTES), sid=terms.sid)
        self.mask_key = masks.mask_agreement_key(terms.layout, self.mask_seed, sid=terms.sid)

    def __repr__(self) -> str:
        """Show the class only."""
        return "Dealer(...)"

    def keys_message(self, contribution: bytes) -> KeysMessage:
        """Return what this party advertises."""
        commitment = masks.seed_commitment(self._terms.sid, self._index, self.self_seed)
        public = self.share_key.public, self.mask_key.public
        return KeysMessage(self._index, *public, commitment, contribution)

    def deal(self, roster: Roster) -> tuple[SharesMessage, Shares]:
        """Split both seeds among the holders (R6.15.1), commit to each share and seal a box for each holder.

        Returns:
            The message, and this party's own two shares.
        """
        seeds = {SELF_SEED: self.self_seed, MASK_KEY: self.mask_seed}
        holders = roster.graph.holders_of(self._index)
        split = {kind: self._split(seed, holders) for kind, seed in seeds.items()}
        dealt = {x: {kind: shares[x] for kind, shares in split.items()} for x in holders}
        message = SharesMessage(
            self._index,
            roster.binding.view,
            holders,
            b"".join(
                self._commitment(roster, x, kind, share) for x in dealt for kind, share in dealt[x].items()
            ),
            tuple(self._box(roster, x, dealt[x]) for x in holders if x != self._index),
            tuple(self._wraps(roster, holders)),
        )
        return message, dealt[self._index]

    def receive(
        self, roster: Roster, dealer: int, payload: bytes, own: Shares
    ) -> tuple[SharesMessage, Shares]:
        """Read a shares payload and return with it the two shares in it for this party.

        Args:
            roster: U1.
            dealer: Whose payload it is.
            payload: The payload.
            own: This party's own shares, which its own payload does not hold.

        Raises:
            PeerError: The payload is not what an honest dealer sends; `party` names it.
        """
        message = decode_shares(payload, sid=self._terms.sid, party=dealer, suite=self._terms.layout)
        # R6.10.3: shares made under another list of keys belong to another session.
        if message.view != roster.binding.view or message.holders != roster.graph.holders_of(dealer):
            raise ViewError("shares were dealt under another list of keys", party=dealer)
        if dealer == self._index:
            return message, own
        plain = open_shares(
            roster.binding,
            (self._index, self.share_key),
            (dealer, roster.keys[dealer].share_key),
            message.box(self._index),
        )
        shares = {SELF_SEED: plain[:SHARE_BYTES], MASK_KEY: plain[SHARE_BYTES:]}
        for kind, share in shares.items():
            self._check_share(roster, message, kind, share)
        return message, shares

    def streams(self, roster: Roster, inbox: Mapping[int, SharesMessage]) -> list[tuple[Keystream, int]]:
        """Return the self mask and the pair masks with exactly the neighbours in U2 (R6.10.6, R6.15.1)."""
        own = (self._index, self.mask_key)
        made = [(masks.self_mask(roster.binding, self._index, self.self_seed), 1)]
        for peer, message in inbox.items():
            if peer != self._index:
                secret = masks.pair_secret(roster.binding, own, self.mask_seed, message)
                public = (peer, roster.keys[peer].mask_key)
                made.append(masks.pair_mask(roster.binding, own, public, secret=secret))
        return made

    def _split(self, seed: bytes, holders: tuple[int, ...]) -> dict[int, bytes]:
        return split_secret(
            seed, threshold=self._terms.share_threshold, holders=holders, randomness=self._randomness
        )

    def _commitment(self, roster: Roster, holder: int, kind: int, share: bytes) -> bytes:
        return masks.share_commitment(
            roster.binding, dealer=self._index, holder=holder, kind=kind, share=share
        )

    def _box(self, roster: Roster, holder: int, shares: Shares) -> bytes:
        return seal_shares(
            roster.binding,
            (self._index, self.share_key),
            (holder, roster.keys[holder].share_key),
            shares[SELF_SEED] + shares[MASK_KEY],
            randomness=self._randomness,
        )

    def _wraps(self, roster: Roster, holders: tuple[int, ...]) -> list[bytes]:
        if not self._terms.layout.hybrid:
            return []
        return [
            masks.wrap_pair_secret(roster.binding, self.mask_seed, self._index, (x, roster.keys[x].mask_key))
            for x in holders
            if x > self._index
        ]

    def _check_share(self, roster: Roster, message: SharesMessage, kind: int, share: bytes) -> None:
        # R6.10.4, R6.6.4: such a share would be useless later, or its defect blamed on this party.
        try:
            parse_share(share)
        except ShareValueError:
            raise MalformedError("a dealt share is not below the prime", party=message.party) from None
        expected = masks.share_commitment(
            roster.binding, dealer=message.party, holder=self._index, kind=kind, share=share
        )
        if not hmac.compare_digest(expected, message.commitment(self._index, kind)):
            raise ShareCommitmentError("a dealt share does not fit its commitment", party=message.party)
