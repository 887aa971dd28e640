"""Validation counts in a ring: exact sums, room for every member, no type of too few sites."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_core.errors import CodecError
from fedmedlora_core.scores import Counts, MatchScore
from fedmedlora_core.validation_counts import COUNT_MAX, CountLayout, ValidationCounts
from fedmedlora_testkit.studies import make_study

LAYOUT = CountLayout(("problem", "drug"), ("strength",), n=3)

some_counts = st.builds(Counts, *[st.integers(0, COUNT_MAX)] * 3)
some_site = st.tuples(some_counts, some_counts, some_counts)


def site(problem: Counts, drug: Counts, strength: Counts) -> ValidationCounts:
    return ValidationCounts(
        MatchScore({"problem": problem, "drug": drug}), MatchScore({"strength": strength})
    )


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(some_site, min_size=1, max_size=3))
def test_sum_of_rings_is_the_sum_of_counts(sites: list[tuple[Counts, Counts, Counts]]) -> None:
    total = np.zeros(LAYOUT.length, dtype=np.uint32)
    for counts in sites:
        total += LAYOUT.encode(site(*counts))
    opened = LAYOUT.decode(total, voters=len(sites))
    expected = [sum((counts[place] for counts in sites), Counts()) for place in range(3)]
    assert opened == site(*expected)


def test_no_allowed_study_can_wrap() -> None:
    """n * COUNT_MAX stays under 2**32 for every n that a layout takes, and a study's limit is among them."""
    assert 10_000 * COUNT_MAX < 1 << 32
    CountLayout(("problem",), (), n=10_000)
    with pytest.raises(CodecError, match="could exceed the ring"):
        CountLayout(("problem",), (), n=(1 << 32) // COUNT_MAX + 1)


def test_count_out_of_range_is_refused_not_cut() -> None:
    for wrong in (COUNT_MAX + 1, -1):
        with pytest.raises(CodecError, match="validation count lies outside"):
            LAYOUT.encode(site(Counts(), Counts(fp=wrong), Counts()))


def test_sum_that_no_sites_can_give_is_refused() -> None:
    total = np.zeros(LAYOUT.length, dtype=np.uint32)
    total[4] = 2 * COUNT_MAX
    assert LAYOUT.decode(total, voters=2).entities.per_type["drug"].fp == 2 * COUNT_MAX
    with pytest.raises(CodecError, match="outside what the sites can give"):
        LAYOUT.decode(total, voters=1)
    total[4] = 0xFFFFFFFF  # a site took one away
    with pytest.raises(CodecError, match="outside what the sites can give"):
        LAYOUT.decode(total, voters=3)
    with pytest.raises(CodecError, match="another length"):
        LAYOUT.decode(total[:-1], voters=3)
    with pytest.raises(CodecError, match=r"over 1\.\.3 sites"):
        LAYOUT.decode(total, voters=4)


def test_types_without_a_place_are_left_out() -> None:
    counts = ValidationCounts(MatchScore({"problem": Counts(1, 2, 3), "test": Counts(9, 9, 9)}), MatchScore())
    assert LAYOUT.encode(counts).tolist() == [1, 2, 3, 0, 0, 0, 0, 0, 0]


def test_type_of_fewer_sites_than_the_threshold_has_no_place() -> None:
    """Its sum would be over so few sites that they could tell each other's counts."""
    study = make_study()
    every = (*study.labels.entities, *study.labels.modifiers)
    few = {"drug", "dosage"}
    assert study.threshold == 3
    members = tuple(
        member.model_copy(update={"annotated": tuple(t for t in every if place < 2 or t not in few)})
        for place, member in enumerate(study.members)
    )
    layout = CountLayout.of(study.model_copy(update={"members": members}))
    assert set(study.labels.entities) - set(layout.entities) == few & set(study.labels.entities)
    assert set(study.labels.modifiers) - set(layout.relations) == few & set(study.labels.modifiers)


def test_model_choice_goes_by_the_mean_of_the_tasks() -> None:
    counts = site(Counts(8, 2, 2), Counts(), Counts(2, 3, 3))
    assert counts.f1 == pytest.approx((0.8 + 0.4) / 2)
    assert ValidationCounts(counts.entities, MatchScore()).f1 == pytest.approx(0.8)
    assert ValidationCounts(MatchScore(), MatchScore()).f1 == 0.0
