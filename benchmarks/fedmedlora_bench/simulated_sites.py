"""The sites of a simulated session, some in each worker process: real parties, real payloads, real masks.

A worker holds its parties from the first step to the last and answers one order at a time, party by party,
so that whoever adds uploads up needs to hold one of them only. Seconds are processor time of one party's
step, whatever else runs beside it.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fedmedlora_core.codec import Codec
from fedmedlora_crypto.secagg import Party, SessionTerms
from fedmedlora_crypto.xof import Keystream

__all__ = ["Answer", "Cohort", "Setting", "StoredShares", "work"]

CLIP = 0.05
WEIGHT_MAX = 4096


@dataclass(frozen=True)
class Setting:
    """What every process of a simulation knows.

    Attributes:
        terms: Constants of the session.
        contributions: What each party adds to the graph's seed; public from the first step on.
        dimension: Values in an update.
        seed: Seed of the updates.
        folder: Where shares payloads lie.
    """

    terms: SessionTerms
    contributions: Mapping[int, bytes] = field(repr=False)
    dimension: int
    seed: int
    folder: Path

    @property
    def codec(self) -> Codec:
        """The encoding of the session."""
        return Codec(clip=CLIP, n=self.terms.n, weight_max=WEIGHT_MAX)

    def update_of(self, party: int) -> tuple[NDArray[np.float32], int]:
        """Return a party's update and its weight."""
        dice = np.random.default_rng((self.seed, party))
        values = dice.uniform(-CLIP, CLIP, self.dimension).astype(np.float32)
        return values, int(dice.integers(1, WEIGHT_MAX + 1))

    def encoded(self, party: int) -> NDArray[np.uint32]:
        """Return a party's update as the ring vector that it masks."""
        values, weight = self.update_of(party)
        stream = Keystream(self.seed.to_bytes(28, "big") + party.to_bytes(4, "big"))
        return self.codec.encode(values, weight=weight, words=stream.words)


@dataclass(frozen=True)
class Answer:
    """What came of one party's step.

    Attributes:
        party: Who answered.
        payload: What it sent, where the coordinator needs it at once.
        seconds: Processor time of the step.
        sent: Bytes it sent.
        received: Bytes it had to fetch.
    """

    party: int
    payload: bytes
    seconds: float
    sent: int
    received: int


class StoredShares(Mapping[int, bytes]):
    """Shares payloads on the disk, as a coordinator keeps them: read when asked for, never all at once."""

    def __init__(self, folder: Path, parties: Sequence[int]) -> None:
        """Name the parties whose payloads were stored."""
        self._folder = folder
        self._parties = tuple(parties)

    def __getitem__(self, party: int) -> bytes:
        """Read one payload."""
        if party not in self._parties:
            raise KeyError(party)
        return (self._folder / f"{party}.shares").read_bytes()

    def __iter__(self) -> Iterator[int]:
        """Name the parties."""
        return iter(self._parties)

    def __len__(self) -> int:
        """Count them."""
        return len(self._parties)

    def store(self, party: int, payload: bytes) -> None:
        """Write one payload."""
        (self._folder / f"{party}.shares").write_bytes(payload)


class Cohort:
    """The parties of one worker."""

    def __init__(self, setting: Setting) -> None:
        """Start without parties; `advertise` names them."""
        self._setting = setting
        self._parties: dict[int, Party] = {}

    def advertise(self, parties: Sequence[int]) -> Iterator[Answer]:
        """Make keys."""
        for i in parties:
            started = time.process_time()
            party = Party(self._setting.terms, i, contribution=self._setting.contributions[i])
            payload = party.advertise()
            self._parties[i] = party
            yield Answer(i, payload, time.process_time() - started, len(payload), 0)

    def share(self, keys: Mapping[int, bytes], view: bytes, parties: Sequence[int]) -> Iterator[Answer]:
        """Check U1 and deal shares; the payloads go to the disk."""
        stored = StoredShares(self._setting.folder, ())
        fetched = sum(map(len, keys.values()))
        for i in self._own(parties):
            started = time.process_time()
            payload = self._parties[i].share(keys, view)
            seconds = time.process_time() - started
            stored.store(i, payload)
            yield Answer(i, b"", seconds, len(payload), fetched)

    def upload(self, u2: Sequence[int], ring: Sequence[int], parties: Sequence[int]) -> Iterator[Answer]:
        """Open the inbox, encode and mask; parties go in ring order, so that neighbours share payloads."""
        stored = StoredShares(self._setting.folder, u2)
        graph = self._setting.terms.graph
        kept = self._setting.terms.n if graph is None else graph.neighbours + 64
        read = lru_cache(maxsize=kept)(stored.__getitem__)
        mine = set(self._own(parties))
        for i in (x for x in ring or parties if x in mine):
            party = self._parties[i]
            near = {x: read(x) for x in party.neighbours_in(u2)}
            started = time.process_time()
            party.fix(near, u2)
            vector = self._setting.encoded(i)
            party.mask(vector)
            seconds = time.process_time() - started
            payload = vector.astype("<u4", copy=False).tobytes()
            yield Answer(i, payload, seconds, len(payload), sum(map(len, near.values())))

    def agree(self, survivors: Sequence[int], parties: Sequence[int]) -> Iterator[Answer]:
        """Agree to the survivors."""
        for i in self._own(parties):
            started = time.process_time()
            self._parties[i].agree(survivors)
            yield Answer(i, b"", time.process_time() - started, 0, 0)

    def open(
        self, survivors: Sequence[int], signers: Sequence[int], parties: Sequence[int]
    ) -> Iterator[Answer]:
        """Open shares."""
        for i in self._own(parties):
            started = time.process_time()
            payload = self._parties[i].open(survivors, signers)
            yield Answer(i, payload, time.process_time() - started, len(payload), 0)

    def _own(self, parties: Sequence[int]) -> list[int]:
        return [i for i in parties if i in self._parties]


def work(connection: Connection, setting: Setting) -> None:
    """Carry out orders until there are none: (step, arguments) in, answers and then the peak memory out."""
    cohort = Cohort(setting)
    steps: dict[str, Callable[..., Iterator[Answer]]] = {
        name: getattr(cohort, name) for name in ("advertise", "share", "upload", "agree", "open")
    }
    while (order := connection.recv()) is not None:
        step, arguments = order
        try:
            for answer in steps[step](*arguments):
                connection.send(answer)
            connection.send(peak_bytes())
        except BaseException as error:  # noqa: BLE001  the whole simulation has to hear of it
            connection.send(_sendable(error))


def peak_bytes() -> int:
    """Return the most memory that this process has held."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _sendable(error: BaseException) -> Any:
    return RuntimeError(f"{type(error).__name__}: {error}")
