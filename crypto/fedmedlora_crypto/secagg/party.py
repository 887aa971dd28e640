"""One party of a session, without I/O (PROTOCOL §6.8 to §6.12).

The steps, each once and in this order::

    advertise -> share -> fix -> mask -> agree -> open        erase at any time

Rules of the state machine:

* c, s, b and all received shares live in this object only and are never written anywhere;
* what a step needs from the charter (n, T, c) comes from `SessionTerms`, what it is told by the
  coordinator is checked against what this party itself sent and saw;
* a refused message changes nothing, so the right one may still come; a step that was done is not done
  again;
* masks are added to one vector only, and the seeds behind them are erased with it;
* for each party exactly one kind of share is opened, and the other kind is erased before.

What is not here: signatures, digests of lists, the order of events and who says so (the law of the log),
durable markers (the site's shell). Python cannot wipe memory: erasing means that no reference is left.
"""

import hmac
import secrets
from collections.abc import Collection, Mapping
from enum import IntEnum

from fedmedlora_crypto.encoding import DIGEST_BYTES
from fedmedlora_crypto.errors import (
    AlreadyAgreedError,
    AlreadyOpenedError,
    BothSeedsError,
    DuplicateIndexError,
    FewHoldersError,
    LateFlightError,
    MaskReusedError,
    NotIncludedError,
    NotInRosterError,
    ShortInboxError,
    ShortRosterError,
    ShortSurvivorsError,
    StateError,
    TermsError,
    ThinInboxError,
    ThinRosterError,
    ThinSurvivorsError,
    ViewError,
)
from fedmedlora_crypto.secagg.dealing import Dealer, Randomness, Roster, Shares
from fedmedlora_crypto.secagg.graph import Graph
from fedmedlora_crypto.secagg.messages import MASK_KEY, SELF_SEED, OpenedMessage
from fedmedlora_crypto.secagg.roster import graph_of, read_keys
from fedmedlora_crypto.secagg.session import SessionTerms
from fedmedlora_crypto.xof import Keystream, Vector, add_keystreams, require_ring_vector


class Step(IntEnum):
    """The step a party has done last."""

    NEW = 0
    ADVERTISED = 1
    SHARED = 2
    FIXED = 3
    MASKED = 4
    AGREED = 5
    OPENED = 6
    ERASED = 7


class Party:
    """One party's side of a session; silent about its secrets."""

    def __init__(
        self,
        terms: SessionTerms,
        index: int,
        *,
        contribution: bytes = b"",
        randomness: Randomness = secrets.token_bytes,
    ) -> None:
        """Start a party that has not said anything yet.

        Args:
            terms: Constants of the session.
            index: This party; 1 <= index <= terms.n.
            contribution: With a graph, what this party committed to for this attempt.
            randomness: Gives that many uniform secret bytes.
        """
        if not terms.holds(index):
            raise TermsError("this party is not a member of the charter")
        if terms.commitments is not None:
            terms.commitments.check(index, contribution)
        self._terms = terms
        self._index = index
        self._contribution = contribution
        self._randomness = randomness
        self._step = Step.NEW
        self._own: Dealer
        self._roster: Roster
        self._held: dict[int, Shares] = {}  # by dealer
        self._streams: list[tuple[Keystream, int]] = []
        self._sent_keys = b""
        self._sent_shares = b""
        self._inbox: tuple[int, ...] = ()  # U2
        self._survivors: tuple[int, ...] = ()  # U3

    def __repr__(self) -> str:
        """Show index and step only (R6.13.2)."""
        return f"Party(index={self._index}, step={self._step.name})"

    @property
    def step(self) -> Step:
        """The step done last."""
        return self._step

    def advertise(self) -> bytes:
        """Make fresh keys and return the keys payload (PROTOCOL §6.8)."""
        self._require(Step.NEW)
        self._own = Dealer(self._terms, self._index, self._randomness)
        self._sent_keys = self._own.keys_message(self._contribution).encode(self._terms.sid)
        self._step = Step.ADVERTISED
        return self._sent_keys

    def share(self, keys: Mapping[int, bytes], view: bytes) -> bytes:
        """Check U1 and return the shares payload (PROTOCOL §6.9).

        Args:
            keys: The keys payload of each member of U1, this party's own included.
            view: Digest of U1, computed by this party's shell from the same list.

        Raises:
            NotIncludedError: This party's own payload is missing or altered.
            KeyRefusedError: A key in U1 should have been left out.
            ShortRosterError: |U1| < T, or the graph among U1 is too thin.
        """
        self._require(Step.ADVERTISED)
        if len(view) != DIGEST_BYTES:
            raise ViewError(f"a view has {DIGEST_BYTES} bytes")
        # R6.9.1: a list without this party's own bytes is not the list it advertised for.
        if not hmac.compare_digest(keys.get(self._index, b""), self._sent_keys):
            raise NotIncludedError("own keys are not in the list")
        usable, refused = read_keys(self._terms, keys)
        for refusal in refused.values():  # R6.9.2: the coordinator had to leave such a party out
            raise refusal
        # R6.9.3: T is the charter's, whatever the size of the list.
        if len(usable) < self._terms.threshold:
            raise ShortRosterError(len(usable), self._terms.threshold)
        graph = graph_of(self._terms, usable)
        self._check_neighbourhood(graph)
        near = {x: usable[x] for x in graph.holders_of(self._index)}
        roster = Roster(self._terms.binding(view), near, graph)
        message, own = self._own.deal(roster)
        self._roster, self._held = roster, {self._index: own}
        self._sent_shares = message.encode(self._terms.sid)
        self._step = Step.SHARED
        return self._sent_shares

    def neighbours_in(self, members: Collection[int]) -> tuple[int, ...]:
        """Return those of a list whose shares payloads this party needs: itself and its neighbours."""
        self._require(Step.SHARED)
        return tuple(x for x in self._roster.graph.holders_of(self._index) if x in set(members))

    def fix(self, payloads: Mapping[int, bytes], members: Collection[int] | None = None) -> None:
        """Check the agreed inbox U2 and open the own shares in it (PROTOCOL §6.10).

        Args:
            payloads: The shares payload of each member of U2 that `neighbours_in` names, this party's own
                included.
            members: U2; where it is left out, exactly the senders of the payloads.

        Raises:
            NotIncludedError: This party's own payload is missing or altered.
            PeerError: A payload is bad or missing; `party` names its sender.
            ShortInboxError: |U2| < T, or a window of the graph holds too few of U2.
        """
        self._require(Step.SHARED)
        # R6.10.1: an inbox without this party's own bytes is not the one it dealt for.
        if not hmac.compare_digest(payloads.get(self._index, b""), self._sent_shares):
            raise NotIncludedError("own shares are not in the inbox")
        inbox = _distinct(payloads if members is None else members)
        # R6.10.2: with fewer than T a coordinator could unmask a party through a colluder.
        if len(inbox) < self._terms.threshold:
            raise ShortInboxError(len(inbox), self._terms.threshold)
        # R6.15.5: without its neighbours a party would be masked by nothing but seeds that get opened.
        self._roster.graph.check_windows(inbox, ThinInboxError)
        if strangers := sorted(set(inbox) - set(self._roster.graph.members)):
            raise NotInRosterError("a dealer is not in the list of keys", party=strangers[0])
        if set(payloads) != set(self.neighbours_in(inbox)):
            raise NotIncludedError("the payloads are not those of the neighbours")
        own = self._held[self._index]
        received = {x: self._own.receive(self._roster, x, payloads[x], own) for x in sorted(payloads)}
        streams = self._own.streams(self._roster, {x: message for x, (message, _) in received.items()})
        self._held = {x: shares for x, (_, shares) in received.items()}
        self._inbox, self._streams = inbox, streams
        del self._own  # R6.10.7: from here on the seeds exist only as shares
        self._step = Step.FIXED

    def mask(self, vector: Vector, *, threads: int = 1) -> None:
        """Add this party's masks to its encoded vector, in place and once (PROTOCOL §6.10).

        Args:
            vector: One-dimensional contiguous uint32 array.
            threads: Worker threads; the result does not depend on it.

        Raises:
            MaskReusedError: A vector was masked before.
        """
        if self._step in (Step.MASKED, Step.AGREED, Step.OPENED):
            # R6.10.5: two vectors under one mask give away their difference.
            raise MaskReusedError("the masks of this session are spent")
        self._require(Step.FIXED)
        require_ring_vector(vector)
        streams, self._streams = self._streams, []
        self._step = Step.MASKED
        if self._terms.layout.masked:
            add_keystreams(vector, streams, threads=threads)

    def check_survivors(self, survivors: Collection[int]) -> tuple[int, ...]:
        """Check a survivor set U3 without agreeing to it, so that the shell can first make that durable.

        Returns:
            U3 in ascending order.

        Raises:
            AlreadyAgreedError: This party agreed before, to this set or another.
            NotInRosterError: U3 is not within U2.
            NotIncludedError: This party is not in U3.
            ShortSurvivorsError: |U3| < T, or a window of the graph holds too few of U3.
        """
        if self._step in (Step.AGREED, Step.OPENED):
            # R6.11.1: two sets would let the coordinator open two sums.
            raise AlreadyAgreedError("this party has agreed to a survivor set")
        self._require(Step.MASKED)
        chosen = _distinct(survivors)
        # R6.11.2: only parties whose shares everybody holds, and never a sum without this party's own vector.
        if not set(chosen) <= set(self._inbox):
            raise NotInRosterError("a survivor is not in the agreed inbox")
        if self._index not in chosen:
            raise NotIncludedError("this party is not among the survivors")
        # R6.11.3
        if len(chosen) < self._terms.threshold:
            raise ShortSurvivorsError(len(chosen), self._terms.threshold)
        # R6.15.5: survivors that no window separates are connected, so that only their whole sum opens.
        self._roster.graph.check_windows(chosen, ThinSurvivorsError)
        return chosen

    def agree(self, survivors: Collection[int]) -> None:
        """Agree to one survivor set U3 (PROTOCOL §6.11).

        Raises:
            CryptoError: As `check_survivors`.
        """
        self._survivors = self.check_survivors(survivors)
        self._step = Step.AGREED

    def open(self, survivors: Collection[int], signers: Collection[int]) -> bytes:
        """Return one share of each neighbour in U2 and of itself, and erase the rest (PROTOCOL §6.12).

        Args:
            survivors: U3 as the request says it.
            signers: The parties whose agreement to this very U3 the shell has verified.

        Raises:
            AlreadyOpenedError: Shares were opened before.
            BothSeedsError: The request names another survivor set than this party agreed to.
            NotInRosterError: A signer is not in U3.
            ShortSurvivorsError: Fewer than T signers.
        """
        if self._step == Step.OPENED:
            # R6.12.1: a second opening could only be for the other kind of seed.
            raise AlreadyOpenedError("this party has opened its shares")
        self._require(Step.AGREED)
        # R6.12.2: another set would open the pair key of a party whose self seed the first one opens.
        if _distinct(survivors) != self._survivors:
            raise BothSeedsError("the survivor set is not the one agreed to")
        # R6.12.6: T consents, so that no other set can have as many.
        agreed = _distinct(signers)
        if not set(agreed) <= set(self._survivors):
            raise NotInRosterError("a signer is not among the survivors")
        if len(agreed) < self._terms.threshold:
            raise ShortSurvivorsError(len(agreed), self._terms.threshold)
        message = self._opening()
        self._step = Step.OPENED
        self._held = {}
        return message.encode(self._terms.sid)

    def erase(self) -> None:
        """Drop all secrets; the party takes no further part (PROTOCOL §6.13)."""
        # R6.13.1
        vars(self).pop("_own", None)
        self._held, self._streams = {}, []
        self._step = Step.ERASED

    def _require(self, expected: Step) -> None:
        if self._step > expected:
            raise LateFlightError(f"step after {expected.name} called in {self._step.name}")
        if self._step < expected:
            raise StateError(f"step after {expected.name} called in {self._step.name}")

    def _check_neighbourhood(self, graph: Graph) -> None:
        """Demand that U1 leaves every window enough members, and this party enough holders."""
        graph.check_windows(graph.members, ThinRosterError)
        holders = len(graph.holders_of(self._index))
        if holders < self._terms.share_threshold:
            raise FewHoldersError(holders, self._terms.share_threshold)

    def _opening(self) -> OpenedMessage:
        held, survivors = self._held, set(self._survivors)
        kinds = {x: SELF_SEED if x in survivors else MASK_KEY for x in held}
        for dealer, kind in kinds.items():
            # R6.12.3: what must never be opened beside the other kind is gone before that one is read.
            del held[dealer][SELF_SEED + MASK_KEY - kind]
        return OpenedMessage(
            self._index,
            self._roster.binding.view,
            tuple(held),
            tuple(kinds.values()),
            tuple(held[dealer][kind] for dealer, kind in kinds.items()),
        )


def _distinct(indices: Collection[int]) -> tuple[int, ...]:
    """Return the indices in order.

    Raises:
        DuplicateIndexError: One is named twice.
    """
    chosen = tuple(sorted(indices))
    if len(set(chosen)) != len(chosen):
        raise DuplicateIndexError("a party is named twice")
    return chosen
