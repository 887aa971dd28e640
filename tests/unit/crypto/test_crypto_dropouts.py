"""Fewer than T: whatever falls silent where, nothing can be opened; with T it can (R6.6.2, R6.12.6)."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.errors import QuorumError
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE, run_round
from fedmedlora_crypto.secagg.masks import seed_commitment
from fedmedlora_crypto.secagg.messages import decode_keys, decode_opened
from fedmedlora_crypto.secagg.reference import STEPS
from fedmedlora_crypto.shamir import ShareValueError, combine_shares
from fedmedlora_testkit.secagg import SID, Ward, plain_sum, terms_of, vectors_of


@settings(max_examples=40, deadline=None)
@given(st.data())
def test_one_drop_out_more_than_the_threshold_allows_ends_every_round(data: st.DataObject) -> None:
    n = data.draw(st.integers(3, 9), label="n")
    terms = terms_of(n, suite=data.draw(st.sampled_from([MASKED_SUITE, HYBRID_SUITE])))
    lost = data.draw(st.permutations(range(1, n + 1)))[: n - terms.threshold + 1]
    dropped: dict[str, list[int]] = {step: [] for step in STEPS}
    for party in lost:
        dropped[data.draw(st.sampled_from(STEPS))].append(party)
    vectors = vectors_of(range(1, n + 1), 5)
    with pytest.raises(QuorumError):
        run_round(terms, vectors, dropped=dropped)
    spared = {step: [party for party in parties if party != lost[-1]] for step, parties in dropped.items()}
    result = run_round(terms, vectors, dropped=spared)
    assert np.array_equal(result.total, plain_sum(vectors[i] for i in result.u3))


def rebuilt(ward: Ward, holders: tuple[int, ...], dealer: int) -> bytes | None:
    """What an aggregator that ignores T makes of these holders' openings."""
    shares = {}
    for holder in holders:
        message = decode_opened(ward.opened[holder], sid=SID, party=holder)
        shares[holder] = message.shares[message.dealers.index(dealer)]
    try:
        return combine_shares(shares)
    except ShareValueError:
        return None


@pytest.mark.parametrize("n", [3, 4, 5, 7])
def test_openings_of_fewer_than_t_rebuild_no_seed_and_those_of_t_do(n: int) -> None:
    ward = Ward(n)
    ward.run_to(ward.open)
    threshold = ward.terms.threshold
    announced = {
        dealer: decode_keys(ward.keys[dealer], sid=SID, party=dealer).seed_commitment for dealer in ward.keys
    }
    for dealer, commitment in announced.items():
        for holders in combinations(ward.opened, threshold - 1):
            seed = rebuilt(ward, holders, dealer)
            assert seed is None or seed_commitment(SID, dealer, seed) != commitment
        for holders in combinations(ward.opened, threshold):
            seed = rebuilt(ward, holders, dealer)
            assert seed is not None
            assert seed_commitment(SID, dealer, seed) == commitment
