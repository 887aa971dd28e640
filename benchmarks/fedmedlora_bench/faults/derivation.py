"""Can anybody compute one honest site's vector from all that the coordinator ever held?

The adversary is the coordinator with any c sites (the charter's number of sites that may collude). It has
kept every payload of every attempt, also those that no event names, and all that its sites knew. What it has
is a system of linear equations in the ring: each upload is the site's vector, plus its self mask, plus and
minus the masks with its peers. A mask is known once enough shares of its seed were opened or lie with the
colluders, or when a colluder has it itself; it then leaves the equations. A vector can be computed if and
only if its unit vector lies in the row space of what is left.

All vectors of one site that belong to one family of sums - one base adapter and one purpose - count as one
unknown: a site's updates of two rounds from the same base are close to each other.

The simulation's true vectors convict: what the algebra says is derivable is computed and compared.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedmedlora_bench.faults.inputs import Masked, words_of
from fedmedlora_crypto.errors import CryptoError
from fedmedlora_crypto.secagg.messages import MASK_KEY, SELF_SEED, decode_opened, decode_shares
from fedmedlora_crypto.secagg.session import SessionTerms

__all__ = ["Derived", "Knowledge", "derivable"]

Family = tuple[str, str]
"""(base, purpose)"""
Unknown = tuple[str, str, tuple[int, ...]]
"""("vector", "", site), ("own", session, site) or ("pair", session, two sites)."""
_ROUNDING = 4  # steps of the ring by which two encodings of one update may differ


@dataclass(frozen=True)
class Derived:
    """One honest site's vector that can be computed.

    Attributes:
        family: Base and purpose of the sums.
        site: Whose it is, by index.
        colluders: With whom.
        sessions: From which sessions' uploads.
        equal: Whether it was computed and is the true one.
    """

    family: Family
    site: int
    colluders: tuple[int, ...]
    sessions: tuple[str, ...]
    equal: bool


@dataclass
class Knowledge:
    """What the coordinator was given, whoever was told of it.

    Attributes:
        terms: The charter's n, T and c, in the terms of any of its sessions.
        payloads: By digest: who sent it, and the bytes.
        families: Session to its family.
    """

    terms: SessionTerms
    payloads: Mapping[str, tuple[int, bytes]]
    families: Mapping[str, Family]
    opened: dict[tuple[str, int, int], set[int]] = field(default_factory=lambda: defaultdict(set))
    dealt: dict[tuple[str, int], set[int]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        """Read every payload as whatever it may be."""
        for sender, data in self.payloads.values():
            for sid in self.families:
                self._read(bytes.fromhex(sid), sender, data)

    def _read(self, sid: bytes, sender: int, data: bytes) -> None:
        try:
            message = decode_opened(data, sid=sid, party=sender)
        except CryptoError:
            pass
        else:
            for dealer, kind in zip(message.dealers, message.kinds, strict=True):
                self.opened[sid.hex(), dealer, kind].add(sender)
        try:
            dealt = decode_shares(data, sid=sid, party=sender, suite=self.terms.layout)
        except CryptoError:
            return
        self.dealt[sid.hex(), sender] |= set(dealt.holders)

    def knows(self, sid: str, dealer: int, kind: int, colluders: Sequence[int]) -> bool:
        """Tell whether a seed can be rebuilt: from shares that were opened, and from those of colluders."""
        held = self.dealt[sid, dealer].intersection(colluders) | self.opened[sid, dealer, kind]
        return len(held) >= self.terms.share_threshold


def derivable(
    knowledge: Knowledge, masked: Sequence[Masked], uploads: Mapping[tuple[str, int], str], *, bits: int
) -> Iterator[Derived]:
    """Yield every honest site's vector that can be computed, of every family and with every colluders.

    Args:
        knowledge: What the coordinator has.
        masked: Everything that any site masked.
        uploads: Digest of each masked vector's payload; only what arrived counts.
        bits: Width of the ring on the wire.
    """
    families: dict[Family, list[Masked]] = defaultdict(list)
    for each in masked:
        arrived = uploads.get((each.sid, each.party)) in knowledge.payloads
        if arrived and each.sid in knowledge.families:
            families[knowledge.families[each.sid]].append(each)
    for family, rows in families.items():
        for colluders in itertools.combinations(range(1, knowledge.terms.n + 1), knowledge.terms.colluding):
            yield from _of_family(knowledge, family, rows, colluders, bits)


def _of_family(
    knowledge: Knowledge, family: Family, rows: list[Masked], colluders: tuple[int, ...], bits: int
) -> Iterator[Derived]:
    rows = [row for row in rows if row.party not in colluders]
    table, columns = _equations(knowledge, rows, colluders)
    if not rows:
        return
    rank = np.linalg.matrix_rank(table)
    for site in sorted({row.party for row in rows}):
        at = columns["vector", "", (site,)]
        if np.linalg.matrix_rank(np.delete(table, at, axis=1)) == rank:
            continue
        target = np.zeros(table.shape[1])
        target[at] = 1
        factors = np.rint(np.linalg.lstsq(table.T, target, rcond=None)[0]).astype(np.int64)
        found = _combined(knowledge, rows, factors, colluders)
        true = next(row.true for row in rows if row.party == site)
        used = tuple(sorted({row.sid for row, factor in zip(rows, factors, strict=True) if factor}))
        yield Derived(family, site, colluders, used, _near(found, true, bits))


def _equations(
    knowledge: Knowledge, rows: Sequence[Masked], colluders: tuple[int, ...]
) -> tuple[NDArray[np.float64], dict[Unknown, int]]:
    columns: dict[Unknown, int] = {}
    entries: list[tuple[int, int, int]] = []
    for number, row in enumerate(rows):
        terms: list[tuple[Unknown, int]] = [(("vector", "", (row.party,)), 1)]
        if row.own is not None and not knowledge.knows(row.sid, row.party, SELF_SEED, colluders):
            terms.append((("own", row.sid, (row.party,)), 1))
        for peer, (_, sign) in row.pairs.items():
            if not _pair_known(knowledge, row, peer, colluders):
                pair = (min(row.party, peer), max(row.party, peer))
                terms.append((("pair", row.sid, pair), sign))
        for unknown, sign in terms:
            entries.append((number, columns.setdefault(unknown, len(columns)), sign))
    table = np.zeros((len(rows), len(columns)))
    for number, column, sign in entries:
        table[number, column] = sign
    return table, columns


def _pair_known(knowledge: Knowledge, row: Masked, peer: int, colluders: tuple[int, ...]) -> bool:
    if peer in colluders:
        return True
    return any(knowledge.knows(row.sid, end, MASK_KEY, colluders) for end in (row.party, peer))


def _combined(
    knowledge: Knowledge, rows: Sequence[Masked], factors: NDArray[np.int64], colluders: tuple[int, ...]
) -> NDArray[np.int64]:
    """Do what the adversary would: take the known masks off the uploads and combine them."""
    total = np.zeros(rows[0].sent.shape, dtype=np.int64)
    for row, factor in zip(rows, factors, strict=True):
        left, count = row.sent.astype(np.int64), row.sent.shape[0]
        if row.own is not None and knowledge.knows(row.sid, row.party, SELF_SEED, colluders):
            left -= words_of(row.own, count)
        for peer, (stream, sign) in row.pairs.items():
            if _pair_known(knowledge, row, peer, colluders):
                left -= sign * words_of(stream, count).astype(np.int64)
        total += factor * left
    return total


def _near(found: NDArray[np.int64], true: NDArray[np.uint32], bits: int) -> bool:
    """Compare in the ring, up to the rounding of an encoding."""
    ring = 1 << bits
    differ = (found - true.astype(np.int64)) % ring
    return bool(np.minimum(differ, ring - differ).max() <= _ROUNDING)
