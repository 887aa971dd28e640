"""How many neighbours a graph needs: exact tails, checked against counting, dice and the printed table."""

from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.errors import TermsError
from fedmedlora_crypto.secagg import graph_parameters
from fedmedlora_crypto.secagg.graph_parameters import (
    GraphTerms,
    check_graph_terms,
    completes,
    least_graph,
    least_share_threshold,
    least_window_survivors,
    most_corrupt,
)
from fedmedlora_testkit.repository import ROOT
from fedmedlora_testkit.secagg import SMALL_GRAPH

TABLE = [  # parties; corrupt and dropped in thousandths of them
    (n, corrupt, dropped)
    for n in (129, 300, 1000)
    for corrupt, dropped in ((100, 100), (200, 100), (333, 100), (200, 200))
]


def row_of(n: int, corrupt: int, dropped: int) -> str:
    """Return a row of the table in the protocol's text."""
    c, d = n * corrupt // 1000, -(-n * dropped // 1000)
    graph = least_graph(n, colluding=c, dropped=d)
    cells = (
        ("complete", "", "")
        if graph is None
        else (graph.neighbours, graph.share_threshold, graph.window_survivors)
    )
    return f"| {n} | {c} | {d} | {cells[0]} | {cells[1]} | {cells[2]} |".replace("|  |  |", "| | |")


def test_table_of_the_protocol_is_what_the_rule_gives() -> None:
    # R6.15.4
    text = (ROOT / "docs/PROTOCOL.md").read_text(encoding="utf-8")
    missing = [row for row in (row_of(*case) for case in TABLE) if row not in text]
    assert not missing


@pytest.mark.parametrize(("parties", "corrupt", "positions"), [(9, 3, 4), (10, 5, 5), (8, 2, 3)])
def test_tail_is_the_share_of_samples_that_counting_finds(parties: int, corrupt: int, positions: int) -> None:
    samples = list(combinations(range(parties), positions))
    for x in range(positions + 1):
        counted = sum(sum(member < corrupt for member in sample) == x for sample in samples)
        assert counted == graph_parameters._ways(parties, corrupt, positions, x)


@pytest.mark.parametrize(("n", "corrupt", "positions"), [(1000, 333, 60), (129, 25, 30)])
def test_most_corrupt_is_the_least_bound_that_keeps_the_promise(n: int, corrupt: int, positions: int) -> None:
    # R6.15.3: at b the promise holds, at b - 1 it is broken
    b = most_corrupt(n, corrupt, positions, places=n)
    everything = comb(n, positions)

    def beyond(bound: int) -> int:
        most = min(corrupt, positions)
        return sum(comb(corrupt, x) * comb(n - corrupt, positions - x) for x in range(bound + 1, most + 1))

    assert n * beyond(b) * 2**81 <= everything < n * beyond(b - 1) * 2**81


def test_dice_agree_with_the_tail_that_is_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    # The same rule at 2**-4 instead of 2**-81, where it can be seen to hold and not to be wasteful.
    monkeypatch.setattr(graph_parameters, "PRIVACY_BITS", 3)
    n, corrupt, window = 300, 100, 40
    b = most_corrupt(n, corrupt, window, places=n)
    dice, seen = np.random.default_rng(1), []
    for _ in range(2000):
        ring = np.zeros(n, dtype=np.int64)
        ring[dice.choice(n, corrupt, replace=False)] = 1
        counts = np.concatenate(([0], np.cumsum(np.concatenate((ring, ring[:window])))))
        seen.append(int((counts[window:-1] - counts[: -window - 1]).max()))
    worst = np.array(seen)
    assert (worst > b).mean() <= 2**-4
    assert (worst > b - 4).mean() > 2**-4


def test_dice_agree_with_the_completion_that_is_summed(monkeypatch: pytest.MonkeyPatch) -> None:
    # R6.15.4, at 2**-2 instead of 2**-20
    monkeypatch.setattr(graph_parameters, "COMPLETION_BITS", 2)
    n, dropped = 200, 20
    graph = least_graph(n, colluding=20, dropped=dropped)
    assert graph is not None
    dice, short = np.random.default_rng(2), 0
    for _ in range(1000):
        there = np.ones(n, dtype=np.int64)
        there[dice.choice(n, dropped, replace=False)] = 0
        reach = graph.reach
        counts = np.concatenate(([0], np.cumsum(np.concatenate((there, there[: 2 * reach])))))
        windows = counts[reach : reach + n] - counts[:n]
        around = counts[2 * reach + 1 : 2 * reach + 1 + n - reach] - counts[: n - reach]
        neighbours = around - there[reach : reach + len(around)]
        short += windows.min() < graph.window_survivors or neighbours.min() < graph.share_threshold
    assert short / 1000 <= 2**-2


@pytest.mark.parametrize(
    ("graph", "sentence"),
    [
        (GraphTerms(9, 7, 3), "even number of neighbours"),
        (GraphTerms(2, 2, 1), "even number of neighbours"),
        (GraphTerms(30, 18, 3), "even number of neighbours"),
        (GraphTerms(10, 7, 2), "safe window"),
        (GraphTerms(10, 7, 6), "safe window"),
        (GraphTerms(10, 6, 3), "share threshold"),
        (GraphTerms(10, 11, 3), "share threshold"),
    ],
)
def test_graph_below_what_it_needs_refused(graph: GraphTerms, sentence: str) -> None:
    # R6.15.2
    with pytest.raises(TermsError, match=sentence):
        check_graph_terms(graph, n=30, colluding=2)
    check_graph_terms(SMALL_GRAPH, n=30, colluding=2)


def test_window_shorter_than_the_corrupt_in_it_never_safe() -> None:
    assert least_window_survivors(1000, 333, 20) == 11
    with pytest.raises(TermsError, match="safe window"):
        check_graph_terms(GraphTerms(20, 16, 10), n=1000, colluding=333)


def test_graph_that_would_be_complete_not_offered() -> None:
    assert least_graph(12, colluding=4, dropped=1) is None
    assert least_graph(129, colluding=43, dropped=40) is None


@settings(max_examples=30, deadline=None)
@given(n=st.integers(20, 260), corrupt=st.integers(0, 30), dropped=st.integers(0, 10))
def test_least_graph_is_safe_completes_and_has_no_smaller_one(n: int, corrupt: int, dropped: int) -> None:
    # R6.15.4
    colluding, lost = n * corrupt // 100, n * dropped // 100
    graph = least_graph(n, colluding=colluding, dropped=lost)
    if graph is None:
        return
    check_graph_terms(graph, n=n, colluding=colluding)
    assert completes(graph, n=n, dropped=lost)
    for k in range(4, graph.neighbours, 2):
        fewer = GraphTerms(k, least_share_threshold(n, colluding, k), least_window_survivors(n, colluding, k))
        safe = fewer.window_survivors <= fewer.reach and fewer.share_threshold <= k
        assert not (safe and completes(fewer, n=n, dropped=lost))
