"""The graph itself: who stands where, that nobody chose it, and that a full window means connected."""

import hashlib
from collections.abc import Collection

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.errors import ContributionError, ShortInboxError, TermsError, ThinInboxError
from fedmedlora_crypto.secagg.graph import (
    MAX_ATTEMPTS,
    VOTE_LINKS,
    Commitments,
    Graph,
    chain_link,
    commitment,
    contribution,
    ring_order,
)
from fedmedlora_testkit.secagg import SID, contributions_to, round_secret, terms_of
from fedmedlora_testkit.secagg import SMALL_GRAPH as SMALL

SECRET = hashlib.sha256(b"a round").digest()


def ring_of(n: int, reach: int, survivors: int = 1) -> Graph:
    order = ring_order(SID, n, {i: bytes([i]) for i in range(1, n + 1)})
    return Graph(tuple(range(1, n + 1)), order, reach, survivors)


def connected(graph: Graph, among: Collection[int]) -> bool:
    """Whether the neighbours within a set reach each other."""
    left = set(among)
    front = {left.pop()}
    while front:
        front = {x for u in front for x in graph.holders_of(u)} & left
        left -= front
    return not left


# who is whose neighbour


def test_complete_graph_makes_everybody_a_holder_and_has_no_windows() -> None:
    graph = Graph((1, 2, 5))
    assert graph.holders_of(2) == (1, 2, 5)
    graph.check_windows((1,), ThinInboxError)


def test_neighbours_are_the_positions_on_both_sides() -> None:
    # R6.15.1
    graph = ring_of(12, reach=2)
    at = graph.ring.index(7)
    expected = {graph.ring[(at + d) % 12] for d in (-2, -1, 0, 1, 2)}
    assert graph.holders_of(7) == tuple(sorted(expected))


def test_neighbours_are_mutual_also_when_members_are_missing() -> None:
    # R6.15.1: places are of all members of the charter, so that who is missing leaves a gap
    whole = ring_of(20, reach=3)
    graph = Graph(tuple(i for i in range(1, 21) if i not in (3, 9)), whole.ring, 3, 1)
    for u in graph.members:
        assert set(graph.holders_of(u)) == set(whole.holders_of(u)) - {3, 9}
        assert all(u in graph.holders_of(v) for v in graph.holders_of(u))


# windows


def test_thinnest_window_is_found_around_the_end_of_the_ring() -> None:
    graph = ring_of(12, reach=3)
    absent = {graph.ring[11], graph.ring[0]}
    assert graph.fewest_in_a_window(set(graph.members) - absent) == 1
    assert graph.fewest_in_a_window(graph.members) == 3


def test_window_with_too_few_refused_as_the_list_it_is_of() -> None:
    # R6.15.5
    graph = ring_of(12, reach=3, survivors=2)
    there = set(graph.members) - {graph.ring[4], graph.ring[5]}
    with pytest.raises(ThinInboxError, match="a window of the graph holds 1 parties, it needs 2") as caught:
        graph.check_windows(there, ThinInboxError)
    assert isinstance(caught.value, ShortInboxError)
    assert caught.value.reason == "short_inbox"


@settings(max_examples=200, deadline=None)
@given(data=st.data(), n=st.integers(14, 40))
def test_full_windows_leave_the_honest_survivors_connected(data: st.DataObject, n: int) -> None:
    # R6.15.5: whoever drops out, and whoever of the rest is corrupt, as long as no window holds s of them
    graph = ring_of(n, reach=5, survivors=3)
    dropped = data.draw(st.sets(st.sampled_from(graph.members), max_size=n // 2))
    corrupt = data.draw(st.sets(st.sampled_from(graph.members), max_size=2))
    survivors = set(graph.members) - dropped
    if graph.fewest_in_a_window(survivors) >= graph.window_survivors:
        assert connected(graph, survivors - corrupt)


def test_without_the_window_rule_dropping_two_windows_cuts_the_graph() -> None:
    # R6.15.5, with the rule not asked: the partner of the test above
    graph = ring_of(30, reach=5, survivors=3)
    survivors = {graph.ring[at] for at in range(30) if at not in range(5) and at not in range(12, 17)}
    assert graph.fewest_in_a_window(survivors) == 0
    assert not connected(graph, survivors)


# sessions that were erased


def fewest_left(graph: Graph, survivors: Collection[int], alive: Collection[int], corrupt: set[int]) -> int:
    """Return the least number of holders, over the honest survivors, that could still open a share."""
    there = set(alive) | corrupt
    return min(len(there.intersection(graph.holders_of(u))) for u in set(survivors) - corrupt)


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_once_t_survivors_erased_some_seed_of_the_session_is_lost(data: st.DataObject) -> None:
    # R6.15.9: whoever of the survivors erased, and whoever of them is corrupt and only says so
    graph = ring_of(30, reach=5, survivors=3)
    survivors = data.draw(st.sets(st.sampled_from(graph.members), min_size=17))
    corrupt = data.draw(st.sets(st.sampled_from(graph.members), max_size=2))
    erased = data.draw(st.permutations(sorted(survivors)))[:17]
    alive = survivors - set(erased)
    assert fewest_left(graph, survivors, alive, corrupt) < SMALL.share_threshold


def test_with_a_share_threshold_below_half_an_erased_session_could_be_opened() -> None:
    # R6.15.3 taken out, the partner of the test above: every other survivor is left, and two are corrupt
    graph = ring_of(30, reach=5, survivors=3)
    corrupt = {graph.ring[0], graph.ring[28]}
    alive = {graph.ring[at] for at in range(2, 28, 2)}
    assert len(alive) == 30 - 17
    left = fewest_left(graph, graph.members, alive, corrupt)
    assert 5 <= left < SMALL.share_threshold


# contributions


def test_each_attempt_reveals_the_next_preimage_of_one_commitment() -> None:
    # R6.15.6
    heads = {4: commitment(SECRET, 4)}
    values = [contribution(SECRET, 4, attempt=attempt) for attempt in (1, 2, 3, MAX_ATTEMPTS)]
    assert len(set(values)) == 4
    assert values[-1] == SECRET
    for attempt, value in zip((1, 2, 3, MAX_ATTEMPTS), values, strict=True):
        Commitments(attempt, heads).check(4, value)


def test_contribution_of_another_attempt_or_party_or_to_no_commitment_refused() -> None:
    # R6.15.6
    heads = {4: commitment(SECRET, 4), 5: commitment(SECRET, 4)}
    value = contribution(SECRET, 4, attempt=2)
    for attempt, party in ((1, 4), (3, 4), (2, 5), (2, 6)):
        with pytest.raises(ContributionError) as caught:
            Commitments(attempt, heads).check(party, value)
        assert caught.value.party == party
        assert caught.value.left_out == "wrong_contribution"


def test_sums_and_votes_reveal_no_link_of_each_other() -> None:
    # R6.15.6
    most = {"update": VOTE_LINKS, "score": VOTE_LINKS // 2, "statistics": VOTE_LINKS // 2}
    links = [chain_link(purpose, a) for purpose, last in most.items() for a in range(1, last + 1)]
    assert links == list(range(1, MAX_ATTEMPTS + 1)), "each has its own, later sums of a round later ones"
    for purpose, last in most.items():
        for attempt in (0, last + 1):
            with pytest.raises(TermsError):
                chain_link(purpose, attempt)


@pytest.mark.parametrize("attempt", [0, MAX_ATTEMPTS + 1])
def test_attempt_beyond_the_chain_refused(attempt: int) -> None:
    with pytest.raises(TermsError):
        Commitments(attempt, {})
    with pytest.raises(TermsError):
        contribution(SECRET, 4, attempt=attempt)
    with pytest.raises(TermsError):
        contribution(SECRET[:-1], 4, attempt=1)


def test_every_contribution_and_the_session_move_everybody() -> None:
    # R6.15.7: one honest contribution is enough for an order that nobody knew
    given_ = {i: round_secret(i) for i in range(1, 9)}
    order = ring_order(SID, 40, given_)
    assert sorted(order) == list(range(1, 41))
    others = [ring_order(SID, 40, given_ | {i: bytes(32)}) for i in given_]
    others += [ring_order(bytes(32), 40, given_), ring_order(SID, 40, {i: given_[i] for i in range(1, 8)})]
    assert len({order, *others}) == len(others) + 1


def test_order_is_spread_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    # The first place is each party's equally often: 4 standard deviations over 400 orders.
    monkeypatch.setattr("fedmedlora_crypto.secagg.graph.SEED_ITERATIONS", 1)
    firsts = [ring_order(SID, 8, {1: i.to_bytes(32, "big")})[0] for i in range(400)]
    counts = [firsts.count(i) for i in range(1, 9)]
    assert all(abs(count - 50) < 4 * (400 * (1 / 8) * (7 / 8)) ** 0.5 for count in counts)


def test_commitments_are_silent() -> None:
    terms = terms_of(30, colluding=2, graph=SMALL)
    shown = repr(terms)
    assert not any(value.hex() in shown or repr(value) in shown for value in contributions_to(terms).values())
    assert "heads" not in shown
