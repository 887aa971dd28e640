"""The global adapter on the coordinator's side: sums decoded, steps taken, digests computed (PROTOCOL §4).

The coordinator computes what every site computes for itself from the same ring sum; it keeps the vectors
only to write the released adapter, and can rebuild them from the stored ring sums of the closed rounds.

Memory is two vectors for the whole study: the current adapter, and a place that every sum is added in and
decoded in. When a step is taken the two change places, so that no round asks the system for fresh memory. An
optimiser of the server adds its state, and the next one while a round is decided.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fedmedlora_coordinator.errors import RoundError, StoreError
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import FloatVector, RingVector
from fedmedlora_core.errors import AggregateBoundError, CodecError, ConfigError, NonFiniteError
from fedmedlora_core.global_step import GlobalStep
from fedmedlora_core.packing import Frame, Packing
from fedmedlora_core.ranges import over_ranges
from fedmedlora_core.server_optimiser import OptimiserState
from fedmedlora_core.study import INITIAL_FOLDER, Study
from fedmedlora_crypto.ckks.parameters import upload_bytes


@dataclass(frozen=True)
class Step:
    """What one decoded ring sum leads to.

    Attributes:
        weight_sum: Sum of the sites' weights.
        delta: Digest of the averaged update.
        next_base: Digest of the next global adapter.
        vector: Trainable values of the next global adapter.
        clipped_permille: Mean over the sites of the share of values that the clip changed, in thousandths.
        state: State of the server's optimiser after the step; None without one.
        state_before: Digest of the state that it came from; None without one.
    """

    weight_sum: int
    delta: str
    next_base: str
    vector: FloatVector
    clipped_permille: float
    state: OptimiserState | None = None
    state_before: str | None = None

    @property
    def state_digest(self) -> str | None:
        """Digest of the optimiser's state after the step, if there is one."""
        return None if self.state is None else self.state.digest


class ClosedSum(NamedTuple):
    """The ring sum of a closed round, and what the log says that it led to.

    Attributes:
        round: The round.
        total: The sum.
        survivors: Sites in it.
        next_base: Digest of the adapter that it led to.
        state: Digest of the optimiser's state that it led to; None without an optimiser.
    """

    round: int
    total: RingVector
    survivors: int
    next_base: str
    state: str | None


class RoundSizes(NamedTuple):
    """Sizes in bytes of the vectors of a round.

    Attributes:
        ring: A ring sum.
        upload: One site's upload: the encoded update, or its ciphertexts.
        padding: Offsets of the bytes of a ring vector that have to be zero.
    """

    ring: int
    upload: int
    padding: range


class GlobalModel:
    """The initial adapter of a study and the vector it has come to."""

    def __init__(self, study: Study, initial: Adapter) -> None:
        """Start from the study's initial adapter.

        Raises:
            ConfigError: The adapter is not the one that the study names (the operator's).
        """
        if initial.digest != study.adapter.initial_digest:
            raise ConfigError("the study package's initial adapter is not the one its study file names")
        self.study = study
        self._initial = initial
        self._rule = GlobalStep(study, initial)
        self._state = self._rule.initial_state()
        self._room: RingVector = np.empty(initial.dimension + 1 + study.extras, dtype=np.uint32)
        self._spare: RingVector | None = None
        np.copyto(self.vector, initial.vector())

    @classmethod
    def of_package(cls, study: Study, package: Path) -> "GlobalModel":
        """Load the initial adapter of a study package."""
        return cls(study, Adapter.load(package / INITIAL_FOLDER))

    @property
    def vector(self) -> FloatVector:
        """Trainable values of the current global adapter."""
        return self._rule.values_in(self._room)

    def accumulator(self, round_number: int) -> RingVector:
        """Return the place for a round's sum, a word for each of its packing; what it held is lost."""
        if self._spare is None:
            self._spare = np.empty(self._room.shape, dtype=np.uint32)
        return self._spare[: self.packing(round_number).count]

    def packing(self, round_number: int) -> Packing:
        """Frames of a round's encoded updates and of its ring sum."""
        return self._rule.packing(round_number)

    def sizes(self) -> tuple[RoundSizes, ...]:
        """Return what the vectors of this study's rounds measure: of every kind of round, each once."""
        return tuple(self._sizes_of(packing) for packing in self.study.packings())

    def _sizes_of(self, packing: Packing) -> RoundSizes:
        ckks = self.study.secure_aggregation.mode == "ckks"
        upload = upload_bytes(packing.count) if ckks else packing.total_bytes
        return RoundSizes(packing.total_bytes, upload, packing.padding_offsets)

    @property
    def digest(self) -> str:
        """Digest of the current global adapter."""
        return self._initial.digest_of(self.vector)

    @property
    def adapter(self) -> Adapter:
        """The current global adapter."""
        return self._initial.with_vector(self.vector)

    def step(self, total: RingVector, *, round_number: int, survivors: int, threads: int = 1) -> Step:
        """Decode a ring sum and compute the server's step; it counts once it is taken (`take`).

        Args:
            total: The unmasked sum, one word for each value, the weight and the clipped share. The next
                adapter takes its place.
            round_number: The round that it is the sum of.
            survivors: Sites in it.
            threads: Worker threads; the result does not depend on it.

        Raises:
            RoundError: No honest uploads can give this sum: the round is refused.
        """
        before = None if self._state is None else self._state.digest
        vector = self.vector
        try:
            found = self._rule.advance(
                [(0, vector.shape[0], vector)],
                self._state,
                total,
                round_number=round_number,
                m=survivors,
                threads=threads,
            )
        except (CodecError, NonFiniteError) as exc:
            raise RoundError("refused", f"the sum does not decode: {exc}") from None
        except AggregateBoundError as exc:
            raise RoundError(
                "out_of_bounds", f"the sum lies outside what clipped updates can give: {exc}"
            ) from None
        return Step(
            found.weight_sum,
            found.delta,
            self._initial.digest_of(found.vector),
            found.vector,
            found.clipped_permille,
            found.state,
            before,
        )

    def take(self, step: Step) -> None:
        """Make the adapter of a step the current one; the old one's place takes the next sum."""
        if self._spare is not None and np.may_share_memory(step.vector, self._spare):
            self._room, self._spare = self._spare, self._room
        else:
            np.copyto(self.vector, step.vector)
        self._state = step.state

    def replay(self, sums: Iterable[ClosedSum]) -> None:
        """Take the steps of closed rounds again; the optimiser's state comes back with them (R4.9.5).

        Raises:
            StoreError: A stored sum does not lead to the base, or to the state, that the log names.
        """
        for closed in sums:
            step = self.step(closed.total, round_number=closed.round, survivors=closed.survivors)
            if (step.next_base, step.state_digest) != (closed.next_base, closed.state):
                raise StoreError("a stored ring sum does not lead to the adapter that the log names")
            self.take(step)


Fetch = Callable[[str, int], Frame]
"""(digest, index) -> that chunk of an upload, checked against the digest; called from several threads."""


def sum_uploads(
    total: RingVector, packing: Packing, uploads: Iterable[str], fetch: Fetch, *, threads: int = 1
) -> None:
    """Add packed uploads up, frame by frame: memory stays at one vector and a frame a thread.

    A frame of the total takes that frame of every upload before the next one is touched, so it stays in the
    cache; threads take ranges of frames, and the result does not depend on how many there are.

    Args:
        total: uint32 of shape `(packing.count,)`; takes the sum, modulo 2**32.
        packing: Frames of the study's vectors.
        uploads: Digests.
        fetch: Gives the chunks.
        threads: Worker threads.

    Raises:
        RoundError: An upload is malformed (its sender's fault; the round is refused).
    """
    digests = tuple(uploads)

    def add(first: int, last: int) -> None:
        for index in range(first, last):
            total[slice(*packing.span(index))] = 0
            for digest in digests:
                packing.add(total, fetch(digest, index), index)

    try:
        over_ranges(add, packing.frames, threads, block=1)
    except CodecError as exc:
        raise RoundError("refused", f"an upload does not fit the study's adapter: {exc}") from None
