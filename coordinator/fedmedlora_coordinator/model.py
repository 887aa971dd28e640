"""The global adapter on the coordinator's side: sums decoded, steps taken, digests computed (PROTOCOL §4).

The coordinator computes what every site computes for itself from the same ring sum; it keeps the vectors
only to write the released adapter, and can rebuild them from the stored ring sums of the closed rounds.

Memory is two vectors for the whole study: the current adapter, and a place that every sum is added in and
decoded in. When a step is taken the two change places, so that no round asks the system for fresh memory.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedmedlora_coordinator.errors import RoundError, StoreError
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.aggregate_bounds import check_aggregate
from fedmedlora_core.aggregation import server_step
from fedmedlora_core.codec import EXTRAS, FloatVector, RingVector
from fedmedlora_core.errors import AggregateBoundError, CodecError, ConfigError, NonFiniteError
from fedmedlora_core.packing import Frame, Packing
from fedmedlora_core.ranges import over_ranges
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
    """

    weight_sum: int
    delta: str
    next_base: str
    vector: FloatVector
    clipped_permille: float


class GlobalModel:
    """The initial adapter of a study and the vector it has come to."""

    def __init__(self, study: Study, initial: Adapter) -> None:
        """Start from the study's initial adapter.

        Raises:
            ConfigError: The adapter is not the one that the study names (the operator's).
        """
        if initial.digest != study.adapter.initial_digest or initial.dimension != study.adapter.dimension:
            raise ConfigError("the study package's initial adapter is not the one its study file names")
        self.study = study
        self._initial = initial
        self._room: RingVector = np.empty(self.packing.count, dtype=np.uint32)
        self._spare: RingVector | None = None
        np.copyto(self.vector, initial.vector())

    @classmethod
    def of_package(cls, study: Study, package: Path) -> "GlobalModel":
        """Load the initial adapter of a study package."""
        return cls(study, Adapter.load(package / INITIAL_FOLDER))

    @property
    def vector(self) -> FloatVector:
        """Trainable values of the current global adapter."""
        return _values_in(self._room)

    def accumulator(self) -> RingVector:
        """Return the place for the next sum, of `packing.count` words; what it held is lost."""
        if self._spare is None:
            self._spare = np.empty(self.packing.count, dtype=np.uint32)
        return self._spare

    @property
    def packing(self) -> Packing:
        """Frames of an encoded update and of a ring sum."""
        return self.study.packing()

    @property
    def ring_bytes(self) -> int:
        """Bytes of an encoded update on the wire."""
        return self.packing.total_bytes

    @property
    def upload_bytes(self) -> int:
        """Bytes of one site's upload: of the encoded update, or of its ciphertexts."""
        if self.study.secure_aggregation.mode == "ckks":
            return upload_bytes(self.packing.count)
        return self.ring_bytes

    @property
    def digest(self) -> str:
        """Digest of the current global adapter."""
        return self._initial.digest_of(self.vector)

    @property
    def adapter(self) -> Adapter:
        """The current global adapter."""
        return self._initial.with_vector(self.vector)

    def step(self, total: RingVector, *, survivors: int, threads: int = 1) -> Step:
        """Decode a ring sum and compute the server's step; it counts once it is taken (`take`).

        Args:
            total: The unmasked sum, one word for each value, the weight and the clipped share. The next
                adapter takes its place.
            survivors: Sites in it.
            threads: Worker threads; the result does not depend on it.

        Raises:
            RoundError: No honest uploads can give this sum: the round is refused.
        """
        codec = self.study.codec()
        try:
            average, weight_sum, (clipped,) = codec.decode(
                total, extras=EXTRAS, out=_values_in(total), threads=threads
            )
        except (CodecError, NonFiniteError) as exc:
            raise RoundError("refused", f"the sum does not decode: {exc}") from None
        try:
            check_aggregate(
                average, weight_sum, clipped, codec=codec, clip_norm=self.study.clip_norm, m=survivors
            )
        except AggregateBoundError as exc:
            raise RoundError(
                "out_of_bounds", f"the sum lies outside what clipped updates can give: {exc}"
            ) from None
        delta = self._initial.digest_of(average)
        vector = server_step(self.vector, average, learning_rate=self.study.server_learning_rate, out=average)
        return Step(weight_sum, delta, self._initial.digest_of(vector), vector, clipped / survivors)

    def take(self, step: Step) -> None:
        """Make the adapter of a step the current one; the old one's place takes the next sum."""
        if self._spare is not None and np.may_share_memory(step.vector, self._spare):
            self._room, self._spare = self._spare, self._room
        else:
            np.copyto(self.vector, step.vector)

    def replay(self, sums: Iterable[tuple[RingVector, int, str]]) -> None:
        """Take the steps of closed rounds again: (ring sum, survivors, expected next base) in order.

        Raises:
            StoreError: A stored sum does not lead to the base that the log names.
        """
        for total, survivors, expected in sums:
            step = self.step(total, survivors=survivors)
            if step.next_base != expected:
                raise StoreError("a stored ring sum does not lead to the adapter that the log names")
            self.take(step)


def _values_in(room: RingVector) -> FloatVector:
    """View the words of the values as the float32 values that take their place."""
    return room[: -1 - EXTRAS].view(np.float32)


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
