"""Which values of the adapter travel in a round (PROTOCOL §4.10).

With adapter mode "alternating" (RoLoRA, Chen et al. 2024) a round trains B in odd and A in even rounds - B
first, since A has no gradient while B is zero - and only the trained half travels. Whoever is neither A nor B
(a classifier) travels in every round. In every other mode all trainable values travel.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

from fedmedlora_core.adapter import Adapter

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


def length_of(runs: Sequence[Run]) -> int:
    """Count the values of some runs."""
    return sum(run.last - run.first for run in runs)


def halves_of(adapter: Adapter, mode: str) -> tuple[int, int] | None:
    """Return what a charter says of an adapter's halves: values that travel with A and with B, or None."""
    if mode != "alternating":
        return None
    return length_of(runs_of(adapter, "A")), length_of(runs_of(adapter, "B"))
