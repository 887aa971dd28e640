"""Weights of label types: output rows averaged over the sites that annotate their type (PROTOCOL §4.12).

A token classifier has two output rows, B and I, for each label type. A site that does not annotate a type
knows nothing of its rows; averaged with the weights of all sites they would be pulled to where they were,
the more the fewer sites annotate the type. Under this rule a site gives each type a weight of its own - a
step of the ladder for the mentions of it in its training notes, 0 where it does not annotate it - and the
rows of a type are divided by the sum of those. The weights are exact integers in the vector, beside the
site's weight.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fedmedlora_core.adapter import Adapter
from fedmedlora_core.adapter_parts import Run
from fedmedlora_core.errors import ConfigError


class TypeRange(NamedTuple):
    """Values that lie together and belong to one label type.

    Attributes:
        first: First value in the vector.
        last: The value after the last one.
        place: Position of the type among the study's.
    """

    first: int
    last: int
    place: int


def type_ranges(adapter: Adapter, types: Sequence[str], runs: Sequence[Run]) -> tuple[TypeRange, ...]:
    """Find the values of each label type in the vector of a round, in order.

    Args:
        adapter: Names and shapes.
        types: The study's types, in the order of the model's tags; none for none.
        runs: From `adapter_parts.runs_of`: what travels in the round.

    Raises:
        ConfigError: The adapter has no output rows for exactly these types (the operator's).
    """
    if not types:
        return ()
    rows = 1 + 2 * len(types)  # outside, then begin and inside of each type (`tasks.tagging.tag_names`)
    found: list[TypeRange] = []
    at = {run.first: run for run in runs}
    first = 0
    current = runs[0]
    for name in adapter.trainable:
        tensor = adapter.tensors[name]
        current = at.get(first, current)
        if ".lora_" not in name:
            if tensor.shape[0] != rows:
                raise ConfigError(f"{name} has {tensor.shape[0]} rows; {len(types)} label types have {rows}")
            width, start = tensor.size // rows, first - current.first + current.at
            found += [
                TypeRange(start + (1 + 2 * place) * width, start + (3 + 2 * place) * width, place)
                for place in range(len(types))
            ]
        first += tensor.size
    if not found:
        raise ConfigError("type weights need a token classifier: the adapter has no output rows")
    return tuple(found)
