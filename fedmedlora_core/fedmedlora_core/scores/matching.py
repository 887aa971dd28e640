"""One-to-one matching of predicted with gold items, and the tokens that lenient matching compares."""

from __future__ import annotations

import bisect
import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from fedmedlora_core.records import Span

Gold = TypeVar("Gold")
Predicted = TypeVar("Predicted")

_TOKEN = re.compile(r"\w+|[^\w\s]")


class Tokens:
    """The tokens of one text: runs of letters and digits, and every other visible character by itself."""

    def __init__(self, text: str) -> None:
        """Find the tokens of a text."""
        found = [match.span() for match in _TOKEN.finditer(text)]
        self._starts = [start for start, _ in found]
        self._ends = [end for _, end in found]

    def covered(self, start: int, end: int) -> range:
        """Indexes of the tokens of which a stretch of characters covers at least one character."""
        return range(bisect.bisect_right(self._ends, start), bisect.bisect_left(self._starts, end))

    def share_token(self, one: Span, other: Span) -> bool:
        """Whether two spans have a token in common; equal spans always do."""
        if (one.start, one.end) == (other.start, other.end):
            return True
        first, second = self.covered(one.start, one.end), self.covered(other.start, other.end)
        return max(first.start, second.start) < min(first.stop, second.stop)


def largest_matching(
    gold: Sequence[Gold], predicted: Sequence[Predicted], fits: Callable[[Gold, Predicted], bool]
) -> dict[int, int]:
    """Pair as many gold items with predictions as possible, each at most once (augmenting paths).

    Args:
        gold: Gold items.
        predicted: Predicted items.
        fits: Whether a prediction may be credited for a gold item.

    Returns:
        Index of the gold item -> index of the prediction.
    """
    edges = [[k for k, item in enumerate(predicted) if fits(wanted, item)] for wanted in gold]
    holder: dict[int, int] = {}
    for index in range(len(gold)):
        _augment(index, edges, holder)
    return {owner: taken for taken, owner in holder.items()}


def _augment(root: int, edges: Sequence[Sequence[int]], holder: dict[int, int]) -> None:
    """Find a prediction for gold item `root`, moving earlier gold items to other predictions if need be."""
    came_from: dict[int, int] = {}  # prediction -> gold item that reached it
    queue = [root]
    for owner in queue:
        for candidate in edges[owner]:
            if candidate in came_from:
                continue
            came_from[candidate] = owner
            if candidate in holder:
                queue.append(holder[candidate])
                continue
            _flip(candidate, root, came_from, holder)
            return


def _flip(candidate: int, root: int, came_from: dict[int, int], holder: dict[int, int]) -> None:
    """Hand every prediction of the found path to the gold item that reached it."""
    previous = {owner: taken for taken, owner in holder.items()}
    while True:
        owner = came_from[candidate]
        given_up = previous.get(owner)
        holder[candidate] = owner
        if owner == root or given_up is None:
            return
        candidate = given_up
