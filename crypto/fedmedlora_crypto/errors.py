"""Errors by fault: who has to act when one of these is raised.

* `PeerError`: the message of another party (or of the coordinator) is bad. Its subclasses name the defect.
* `QuorumError`: not enough parties are left; expected in operation, nobody cheated.
* `StateError`: called out of order. Our own shell is wrong, or it let the coordinator lead it.
* `TermsError`: the constants handed in do not make a safe session; the charter should never have been
  signed.

Every class carries `reason`, the word that goes into a refusal event. Messages name party indices, counts
and sizes; they never carry key material or bytes of a payload.
"""

from typing import ClassVar


class CryptoError(Exception):
    """Base of all errors of this package."""

    reason: ClassVar[str] = "wrong_order"


class TermsError(CryptoError):
    """The constants of a session do not fit together (the charter is wrong)."""

    reason: ClassVar[str] = "wrong_charter"


class StateError(CryptoError):
    """A step was called out of order, or a second time."""

    reason: ClassVar[str] = "wrong_order"


class LateFlightError(StateError):
    """A message for a step that this party has already left behind."""

    reason: ClassVar[str] = "late"


class MaskReusedError(StateError):
    """A second vector was to be masked with the masks of one session."""

    reason: ClassVar[str] = "spent"


class AlreadyAgreedError(StateError):
    """This party has already agreed to a survivor set in this session."""

    reason: ClassVar[str] = "spent"


class AlreadyOpenedError(StateError):
    """This party has already opened shares in this session."""

    reason: ClassVar[str] = "both_seeds"


class PeerError(CryptoError):
    """A message of a peer is bad.

    Attributes:
        party: Index of the party whose message is bad, or None when it is the coordinator's doing.
    """

    reason: ClassVar[str] = "bad_share"

    def __init__(self, message: str, *, party: int | None = None) -> None:
        """Keep the blamed party beside the message."""
        super().__init__(message)
        self.party = party


class MalformedError(PeerError):
    """The bytes of a payload are not the one canonical encoding of a message."""


class WrongSessionError(PeerError):
    """A payload was made for another session."""

    reason: ClassVar[str] = "wrong_sid"


class WrongSenderError(PeerError):
    """A payload says it is by another party than the one it was handed in for."""

    reason: ClassVar[str] = "wrong_key"


class ViewError(PeerError):
    """A payload was made under another list of advertised keys."""

    reason: ClassVar[str] = "wrong_digest"


class KeyRefusedError(PeerError):
    """An advertised key must not be used.

    Attributes:
        left_out: The word under which the coordinator leaves the party out of U1.
    """

    reason: ClassVar[str] = "wrong_key"
    left_out: ClassVar[str] = "malformed_key"


class MalformedKeyError(KeyRefusedError):
    """The keys payload, or a public key in it, is not canonical."""


class LowOrderKeyError(KeyRefusedError):
    """A public key is one of the low-order points: the exchange would be the same for everybody."""

    left_out: ClassVar[str] = "low_order_key"


class DuplicateKeyError(KeyRefusedError):
    """A public key was already advertised by another party, or twice by this one."""

    left_out: ClassVar[str] = "duplicate_key"


class ContributionError(KeyRefusedError):
    """A party's contribution to the graph does not open what it committed to."""

    left_out: ClassVar[str] = "wrong_contribution"


class NotIncludedError(PeerError):
    """A list of the coordinator leaves this party out, or carries other bytes than it sent."""

    reason: ClassVar[str] = "not_included"


class NotInRosterError(PeerError):
    """A list names a party that is not in the list it has to be taken from."""

    reason: ClassVar[str] = "not_in_roster"


class SealedBoxError(PeerError):
    """A sealed box does not open: altered, or made for another sender, receiver, session or view."""


class ShareCommitmentError(PeerError):
    """A share is not the one its dealer committed to."""


class DealtWronglyError(PeerError):
    """Shares that fit their commitments rebuild another secret than the dealer announced."""


class BothSeedsError(PeerError):
    """A request would open both kinds of seed of one party."""

    reason: ClassVar[str] = "both_seeds"


class WrongOpeningError(PeerError):
    """An opened-shares payload does not open exactly the shares that were asked for."""


class WrongSumError(PeerError):
    """A published sum is not the sum of the uploads without their masks; the coordinator's doing.

    Attributes:
        chunk: Index of the wrong chunk.
        value: Index, in the whole vector, of the first wrong value.
    """

    reason: ClassVar[str] = "wrong_sum"

    def __init__(self, *, chunk: int, value: int) -> None:
        """Name the chunk and the value; never the values themselves."""
        super().__init__(f"chunk {chunk} of the published sum is wrong, first at value {value}")
        self.chunk = chunk
        self.value = value


class DuplicateIndexError(PeerError):
    """A list names one party twice."""

    reason: ClassVar[str] = "duplicate"


class QuorumError(CryptoError):
    """Fewer parties than the threshold are left."""

    reason: ClassVar[str] = "short_roster"
    sentence: ClassVar[str] = "{have} parties, the threshold is {need}"

    def __init__(self, have: int, need: int) -> None:
        """Say how many there are and how many are needed."""
        super().__init__(self.sentence.format(have=have, need=need))
        self.have = have
        self.need = need


class ShortRosterError(QuorumError):
    """|U1| is below the threshold."""

    reason: ClassVar[str] = "short_roster"


class ShortInboxError(QuorumError):
    """|U2| is below the threshold."""

    reason: ClassVar[str] = "short_inbox"


class ShortSurvivorsError(QuorumError):
    """|U3|, or the number of its members that agreed to it, is below the threshold."""

    reason: ClassVar[str] = "short_survivors"


class ThinRosterError(ShortRosterError):
    """Some k/2 consecutive positions of the graph hold too few of U1."""

    sentence: ClassVar[str] = "a window of the graph holds {have} parties, it needs {need}"


class ThinInboxError(ShortInboxError):
    """Some k/2 consecutive positions of the graph hold too few of U2."""

    sentence: ClassVar[str] = "a window of the graph holds {have} parties, it needs {need}"


class ThinSurvivorsError(ShortSurvivorsError):
    """Some k/2 consecutive positions of the graph hold too few of U3."""

    sentence: ClassVar[str] = "a window of the graph holds {have} parties, it needs {need}"


class FewHoldersError(ShortRosterError):
    """A party has fewer neighbours in U1 than shares are needed to rebuild its seeds."""


class ShortOpeningsError(QuorumError):
    """Fewer usable opened-shares payloads than the threshold."""

    reason: ClassVar[str] = "short_survivors"
