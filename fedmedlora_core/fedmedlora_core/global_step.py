"""From a published ring sum to the next adapter, computed alike by every party (PROTOCOL §4.4).

    rule = GlobalStep(study, initial_adapter)
    found = rule.advance(base.segments(), state, total, round_number=3, m=4)

Nobody believes the result of another: the coordinator publishes digests of what it found here, every site
compares them with what it found here. Nothing in this module knows who calls it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import Run, check_layout, half_of, runs_of
from fedmedlora_core.aggregate_bounds import check_aggregate
from fedmedlora_core.aggregation import server_step
from fedmedlora_core.codec import EXTRAS, FloatVector, RingVector, Words, WordStream
from fedmedlora_core.errors import CodecError
from fedmedlora_core.packing import Packing
from fedmedlora_core.server_optimiser import OptimiserState, ServerOptimiser
from fedmedlora_core.study import Study
from fedmedlora_core.type_weights import TypeRange, type_ranges

Segment = tuple[int, int, FloatVector]
"""(first, last + 1, values) of some values of the adapter, as `Adapter.segments` gives them."""


@dataclass(frozen=True)
class Advance:
    """What one ring sum leads to.

    Attributes:
        weight_sum: Sum of the sites' weights.
        delta: Digest of the averaged update.
        vector: Trainable values of the next adapter.
        state: State of the server's optimiser after the round; None without one.
        clipped_permille: Mean over the sites of the share of values that the clip changed, in thousandths.
        norm: L2 norm of the averaged update.
    """

    weight_sum: int
    delta: str
    vector: FloatVector
    state: OptimiserState | None
    clipped_permille: float
    norm: float

    @property
    def state_digest(self) -> str | None:
        """Digest of the optimiser's state, if there is one."""
        return None if self.state is None else self.state.digest


@dataclass(frozen=True, repr=False)
class SiteWeights:
    """The integers that one site declares in a round, under the masks.

    Attributes:
        weight: For all values but those below.
        types: For the output rows of each label type of the study, in order; 0 where the site does not
            annotate it. Empty without type weights.
    """

    weight: int
    types: tuple[int, ...] = ()

    def __repr__(self) -> str:
        """Show nothing: they follow from the site's size."""
        return "SiteWeights(…)"


def weights_of(
    study: Study, site: str, *, n_notes: int, loss: float, mentions: Mapping[str, int]
) -> SiteWeights:
    """Compute a site's weights of a round (PROTOCOL §4.3, §4.12).

    Args:
        study: The charter.
        site: A member.
        n_notes: Training notes.
        loss: Mean validation loss in nats.
        mentions: Label type to its mentions in the training notes.
    """
    rule = study.weight_rule()
    annotated = next(member.annotated for member in study.members if member.id == site)
    # R4.12.2: by the charter's word, not by what the notes say, so that everybody knows whose weight is 0.
    types = tuple(
        rule.type_weight_of(n_mentions=mentions.get(name, 0)) if name in annotated else 0
        for name in study.weighed_types
    )
    return SiteWeights(rule.weight_of(n_notes=n_notes, loss=loss), types)


class GlobalStep:
    """How the adapter of one charter moves.

    Args:
        study: The charter.
        layout: Any adapter of the study: its names and shapes say where the values lie.
    """

    def __init__(self, study: Study, layout: Adapter) -> None:
        """Lay out the values once.

        Raises:
            ConfigError: The layout is not the charter's (the operator's).
        """
        check_layout(layout, study.adapter)
        type_ranges(layout, study.weighed_types, runs_of(layout, None))
        self._study = study
        self._layout = layout
        server = study.aggregation.server
        self._optimiser = None if server is None else ServerOptimiser(server, study.server_learning_rate)

    def initial_state(self) -> OptimiserState | None:
        """Return the optimiser's state before the first round; None without an optimiser."""
        server = self._study.aggregation.server
        return None if server is None else OptimiserState.initial(server, self._layout.dimension)

    def packing(self, round_number: int) -> Packing:
        """Frames of a round's vectors."""
        return self._study.packing(round_number)

    def values_in(self, total: RingVector) -> FloatVector:
        """View the words of a vector's values as the float32 values that take their place."""
        return total[: -1 - self._study.extras].view(np.float32)

    def runs(self, round_number: int) -> tuple[Run, ...]:
        """Where the values of a round lie in the adapter."""
        return runs_of(self._layout, half_of(self._study.adapter.mode, round_number))

    def types(self, round_number: int) -> tuple[TypeRange, ...]:
        """Where the output rows of each label type lie in a round's vector; none without type weights."""
        return type_ranges(self._layout, self._study.weighed_types, self.runs(round_number))

    def encode(
        self,
        update: FloatVector,
        weights: SiteWeights,
        clipped: int,
        words: Words | WordStream,
        *,
        round_number: int,
        out: RingVector | None = None,
        threads: int = 1,
    ) -> RingVector:
        """Encode a clipped update with everything that the charter puts beside it (PROTOCOL §4.2, §4.12).

        Args:
            update: What travels in the round, clipped.
            weights: From `weights_of`.
            clipped: Share of clipped values in thousandths.
            words: The round's own stream for the stochastic rounding.
            round_number: From 1.
            out: See `Codec.encode`.
            threads: Worker threads; the result does not depend on it.

        Raises:
            CoreError: The update does not fit the charter.
        """
        groups = [(first, last, weights.types[place]) for first, last, place in self.types(round_number)]
        return self._study.codec().encode(
            update,
            weight=weights.weight,
            words=words,
            extras=(clipped, *weights.types),
            groups=groups,
            out=out,
            threads=threads,
        )

    def advance(
        self,
        base: Iterable[Segment],
        state: OptimiserState | None,
        total: RingVector,
        *,
        round_number: int,
        m: int,
        threads: int = 1,
    ) -> Advance:
        """Decode a sum, check its bounds, and take the server's step (PROTOCOL §4.4).

        Args:
            base: The adapter that the round started from, in order.
            state: The optimiser's state that goes with it; it is not changed.
            total: The unmasked sum; its place is taken by the next adapter where it is long enough.
            round_number: From 1.
            m: Sites in the sum.
            threads: Worker threads; the result does not depend on it.

        Raises:
            CodecError: The sum does not decode.
            AggregateBoundError: Clipped updates of m sites cannot give it.
        """
        if total.shape != (self.packing(round_number).count,):
            raise CodecError("the sum has another length than the vectors of its round")
        codec = self._study.codec()
        types = self.types(round_number)
        average, weight_sum, (clipped, *type_sums) = codec.decode(
            total,
            extras=self._study.extras,
            groups=[(first, last, EXTRAS + place) for first, last, place in types],  # R4.12.3
            out=self.values_in(total),
            threads=threads,
        )
        norm = check_aggregate(
            average,
            weight_sum,
            clipped,
            codec=codec,
            clip_norm=self._study.clip_norm,
            m=m,
            groups=types,
            group_sums=type_sums,
        )
        delta = self._layout.digest_of(average)
        moved = self._started(state)
        runs = self.runs(round_number)
        if runs == (Run(0, self._layout.dimension, 0),):  # in place: one vector from the sum to the next base
            vector = average
            for first, last, values in base:
                self._move(values, average[first:last], moved, first, average[first:last])
        else:
            # R4.10.4: neither adapter nor optimiser moves outside of what travelled.
            vector = np.concatenate([values for _, _, values in base])
            for first, last, at in runs:
                kept = vector[first:last]
                self._move(kept, average[at : at + last - first], moved, first, kept)
        return Advance(weight_sum, delta, vector, moved, clipped / m, norm)

    def _started(self, state: OptimiserState | None) -> OptimiserState | None:
        if (self._optimiser is None) != (state is None):
            raise ValueError("a study with an optimiser of the server has a state for it, and no other has")
        return None if self._optimiser is None or state is None else self._optimiser.started(state)

    def _move(
        self,
        base: FloatVector,
        average: FloatVector,
        state: OptimiserState | None,
        first: int,
        out: FloatVector,
    ) -> None:
        if self._optimiser is None or state is None:
            server_step(base, average, learning_rate=self._study.server_learning_rate, out=out)
        else:
            self._optimiser.step(base, average, state, first=first, out=out)
