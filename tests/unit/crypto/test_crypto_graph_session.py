"""Whole sessions on a sparse graph: any drop-out, every refusal, and attacks with and without their check."""

from collections.abc import Collection

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.errors import (
    ContributionError,
    DuplicateIndexError,
    FewHoldersError,
    KeyRefusedError,
    NotIncludedError,
    NotInRosterError,
    QuorumError,
    ShortOpeningsError,
    TermsError,
    ThinInboxError,
    ThinRosterError,
    ThinSurvivorsError,
    ViewError,
    WrongOpeningError,
)
from fedmedlora_crypto.keys import AgreementKey
from fedmedlora_crypto.secagg import HYBRID_SUITE, Aggregator, Party, SessionTerms, masks, run_round, session
from fedmedlora_crypto.secagg.graph import Commitments, Graph, ring_order
from fedmedlora_crypto.secagg.graph_parameters import GraphTerms
from fedmedlora_crypto.secagg.messages import SELF_SEED, SharesMessage, decode_opened, decode_shares
from fedmedlora_crypto.secagg.party import Step
from fedmedlora_crypto.secagg.reference import STEPS, repeatable_source
from fedmedlora_crypto.shamir import combine_shares
from fedmedlora_crypto.xof import Vector, add_keystreams
from fedmedlora_testkit.secagg import (
    SID,
    Ward,
    contributions_to,
    plain_sum,
    round_secret,
    terms_of,
    vectors_of,
)
from fedmedlora_testkit.secagg import SMALL_GRAPH as SMALL

N = 30  # T = 17 with two colluding


def ward_at(step: str, n: int = N) -> Ward:
    ward = Ward(n, colluding=2, graph=SMALL)
    return ward.run_to(getattr(ward, step))


def graph_of(ward: Ward) -> Graph:
    return ward.aggregator.graph(ward.keys)


def without(graph: Graph, *positions: range) -> tuple[int, ...]:
    """Members of the graph without those at some positions of the ring."""
    gone = {graph.ring[at % len(graph.ring)] for part in positions for at in part}
    return tuple(i for i in graph.members if i not in gone)


# whole sessions


@pytest.mark.parametrize("suite", ["x25519-aes256ctr/2", HYBRID_SUITE, "plain/1"])
def test_sum_is_exact_when_parties_fall_silent_at_every_step(suite: str) -> None:
    # R6.15.1, R6.15.8
    terms = terms_of(N, colluding=2, suite=suite, graph=SMALL)
    vectors = vectors_of(range(1, N + 1), 100)
    gone = {step: (4 + 7 * at,) for at, step in enumerate(STEPS[1:])}
    result = run_round(terms, vectors, dropped=gone, contributions=contributions_to(terms))
    assert set(result.u3) == set(vectors) - {4, 11}
    assert np.array_equal(result.total, plain_sum(vectors[i] for i in result.u3))


@settings(max_examples=25, deadline=None)
@given(data=st.data(), n=st.integers(14, 34), attempt=st.integers(1, 4))
def test_sum_is_exact_or_the_round_stops_below_what_the_graph_needs(
    data: st.DataObject, n: int, attempt: int
) -> None:
    # R6.15.5, R6.15.8: whoever drops out when, there is no third outcome
    terms = terms_of(n, colluding=2, graph=SMALL, attempt=attempt)
    vectors = vectors_of(range(1, n + 1), 40)
    lost = data.draw(st.lists(st.integers(1, n), max_size=n // 3, unique=True))
    gone: dict[str, list[int]] = {}
    for party in lost:
        gone.setdefault(data.draw(st.sampled_from(STEPS)), []).append(party)
    try:
        result = run_round(terms, vectors, dropped=gone, contributions=contributions_to(terms))
    except QuorumError:
        return
    assert np.array_equal(result.total, plain_sum(vectors[i] for i in result.u3))


def test_same_inputs_give_the_same_bytes_and_another_attempt_another_graph() -> None:
    def keys_and_graph(attempt: int) -> tuple[dict[int, bytes], Graph]:
        terms = terms_of(N, colluding=2, graph=SMALL, attempt=attempt)
        given_ = contributions_to(terms)
        parties = {
            i: Party(terms, i, contribution=given_[i], randomness=repeatable_source(bytes([i])))
            for i in range(1, N + 1)
        }
        keys = {i: party.advertise() for i, party in parties.items()}
        return keys, Aggregator(terms).graph(keys)

    first, again, second = keys_and_graph(1), keys_and_graph(1), keys_and_graph(2)
    assert first == again
    assert second[1].ring != first[1].ring


def test_payloads_grow_with_the_neighbours_and_not_with_the_parties() -> None:
    few, many = ward_at("open", 20), ward_at("open", 34)
    assert {len(p) for p in few.shares.values()} == {len(p) for p in many.shares.values()}
    assert {len(p) for p in few.opened.values()} == {len(p) for p in many.opened.values()}


# what a party refuses


def test_terms_with_a_weak_graph_or_half_of_one_refused() -> None:
    # R6.15.2
    good = terms_of(N, colluding=2, graph=SMALL)
    with pytest.raises(TermsError, match="share threshold"):
        terms_of(N, colluding=2, graph=GraphTerms(10, 6, 3))
    for graph, commitments in ((SMALL, None), (None, good.commitments)):
        with pytest.raises(TermsError, match="commitments"):
            SessionTerms(SID, N, good.threshold, 2, good.suite, graph, commitments)


def test_own_contribution_that_was_not_committed_to_refused() -> None:
    terms = terms_of(N, colluding=2, graph=SMALL)
    with pytest.raises(ContributionError):
        Party(terms, 1, contribution=bytes(32))
    assert terms.share_threshold == 7


@pytest.mark.parametrize("bent", ["other", "missing", "copied", "uncommitted"])
def test_party_whose_contribution_does_not_open_left_out_and_refused(bent: str) -> None:
    # R6.15.6: the coordinator leaves it out by the rule that every party repeats
    ward = ward_at("advertise")
    payload = ward.keys[5]
    if bent == "uncommitted":
        heads = {i: head for i, head in ward.terms.commitments.heads.items() if i != 5}  # type: ignore[union-attr]
        object.__setattr__(ward.terms, "commitments", Commitments(1, heads))
    else:
        tail = {"other": bytes(32), "missing": b"", "copied": ward.keys[6][-32:]}[bent]
        ward.keys[5] = payload[:-32] + tail
    u1, left_out = ward.aggregator.admit(ward.keys)
    assert left_out == {5: "malformed_key" if bent == "missing" else "wrong_contribution"}
    assert 5 not in u1
    with pytest.raises(KeyRefusedError) as caught:
        ward.parties[1].share(ward.keys, ward.view)
    assert (caught.value.party, caught.value.reason) == (5, "wrong_key")


def test_roster_with_a_thin_window_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # R6.15.5
    monkeypatch.setattr("fedmedlora_crypto.secagg.graph.SEED_ITERATIONS", 1)
    ward = ward_at("advertise")
    graph = graph_of(ward)
    # leaving parties out moves everybody, so the thin window is looked for in the graph that is left
    for lost in range(1, 1000):
        gone = np.random.default_rng(lost).choice(N, 12, replace=False) + 1
        keys = {i: ward.keys[i] for i in graph.members if i not in gone}
        left = ward.aggregator.graph(keys)
        if left.fewest_in_a_window(left.members) < 3:
            break
    with pytest.raises(ThinRosterError) as caught:
        ward.parties[min(keys)].share(keys, ward.view)
    assert caught.value.reason == "short_roster"
    assert ward.parties[min(keys)].step == Step.ADVERTISED


def test_party_with_fewer_holders_than_shares_needed_refuses_to_deal(monkeypatch: pytest.MonkeyPatch) -> None:
    # R6.15.5: windows of three on both sides and the party itself are seven
    monkeypatch.setattr("fedmedlora_crypto.secagg.graph.SEED_ITERATIONS", 1)
    ward = Ward(N, colluding=2, graph=GraphTerms(10, 9, 3))
    ward.advertise()
    for lost in range(1, 1000):
        gone = np.random.default_rng(lost).choice(N, 6, replace=False) + 1
        keys = {i: payload for i, payload in ward.keys.items() if i not in gone}
        left = ward.aggregator.graph(keys)
        lonely = [i for i in left.members if len(left.holders_of(i)) == 8]
        if lonely and left.fewest_in_a_window(left.members) >= 3:
            break
    with pytest.raises(FewHoldersError, match="8 parties, the threshold is 9"):
        ward.parties[lonely[0]].share(keys, ward.view)


def test_inbox_with_a_thin_window_refused_and_a_fuller_one_taken() -> None:
    # R6.15.5
    ward = ward_at("share")
    thin = without(graph_of(ward), range(3))
    assert len(thin) >= ward.terms.threshold
    for i in thin[:3]:
        with pytest.raises(ThinInboxError) as caught:
            ward.fix(i, thin)
        assert caught.value.reason == "short_inbox"
        ward.fix(i)


def test_survivors_with_a_thin_window_refused_and_fuller_ones_taken() -> None:
    # R6.15.5
    ward = ward_at("upload")
    thin = without(graph_of(ward), range(4, 7))
    with pytest.raises(ThinSurvivorsError) as caught:
        ward.parties[thin[0]].agree(thin)
    assert caught.value.reason == "short_survivors"
    ward.parties[thin[0]].agree(range(1, N + 1))


def test_inbox_list_with_a_stranger_or_a_repetition_or_other_payloads_refused() -> None:
    ward = Ward(N, colluding=2, graph=SMALL)
    ward.advertise()
    keys = {i: payload for i, payload in ward.keys.items() if i != 9}
    party = ward.parties[1]
    ward.shares = {i: ward.parties[i].share(keys, ward.view) for i in keys}
    near = {x: ward.shares[x] for x in party.neighbours_in(keys)}
    with pytest.raises(NotInRosterError) as caught:
        party.fix(near, (*keys, 9))
    assert caught.value.party == 9
    with pytest.raises(DuplicateIndexError):
        party.fix(near, (*keys, 2))
    far = next(i for i in keys if i not in near)
    for payloads in (near | {far: ward.shares[far]}, {x: near[x] for x in list(near)[:-1]}):
        with pytest.raises(NotIncludedError):
            party.fix(payloads, keys)
    party.fix(near, keys)


def test_shares_dealt_to_other_than_the_neighbours_refused() -> None:
    # R6.15.1: a dealer that picks its holders could pick colluders
    ward = ward_at("share")
    graph = graph_of(ward)
    dealer, victim = 1, next(i for i in graph.holders_of(1) if i != 1)
    good = decode_shares(ward.shares[dealer], sid=SID, party=dealer)
    stranger = next(i for i in graph.members if i not in good.holders)
    holders = tuple(sorted({*good.holders, stranger} - {max(set(good.holders) - {1, victim})}))
    bent = SharesMessage(1, good.view, holders, good.commitments, good.boxes).encode(SID)
    with pytest.raises(ViewError):
        ward.aggregator.check_shares(dealer, bent, holders=graph.holders_of(dealer))
    ward.shares[dealer] = bent
    with pytest.raises(ViewError) as caught:
        ward.fix(victim)
    assert caught.value.party == dealer


# what the aggregator refuses


def test_dealer_whose_neighbours_are_silent_stops_the_sum_untouched() -> None:
    # R6.15.8: 26 of 30 openings are far more than T, yet 6 of 11 are too few for one dealer
    ward = ward_at("open", N)
    graph = graph_of(ward)
    silent = [i for i in graph.holders_of(1) if i != 1][:5]
    opened = {i: payload for i, payload in ward.opened.items() if i not in silent}
    assert len(opened) > ward.terms.threshold
    total = ward.total()
    before = total.copy()
    with pytest.raises(ShortOpeningsError, match="6 parties, the threshold is 7"):
        ward.aggregator.unmask(total, ward.keys, ward.shares, ward.survivors, opened)
    assert np.array_equal(total, before)


def test_opening_of_a_stranger_s_shares_named() -> None:
    ward = ward_at("open")
    graph = graph_of(ward)
    other = next(i for i in graph.members if i not in graph.holders_of(2))
    good = decode_opened(ward.opened[other], sid=SID, party=other)
    bent = type(good)(2, good.view, good.dealers, good.kinds, good.shares).encode(SID)
    ward.opened[2] = bent
    result = ward.unmask(total := ward.total())
    assert isinstance(result.refused[2], WrongOpeningError)
    assert np.array_equal(total, plain_sum(vectors_of(range(1, N + 1)).values()))


@pytest.mark.parametrize(("thin", "error"), [("shares", ThinInboxError), ("survivors", ThinSurvivorsError)])
def test_aggregator_repeats_the_window_rule(thin: str, error: type[QuorumError]) -> None:
    # R6.15.5
    ward = ward_at("open")
    left = without(graph_of(ward), range(3))
    shares = {i: p for i, p in ward.shares.items() if thin != "shares" or i in left}
    with pytest.raises(error):
        ward.aggregator.unmask(ward.total(), ward.keys, shares, left, ward.opened)


# the attack behind G44


class Isolation:
    """A coordinator with two colluders that drops everybody around a victim who stands between them.

    On the ring: two dropped | colluder victim colluder | two dropped, with two neighbours on each side. All
    others are left alone, so far more than T take part.
    """

    def __init__(self, share_threshold: int) -> None:
        graph = GraphTerms(neighbours=4, share_threshold=share_threshold, window_survivors=2)
        self.ward = Ward(20, colluding=2, graph=graph)
        self.ward.run_to(self.ward.share)
        self.graph = graph_of(self.ward)
        self.left, self.victim, self.right = self.graph.ring[4:7]
        self.survivors = without(self.graph, range(2, 4), range(7, 9))

    def run(self) -> None:
        """Lead every honest party through the session with this inbox and these survivors."""
        ward = self.ward
        for i in self.survivors:
            ward.fix(i, self.survivors)
            ward.masked[i] = vectors_of((i,))[i].copy()
            ward.parties[i].mask(ward.masked[i])
            ward.parties[i].agree(self.survivors)
        ward.open()

    def read_victim(self) -> Vector:
        """Take off the victim's vector what two colluders and the opened shares give away."""
        ward, binding = self.ward, self.ward.terms.binding(self.ward.view)
        shares = {}
        for i in (self.left, self.victim, self.right):
            message = decode_opened(ward.opened[i], sid=SID, party=i)
            at = message.dealers.index(self.victim)
            assert message.kinds[at] == SELF_SEED
            shares[i] = message.shares[at]
        streams = [(masks.self_mask(binding, self.victim, combine_shares(shares)), -1)]
        for i in (self.left, self.right):
            key = masks.mask_agreement_key(ward.terms.layout, mask_seed_of(i), sid=SID)
            stream, sign = masks.pair_mask(binding, (i, key), (self.victim, ward.keys[self.victim][68:100]))
            streams.append((stream, sign))
        vector = ward.masked[self.victim].copy()
        add_keystreams(vector, streams)
        return vector


def mask_seed_of(colluder: int) -> bytes:
    """The mask seed of a colluder, who draws it first and tells the coordinator."""
    return repeatable_source(SID + bytes([colluder]))(32)


@pytest.fixture
def weak_terms(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take out the rule that refuses such a graph (R6.15.2), so that the others can be looked at alone."""
    monkeypatch.setattr(session, "check_graph_terms", lambda *_, **__: None)


@pytest.fixture
def no_window_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Graph, "check_windows", lambda *_: None)


@pytest.mark.usefixtures("weak_terms")
def test_dropping_all_around_a_victim_refused_by_every_honest_party() -> None:
    # R6.15.5
    attack = Isolation(share_threshold=3)
    assert len(attack.survivors) == 16 > attack.ward.terms.threshold
    for i in attack.survivors:
        with pytest.raises(ThinInboxError):
            attack.ward.fix(i, attack.survivors)
        attack.ward.fix(i)
        attack.ward.parties[i].mask(np.zeros(4, dtype=np.uint32))
        with pytest.raises(ThinSurvivorsError):
            attack.ward.parties[i].agree(attack.survivors)


@pytest.mark.usefixtures("weak_terms", "no_window_rule")
def test_without_the_window_rule_dropping_all_around_a_victim_reads_it_exactly() -> None:
    attack = Isolation(share_threshold=3)
    attack.run()
    assert np.array_equal(attack.read_victim(), vectors_of((attack.victim,))[attack.victim])


@pytest.mark.usefixtures("weak_terms", "no_window_rule")
def test_share_threshold_above_half_the_neighbours_stops_the_same_attack() -> None:
    # R6.15.3, the second line: k/2 + 1 holders are left beside a dropped window, and t is larger
    attack = Isolation(share_threshold=4)
    attack.run()
    with pytest.raises(ShortOpeningsError):
        attack.ward.unmask(attack.ward.total())


# the attack that contributions stop


def contributions_chosen_last(honest: dict[int, bytes], colluder: int, wanted: Collection[int]) -> bytes:
    """What a colluder that speaks last says so that two parties become neighbours of each other."""
    for trial in range(10_000):
        chosen = trial.to_bytes(32, "big")
        order = ring_order(SID, N, honest | {colluder: chosen})
        first, second = (order.index(i) for i in wanted)
        if (first - second) % N in (1, N - 1):
            return chosen
    raise AssertionError("no graph of the colluder's choice was found")


def test_without_commitments_who_speaks_last_picks_the_neighbours(monkeypatch: pytest.MonkeyPatch) -> None:
    # R6.15.6 with its check disabled: the graph is the colluder's choice
    monkeypatch.setattr("fedmedlora_crypto.secagg.graph.SEED_ITERATIONS", 1)
    ward = ward_at("advertise")
    honest = {i: payload[-32:] for i, payload in ward.keys.items() if i != N}
    chosen = contributions_chosen_last(honest, N, (3, N))
    bent = ward.keys | {N: ward.keys[N][:-32] + chosen}
    with pytest.raises(ContributionError):
        ward.parties[1].share(bent, ward.view)
    monkeypatch.setattr(Commitments, "check", lambda *_: None)
    ward.parties[1].share(bent, ward.view)
    at = (ring := ward.aggregator.graph(bent).ring).index(N)
    assert 3 in (ring[(at + 1) % N], ring[at - 1])


def test_no_secret_of_the_graph_shows() -> None:
    # R6.13.2
    ward = ward_at("share")
    shown = " ".join(
        repr(x) for x in (ward.parties[1], ward.terms, ward.aggregator, vars(ward.parties[1])["_own"])
    )
    assert round_secret(1).hex() not in shown
    assert repr(round_secret(1)) not in shown
    assert isinstance(vars(ward.parties[1])["_own"].mask_key, AgreementKey)
