"""The paired bootstrap: sign, spread, seeds, and no certainty where there is none."""

from __future__ import annotations

import random

import pytest

from fedmedlora_core.scores import Counts, paired_bootstrap, paired_bootstrap_over_groups

GOOD = [Counts(8, 2, 2)] * 30
BAD = [Counts(4, 6, 6)] * 30


def test_equal_patients_give_an_interval_without_width() -> None:
    interval = paired_bootstrap(GOOD, BAD, seed=1, resamples=200)
    assert interval.difference == pytest.approx(0.4)
    assert interval.low == pytest.approx(0.4) and interval.high == pytest.approx(0.4)
    assert interval.share_not_better == 0.0


def test_system_against_itself_differs_by_nothing() -> None:
    interval = paired_bootstrap(GOOD, GOOD, seed=1, resamples=50)
    assert (interval.difference, interval.low, interval.high, interval.share_not_better) == (
        0.0,
        0.0,
        0.0,
        1.0,
    )


def test_noise_gives_an_interval_around_zero_that_depends_on_the_seed_alone() -> None:
    stream = random.Random(4)  # noqa: S311 - test data
    one, other = ([Counts(stream.randint(0, 9), 3, 3) for _ in range(40)] for _ in range(2))
    interval = paired_bootstrap(one, other, seed=2, resamples=500)
    assert interval.low < 0 < interval.high
    assert interval == paired_bootstrap(one, other, seed=2, resamples=500)
    assert interval != paired_bootstrap(one, other, seed=3, resamples=500)
    narrow = paired_bootstrap(one, other, seed=2, resamples=500, level=0.5)
    assert interval.low < narrow.low < narrow.high < interval.high


def test_patients_without_anything_to_find_do_no_harm() -> None:
    assert paired_bootstrap([Counts()], [Counts()], seed=1, resamples=10).difference == 0.0


@pytest.mark.parametrize(
    ("first", "second", "level", "resamples"),
    [(GOOD, BAD[:3], 0.95, 10), ([], [], 0.95, 10), (GOOD, BAD, 1.0, 10), (GOOD, BAD, 0.95, 0)],
)
def test_wrong_calls_are_refused(
    first: list[Counts], second: list[Counts], level: float, resamples: int
) -> None:
    with pytest.raises(ValueError, match=r"expected|must"):
        paired_bootstrap(first, second, seed=1, level=level, resamples=resamples)


def test_groups_count_alike_whatever_their_size() -> None:
    """A large site where both are equal must not drown a small one where they differ: macro, not micro."""
    small, large = GOOD[:2], GOOD * 10
    interval = paired_bootstrap_over_groups([small, large], [[BAD[:2], large]], seed=1, resamples=50)
    assert interval.difference == pytest.approx(0.2)
    assert interval.low == pytest.approx(0.2) and interval.high == pytest.approx(0.2)


def test_one_group_is_the_plain_bootstrap() -> None:
    stream = random.Random(4)  # noqa: S311 - test data
    one, other = ([Counts(stream.randint(0, 9), 3, 3) for _ in range(40)] for _ in range(2))
    assert paired_bootstrap_over_groups([one], [[other]], seed=2, resamples=300) == paired_bootstrap(
        one, other, seed=2, resamples=300
    )


def test_mean_of_others_is_compared_on_the_same_draws() -> None:
    """Against the mean of itself and a worse system half of the gap is left; against itself nothing is."""
    half = paired_bootstrap_over_groups([GOOD], [[GOOD], [BAD]], seed=1, resamples=50)
    assert half.difference == pytest.approx(0.2)
    stream = random.Random(4)  # noqa: S311 - test data
    mixed = [Counts(stream.randint(0, 9), 3, 3) for _ in range(20)]
    none = paired_bootstrap_over_groups([mixed], [[mixed], [mixed]], seed=1, resamples=50)
    assert none.low == pytest.approx(0.0) and none.high == pytest.approx(0.0)


def test_groups_that_do_not_fit_are_refused() -> None:
    for first, others in (
        ([GOOD], [[BAD[:-1]]]),
        ([GOOD], []),
        ([], [[]]),
        ([GOOD, []], [[BAD, []]]),
    ):
        with pytest.raises(ValueError, match=r"same patients in the same groups|no patient"):
            paired_bootstrap_over_groups(first, others, seed=1)
