"""What the simulation knows and nobody in it may: every vector before it was masked, and the masks."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fedmedlora_audit.blob import blob_digest
from fedmedlora_core.packing import Packing
from fedmedlora_crypto.secagg.party import Party
from fedmedlora_crypto.xof import Keystream, Vector

__all__ = ["Inputs", "Masked"]


@dataclass(frozen=True, repr=False)
class Masked:
    """One vector that one site masked in one session.

    Attributes:
        sid: The session.
        party: Index of the site, from 1.
        true: The vector.
        sent: The same with its masks.
        own: The self mask; None if the site used none.
        pairs: The mask with each other site, with its sign.
    """

    sid: str
    party: int
    true: Vector
    sent: Vector
    own: Keystream | None
    pairs: dict[int, tuple[Keystream, int]]


@dataclass
class Inputs:
    """All masked vectors of a run, by (session, party) in the order in which they were made."""

    masked: list[Masked] = field(default_factory=list)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look over the shoulder of every party of this process while it masks; nothing is changed."""
        real = Party.mask

        def mask(party: Party, vector: Vector, *, threads: int = 1) -> None:
            before, streams = vector.copy(), list(party._streams)
            real(party, vector, threads=threads)
            self._keep(party, before, vector.copy(), streams)

        Party.mask = mask  # type: ignore[method-assign, assignment] # an observer only
        try:
            yield
        finally:
            Party.mask = real  # type: ignore[method-assign] # back again

    def _keep(self, party: Any, true: Vector, sent: Vector, streams: list[tuple[Keystream, int]]) -> None:
        peers = [peer for peer in sorted(party._held) if peer != party._index]
        own = streams[0][0] if len(streams) > len(peers) else None
        pairs = dict(zip(peers, streams[0 if own is None else 1 :], strict=True))
        self.masked.append(Masked(party._terms.sid.hex(), party._index, true, sent, own, pairs))


def upload_digest(masked: Masked, packing: Packing) -> str:
    """Digest of the payload that carries a masked vector."""
    return blob_digest(b"".join(bytes(frame) for frame in packing.frames_of(masked.sent)))


def words_of(stream: Keystream, count: int) -> Vector:
    """The first words of a mask."""
    return np.asarray(stream.words(0, count), dtype=np.uint32)
