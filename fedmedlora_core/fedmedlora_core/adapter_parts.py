"""Which values of the adapter travel in a round, and which stay at a site (PROTOCOL §4.10 to §4.11).

With adapter mode "alternating" (RoLoRA, Chen et al. 2024) a round trains B in odd and A in even rounds - B
first, since A has no gradient while B is zero - and only the trained half travels. Whoever is neither A nor B
(a classifier) travels in every round. In every other mode all trainable values travel.

With mode "sa" (FedSA-LoRA, Guo et al. 2025) the study's adapter is A, and B is the site's own: it is in the
layout with the values that it began with, is trained with A, and never leaves the site.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.codec import FloatVector
from fedmedlora_core.errors import ConfigError
from fedmedlora_core.strategy_terms import AdapterTerms

Half = Literal["A", "B"]


class Run(NamedTuple):
    """Values that lie together: in the adapter's vector, and in what travels.

    Attributes:
        first: First value in the adapter's vector.
        last: The value after the last one there.
        at: First value in the vector of the round.
    """

    first: int
    last: int
    at: int


def half_of(mode: str, round_number: int) -> Half | None:
    """Return which half a round trains; None for all of the adapter."""
    if mode != "alternating":
        return None
    return "B" if round_number % 2 else "A"  # R4.10.1


def trains(name: str, half: Half | None) -> bool:
    """Tell whether a tensor takes part in a round that trains a half."""
    other = {"A": ".lora_B.", "B": ".lora_A."}
    return half is None or other[half] not in name


def runs_of(adapter: Adapter, half: Half | None) -> tuple[Run, ...]:
    """Return where the values of a round lie, in order; neighbours are joined."""
    runs: list[Run] = []
    first = at = 0
    for name in adapter.trainable:
        last = first + adapter.tensors[name].size
        if trains(name, half):
            if runs and runs[-1].last == first:
                runs[-1] = Run(runs[-1].first, last, runs[-1].at)
            else:
                runs.append(Run(first, last, at))
            at += last - first
        first = last
    return tuple(runs)


def is_personal(name: str, mode: str) -> bool:
    """Tell whether a tensor is each site's own (R4.11.1)."""
    return mode == "sa" and ".lora_B." in name


def with_personal(adapter: Adapter, personal: FloatVector) -> Adapter:
    """Put a site's own part into the study's adapter: the adapter that this site uses.

    Raises:
        ConfigError: It is of another adapter.
    """
    names = [name for name in sorted(adapter.tensors) if is_personal(name, "sa")]
    if sum(adapter.tensors[name].size for name in names) != personal.shape[0]:
        raise ConfigError("a site's own part does not fit the study's adapter")
    tensors, start = dict(adapter.tensors), 0
    for name in names:
        shape, stop = tensors[name].shape, start + tensors[name].size
        tensors[name] = personal[start:stop].reshape(shape)
        start = stop
    return Adapter(tensors, adapter.trainable, adapter.config)


def moved(adapter: Adapter, delta: FloatVector, runs: Sequence[Run]) -> Adapter:
    """Add an update to the values that it is of: a federation of one, without a sum."""
    vector = adapter.vector().copy()
    for first, last, at in runs:
        vector[first:last] += delta[at : at + last - first]
    return adapter.with_vector(vector)


def length_of(runs: Sequence[Run]) -> int:
    """Count the values of some runs."""
    return sum(run.last - run.first for run in runs)


def check_layout(adapter: Adapter, terms: AdapterTerms) -> None:
    """Compare an initial adapter with what the charter says travels (R4.10.3, R4.11.1).

    Raises:
        ConfigError: Another number of values, or another part, would travel.
    """
    if adapter.dimension != terms.dimension or halves_of(adapter, terms.mode) != terms.halves:
        raise ConfigError("the initial adapter has another number of trainable values than the charter says")
    if any(is_personal(name, terms.mode) for name in adapter.trainable):
        raise ConfigError("mode 'sa' leaves B at each site, but the initial adapter shares it")


def halves_of(adapter: Adapter, mode: str) -> tuple[int, int] | None:
    """Return what a charter says of an adapter's halves: values that travel with A and with B, or None."""
    if mode != "alternating":
        return None
    return length_of(runs_of(adapter, "A")), length_of(runs_of(adapter, "B"))
