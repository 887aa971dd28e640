"""The global adapter on the coordinator's side: sums decoded, steps taken, digests computed (PROTOCOL §4).

The coordinator computes what every site computes for itself from the same ring sum; it keeps the vectors
only to write the released adapter, and can rebuild them from the stored ring sums of the closed rounds.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fedmedlora_coordinator.errors import RoundError, StoreError
from fedmedlora_core.adapter import Adapter
from fedmedlora_core.aggregate_bounds import check_aggregate
from fedmedlora_core.aggregation import server_step
from fedmedlora_core.codec import FloatVector, RingVector
from fedmedlora_core.errors import AggregateBoundError, CodecError, ConfigError, NonFiniteError
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
    """

    weight_sum: int
    delta: str
    next_base: str
    vector: FloatVector


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
        self.vector: FloatVector = initial.vector()

    @classmethod
    def of_package(cls, study: Study, package: Path) -> "GlobalModel":
        """Load the initial adapter of a study package."""
        return cls(study, Adapter.load(package / INITIAL_FOLDER))

    @property
    def ring_length(self) -> int:
        """Values in an encoded update: the adapter's and the weight."""
        return self.study.adapter.dimension + 1

    @property
    def ring_bytes(self) -> int:
        """Bytes of an encoded update: 32 bits a value."""
        return 4 * self.ring_length

    @property
    def upload_bytes(self) -> int:
        """Bytes of one site's upload: of the encoded update, or of its ciphertexts."""
        if self.study.secure_aggregation.mode == "ckks":
            return upload_bytes(self.ring_length)
        return self.ring_bytes

    @property
    def digest(self) -> str:
        """Digest of the current global adapter."""
        return self._initial.digest_of(self.vector)

    @property
    def adapter(self) -> Adapter:
        """The current global adapter."""
        return self._initial.with_vector(self.vector)

    def step(self, total: RingVector, *, survivors: int) -> Step:
        """Decode a ring sum and take the server's step; nothing is kept yet.

        Raises:
            RoundError: No honest uploads can give this sum: the round is refused.
        """
        codec = self.study.codec()
        try:
            average, weight_sum, _ = codec.decode(total)
        except (CodecError, NonFiniteError) as exc:
            raise RoundError("refused", f"the sum does not decode: {exc}") from None
        try:
            check_aggregate(average, weight_sum, codec=codec, clip_norm=self.study.clip_norm, m=survivors)
        except AggregateBoundError as exc:
            raise RoundError(
                "out_of_bounds", f"the sum lies outside what clipped updates can give: {exc}"
            ) from None
        vector = server_step(self.vector, average, learning_rate=self.study.server_learning_rate)
        return Step(weight_sum, self._initial.digest_of(average), self._initial.digest_of(vector), vector)

    def replay(self, sums: Iterable[tuple[RingVector, int, str]]) -> None:
        """Take the steps of closed rounds again: (ring sum, survivors, expected next base) in order.

        Raises:
            StoreError: A stored sum does not lead to the base that the log names.
        """
        for total, survivors, expected in sums:
            step = self.step(total, survivors=survivors)
            if step.next_base != expected:
                raise StoreError("a stored ring sum does not lead to the adapter that the log names")
            self.vector = step.vector


def add_chunks(total: RingVector, chunks: Iterator[bytes]) -> None:
    """Add one upload to the total, chunk by chunk: memory stays at one vector and one chunk.

    Raises:
        RoundError: The upload has another length than the total.
    """
    start = 0
    for chunk in chunks:
        words = np.frombuffer(chunk, dtype="<u4") if len(chunk) % 4 == 0 else np.empty(0, dtype="<u4")
        end = start + words.shape[0]
        if not words.shape[0] or end > total.shape[0]:
            raise RoundError("refused", "an upload has another length than the study's adapter")
        total[start:end] += words
        start = end
    if start != total.shape[0]:
        raise RoundError("refused", "an upload has another length than the study's adapter")


def ring_vector(data: bytes) -> RingVector:
    """Read the ring sum of a blob."""
    return np.frombuffer(data, dtype="<u4").astype(np.uint32)
