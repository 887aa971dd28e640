"""One vote per voter, held in a sum that nobody can look into."""

from __future__ import annotations

import math
from contextlib import suppress

import numpy as np
import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_audit.charter import CharterTerms
from fedmedlora_audit.errors import CharterError
from fedmedlora_core.errors import ConfigError, VoteError
from fedmedlora_core.vote import SLOTS, count_votes, encode_vote, is_worse, slots_of, vote_length
from fedmedlora_testkit.audit_log import charter_table
from fedmedlora_testkit.studies import make_study


def summed(votes: list[bool], slots: list[int], n: int = 8) -> np.ndarray:
    total = np.zeros(vote_length(n), dtype=np.uint32)
    for worse, slot in zip(votes, slots, strict=True):
        total += encode_vote(worse, slot=slot, n=n)
    return total


@given(st.lists(st.tuples(st.booleans(), st.integers(0, SLOTS - 1)), min_size=1, max_size=8))
def test_honest_votes_are_counted_also_in_one_slot(votes: list[tuple[bool, int]]) -> None:
    total = summed([worse for worse, _ in votes], [slot for _, slot in votes])
    assert count_votes(total, voters=len(votes), n=8) == sum(worse for worse, _ in votes)


@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=6), st.integers(0, 2 * SLOTS - 7))
def test_any_sum_is_counted_within_the_voters_or_refused(words: list[int], start: int) -> None:
    total = summed([True, False, True], [1, 2, 3])
    total[start : start + len(words)] = np.array(words, dtype=np.uint64).astype(np.uint32)
    with suppress(VoteError):
        assert 0 <= count_votes(total, voters=3, n=8) <= 3


def test_a_vote_is_taken_away_only_by_hitting_a_hidden_slot() -> None:
    """R4.7.4: of all slots, exactly the other voters' own let a liar take one vote against away unseen."""
    total = summed([True, True, True, False], [1, 2, 3, 0], n=4)
    total[slots_of(4)] += np.uint32(1)  # the liar's second vote for the new adapter
    unseen = []
    for guess in range(slots_of(4)):
        forged = total.copy()
        forged[guess : guess + 1] -= np.uint32(1)
        try:
            assert count_votes(forged, voters=4, n=4) == 2
        except VoteError:
            continue
        unseen.append(guess)
    assert unseen == [1, 2, 3]


def test_the_slots_grow_with_the_members() -> None:
    assert slots_of(3) == slots_of(128) == SLOTS
    assert slots_of(129) == 2 * SLOTS
    assert all(slots_of(n) >= 128 * n for n in (200, 999, 1000, 10_000))


@pytest.mark.parametrize("slot", [-1, SLOTS])
def test_a_slot_out_of_range_is_refused(slot: int) -> None:
    with pytest.raises(VoteError, match="slot"):
        encode_vote(True, slot=slot, n=4)


def test_a_sum_of_another_length_is_refused() -> None:
    with pytest.raises(VoteError, match="length"):
        count_votes(np.zeros(4, dtype=np.uint32), voters=1, n=4)


@pytest.mark.parametrize(
    ("after", "worse"), [(0.9, False), (1.02, False), (1.021, True), (math.inf, True), (math.nan, True)]
)
def test_worse_is_by_more_than_the_margin_or_not_finite(after: float, worse: bool) -> None:
    assert is_worse(before=1.0, after=after, margin_milli=20) is worse


def test_a_study_whose_sessions_carry_no_masks_has_no_vote() -> None:
    """R4.7.9: under mode "ckks" the coordinator would read every vote."""
    vote = {"every_rounds": 1, "margin_milli": 20}
    ckks = {"custody": "shared", "context": "1" * 64}
    study = make_study(overrides={"secure_aggregation__vote": vote})
    assert study.secure_aggregation.vote is not None
    table = {**charter_table()["secure_aggregation"], "vote": vote}
    assert CharterTerms.from_json(rfc8785.dumps(charter_table(secure_aggregation=table))).vote_every == 1
    with pytest.raises(ConfigError, match="masked vote"):
        make_study(
            overrides={
                "secure_aggregation__mode": "ckks",
                "secure_aggregation__ckks": ckks,
                "secure_aggregation__vote": vote,
            }
        )
    table = {**table, "mode": "ckks", "ckks": ckks}
    with pytest.raises(CharterError, match="no vote"):
        CharterTerms.from_json(rfc8785.dumps(charter_table(secure_aggregation=table)))
