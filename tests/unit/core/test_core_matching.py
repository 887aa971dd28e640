"""One-to-one matching is maximal, and tokens are shared where characters of a token are."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_core.records import Span
from fedmedlora_core.scores.matching import Tokens, largest_matching


def _most(edges: Sequence[frozenset[int]], used: frozenset[int] = frozenset()) -> int:
    """Size of the largest matching, by trying everything."""
    if not edges:
        return 0
    skipped = _most(edges[1:], used)
    return max([skipped, *(1 + _most(edges[1:], used | {k}) for k in edges[0] - used)])


@given(st.lists(st.frozensets(st.integers(0, 4)), max_size=5))
def test_matching_is_one_to_one_and_as_large_as_trying_everything(edges: list[frozenset[int]]) -> None:
    pairs = largest_matching(range(len(edges)), range(5), lambda gold, predicted: predicted in edges[gold])
    assert len(set(pairs.values())) == len(pairs) == _most(edges)
    assert all(predicted in edges[gold] for gold, predicted in pairs.items())


def test_greedy_would_lose_where_an_earlier_pair_must_move() -> None:
    edges = [{0, 1}, {0}]
    assert largest_matching([0, 1], [0, 1], lambda g, p: p in edges[g]) == {0: 1, 1: 0}


@pytest.mark.parametrize(
    ("one", "other", "expected"),
    [
        ((0, 5), (0, 5), True),
        ((0, 5), (3, 9), True),
        ((0, 5), (5, 9), False),
        ((0, 2), (3, 5), True),  # both lie in the token "chest"
        ((5, 6), (5, 6), True),  # equal spans, though there is only a blank
        ((5, 6), (0, 10), False),
        ((6, 10), (10, 11), False),  # punctuation is a token of its own
    ],
)
def test_spans_share_a_token(one: tuple[int, int], other: tuple[int, int], expected: bool) -> None:
    tokens = Tokens("chest pain, mild")
    assert tokens.share_token(Span(*one, "problem"), Span(*other, "problem")) is expected
    assert tokens.share_token(Span(*other, "problem"), Span(*one, "problem")) is expected
