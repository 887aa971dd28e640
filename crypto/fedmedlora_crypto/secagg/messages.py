"""The payloads of a session: one frozen dataclass per step, each with one encoding (PROTOCOL §6.1).

Every payload begins with a header: kind (1 byte), version (1), session id (32), sender (2). Numbers are
big-endian. R6.1.2: decoding raises `MalformedError` (or a subclass of `PeerError` for a header of another
session or sender) for every other byte string and nothing else; what decodes encodes to the same bytes.

What is not here: whether the contents are right (`party`, `aggregator`).
"""

import operator
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

from fedmedlora_crypto.encoding import COUNT_BYTES, DIGEST_BYTES, INDEX_BYTES, Reader, encode_index
from fedmedlora_crypto.errors import MalformedError, WrongSenderError, WrongSessionError
from fedmedlora_crypto.labels import VERSION
from fedmedlora_crypto.secagg.suites import MASKED_SUITE, SUITES, Suite
from fedmedlora_crypto.shamir import SHARE_BYTES

KIND_KEYS = 0x01
KIND_SHARES = 0x02
KIND_OPENED = 0x03

SELF_SEED = 1  # the share of b_u: opens the self mask of a survivor
MASK_KEY = 2  # the share of s_u: opens the pair masks of a party that dropped out

_COMMITMENT_PAIR_BYTES = 2 * DIGEST_BYTES
_DEFAULT = SUITES[MASKED_SUITE]


@dataclass(frozen=True)
class KeysMessage:
    """What a party advertises.

    Attributes:
        party: Sender.
        share_key: c_pk, for sealing shares.
        mask_key: s_pk, for pair masks.
        seed_commitment: H(b), the commitment to the self-mask seed.
        contribution: What the party adds to the seed of the graph; empty where the graph is complete.
    """

    party: int
    share_key: bytes
    mask_key: bytes
    seed_commitment: bytes
    contribution: bytes = b""

    def encode(self, sid: bytes) -> bytes:
        """Return the payload."""
        header = _header(KIND_KEYS, sid, self.party)
        return header + self.share_key + self.mask_key + self.seed_commitment + self.contribution


@dataclass(frozen=True)
class SharesMessage:
    """What a party deals: a commitment to each share, and a sealed box for each other holder.

    Attributes:
        party: Dealer.
        view: Digest of the keys it was made under.
        holders: In ascending order, the dealer included: U1, or with a graph the dealer's neighbours in it.
        commitments: For each holder the commitments to its share of b and of s, one after the other.
        boxes: For each holder but the dealer the sealed shares.
        wraps: In a hybrid suite, for each holder with a larger index the wrapped secret of the pair.
    """

    party: int
    view: bytes
    holders: tuple[int, ...]
    commitments: bytes
    boxes: tuple[bytes, ...]
    wraps: tuple[bytes, ...] = ()

    def encode(self, sid: bytes) -> bytes:
        """Return the payload."""
        return b"".join(
            (
                _header(KIND_SHARES, sid, self.party),
                self.view,
                _encode_indices(self.holders),
                self.commitments,
                *self.boxes,
                *self.wraps,
            )
        )

    def commitment(self, holder: int, kind: int) -> bytes:
        """Return the commitment to one share."""
        at = (2 * self.holders.index(holder) + kind - 1) * DIGEST_BYTES
        return self.commitments[at : at + DIGEST_BYTES]

    def box(self, holder: int) -> bytes:
        """Return the box for a holder other than the dealer."""
        at = self.holders.index(holder)
        return self.boxes[at - (holder > self.party)]

    def wrap(self, holder: int) -> bytes:
        """Return the wrapped pair secret for a holder with a larger index than the dealer's."""
        return self.wraps[self.holders.index(holder) - self.holders.index(self.party) - 1]


@dataclass(frozen=True)
class OpenedMessage:
    """What a party opens: exactly one share of each member of U2 that dealt to it.

    Attributes:
        party: Holder that opens.
        view: Digest of the keys of the session.
        dealers: In ascending order: U2, or with a graph the party and its neighbours in it.
        kinds: For each dealer `SELF_SEED` or `MASK_KEY`.
        shares: For each dealer the share of that kind.
    """

    party: int
    view: bytes
    dealers: tuple[int, ...]
    kinds: tuple[int, ...]
    shares: tuple[bytes, ...] = field(repr=False)

    def encode(self, sid: bytes) -> bytes:
        """Return the payload."""
        opened = (bytes([kind]) + share for kind, share in zip(self.kinds, self.shares, strict=True))
        return b"".join(
            (_header(KIND_OPENED, sid, self.party), self.view, _encode_indices(self.dealers), *opened)
        )


def decode_keys(
    data: bytes, *, sid: bytes, party: int, suite: Suite = _DEFAULT, graph: bool = False
) -> KeysMessage:
    """Read a keys payload that was handed in for `party`.

    Args:
        data: The payload.
        sid: Session it has to be of.
        party: Sender it has to name.
        suite: Says how long keys are.
        graph: Whether a contribution to the graph follows.

    Raises:
        PeerError: Malformed, of another session or of another sender.
    """
    reader = _open(data, KIND_KEYS, sid, party)
    message = KeysMessage(
        party,
        share_key=reader.take(suite.key_bytes),
        mask_key=reader.take(suite.key_bytes),
        seed_commitment=reader.take(DIGEST_BYTES),
        contribution=reader.take(DIGEST_BYTES if graph else 0),
    )
    reader.end()
    return message


def decode_shares(data: bytes, *, sid: bytes, party: int, suite: Suite = _DEFAULT) -> SharesMessage:
    """Read a shares payload that was handed in for `party`.

    Raises:
        PeerError: Malformed, of another session or of another sender.
    """
    reader = _open(data, KIND_SHARES, sid, party)
    view = reader.take(DIGEST_BYTES)
    holders = _take_indices(reader, party)
    if party not in holders:
        raise MalformedError("a dealer is among its holders", party=party)
    commitments = reader.take(len(holders) * _COMMITMENT_PAIR_BYTES)
    boxes = reader.take((len(holders) - 1) * suite.box_bytes)
    larger = len(holders) - 1 - holders.index(party)
    wraps = reader.take(larger * suite.wrap_bytes)
    reader.end()
    pieces = tuple(_cut(boxes, suite.box_bytes)), tuple(_cut(wraps, suite.wrap_bytes))
    return SharesMessage(party, view, holders, commitments, *pieces)


def decode_opened(data: bytes, *, sid: bytes, party: int) -> OpenedMessage:
    """Read an opened-shares payload that was handed in for `party`.

    Raises:
        PeerError: Malformed, of another session or of another sender.
    """
    reader = _open(data, KIND_OPENED, sid, party)
    view = reader.take(DIGEST_BYTES)
    dealers = _take_indices(reader, party)
    opened = _cut(reader.take(len(dealers) * (1 + SHARE_BYTES)), 1 + SHARE_BYTES)
    reader.end()
    kinds = tuple(entry[0] for entry in opened)
    if not set(kinds) <= {SELF_SEED, MASK_KEY}:
        raise MalformedError("unknown kind of share", party=party)
    return OpenedMessage(party, view, dealers, kinds, tuple(entry[1:] for entry in opened))


def _header(kind: int, sid: bytes, party: int) -> bytes:
    return bytes([kind, VERSION]) + sid + encode_index(party)


def _open(data: bytes, kind: int, sid: bytes, party: int) -> Reader:
    """Read a header and demand that it names this kind, session and sender (R6.1.3)."""
    reader = Reader(data, party=party)
    if reader.take(2) != bytes([kind, VERSION]):
        raise MalformedError("payload of another kind or version", party=party)
    if reader.take(DIGEST_BYTES) != sid:
        raise WrongSessionError("payload of another session", party=party)
    if reader.number(INDEX_BYTES) != party:
        raise WrongSenderError("payload of another sender", party=party)
    return reader


def _encode_indices(indices: Sequence[int]) -> bytes:
    return struct.pack(f">H{len(indices)}H", len(indices), *indices)


def _take_indices(reader: Reader, party: int) -> tuple[int, ...]:
    """Read a list of indices that ascends strictly from at least 1."""
    count = reader.number(COUNT_BYTES)
    indices = struct.unpack(f">{count}H", reader.take(count * INDEX_BYTES))
    if any(map(operator.ge, (0, *indices), indices)):
        raise MalformedError("indices do not ascend", party=party)
    return indices


def _cut(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)] if data else []
