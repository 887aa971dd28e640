"""Who checks which chunk: no T acceptors without an honest checker, and the chance that spot checks miss."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import comb

import pytest

from fedmedlora_crypto.secagg.assignment import (
    FULL_CHECK_MEMBERS,
    MISSED_PER_MILLE,
    catch_probability,
    checkers,
    checkers_per_chunk,
    chunks_of,
    draw_chunks,
    spot_chunks,
)
from fedmedlora_crypto.secagg.session import quorum
from fedmedlora_testkit.secagg import terms_of

RING = bytes(range(32))
SMALL = [(n, c) for n in range(3, 9) for c in range(n) if quorum(n, c) - c >= 2 and quorum(n, c) <= n]


def unseen(n: int, c: int, assigned: tuple[int, ...]) -> bool:
    """Whether some T acceptors, c of them colluding, hold no honest checker of a chunk."""
    everybody = range(1, n + 1)
    for acceptors in combinations(everybody, quorum(n, c)):
        honest_checkers = set(acceptors) & set(assigned)
        # The best the colluders can do is to be the checkers.
        if any(honest_checkers <= set(bad) for bad in combinations(acceptors, c)):
            return True
    return False


@pytest.mark.parametrize(("n", "c"), SMALL)
def test_any_t_acceptors_hold_an_honest_checker_of_every_chunk(n: int, c: int) -> None:
    """R4.6.3 by brute force: every T of n members, every c of them colluding."""
    terms = terms_of(n, colluding=c)
    for chunk in range(2 * n):
        assigned = checkers(terms, RING, chunk)
        assert len(assigned) == n - quorum(n, c) + c + 1
        assert not unseen(n, c, assigned)


@pytest.mark.parametrize(("n", "c"), SMALL)
def test_with_one_checker_less_a_wrong_chunk_could_be_accepted(n: int, c: int) -> None:
    fewer = checkers(terms_of(n, colluding=c), RING, 0)[1:]
    assert unseen(n, c, fewer)


def test_the_work_is_spread_evenly_and_differs_from_sum_to_sum() -> None:
    terms = terms_of(5)
    load = Counter(p for chunk in range(100) for p in checkers(terms, RING, chunk))
    assert set(load.values()) == {100 * checkers_per_chunk(terms) // 5}
    seen = {checkers(terms, bytes([i]) * 32, 0) for i in range(40)}
    assert len(seen) == 5


def test_a_party_of_a_small_study_checks_what_falls_to_it() -> None:
    terms = terms_of(FULL_CHECK_MEMBERS)
    found = {p: chunks_of(terms, p, RING, 30, bytes([p]) * 32) for p in range(1, FULL_CHECK_MEMBERS + 1)}
    for chunk in range(30):
        assert tuple(p for p, chunks in found.items() if chunk in chunks) == checkers(terms, RING, chunk)


def test_a_party_of_a_large_study_checks_what_its_own_secret_draws() -> None:
    """R4.6.4: the same chunks whenever it is asked again, and others for another party or sum."""
    terms = terms_of(FULL_CHECK_MEMBERS + 1)
    first, again, other = (chunks_of(terms, 1, RING, 160, key * 32) for key in (b"a", b"a", b"b"))
    assert first == again != other
    assert len(first) == len(set(first)) == spot_chunks(terms, 160)


def test_draws_are_uniform_without_repetition() -> None:
    counts = Counter(i for k in range(3000) for i in draw_chunks(k.to_bytes(32, "big"), 7, 3))
    expected = 3000 * 3 / 7
    assert set(counts) == set(range(7))
    # Six standard deviations of a binomial count.
    assert all(abs(count - expected) < 6 * (3000 * 3 / 7 * 4 / 7) ** 0.5 for count in counts.values())
    assert draw_chunks(bytes(32), 5000, 5000) == tuple(range(5000))
    assert draw_chunks(bytes(32), 3, 0) == ()
    many = draw_chunks(bytes(32), 2**31 + 1, 500)  # every second word is passed over
    assert len(many) == 500 and max(many) <= 2**31
    with pytest.raises(ValueError, match="no more"):
        draw_chunks(bytes(32), 3, 4)


@pytest.mark.parametrize("n", [17, 50, 100, 1000])
@pytest.mark.parametrize("chunks", [1, 7, 160, 1600])
def test_honest_acceptors_together_miss_one_altered_chunk_in_one_case_of_a_hundred(
    n: int, chunks: int
) -> None:
    """R4.6.4: the least number of chunks that keeps the promise."""
    terms = terms_of(n)
    honest = terms.threshold - terms.colluding
    drawn = spot_chunks(terms, chunks)
    missed = (1 - catch_probability(chunks, 1, drawn)) ** honest
    assert missed <= MISSED_PER_MILLE / 1000 + 1e-12
    if drawn > 1:
        assert (1 - catch_probability(chunks, 1, drawn - 1)) ** honest > MISSED_PER_MILLE / 1000


def test_the_catch_probability_is_the_formula() -> None:
    for chunks in range(1, 9):
        for altered in range(chunks + 1):
            for checked in range(chunks + 1):
                missing = sum(
                    not set(chosen) & set(range(altered)) for chosen in combinations(range(chunks), checked)
                )
                exact = 1 - Fraction(missing, comb(chunks, checked))
                assert catch_probability(chunks, altered, checked) == pytest.approx(float(exact), abs=1e-12)
    assert catch_probability(1000, 1, 1000) == 1
    assert catch_probability(1000, 0, 1000) == 0


@pytest.mark.parametrize("numbers", [(0, 0, 0), (3, 4, 1), (3, 1, 4), (3, -1, 1), (3, 1, -1)])
def test_numbers_that_do_not_fit_are_refused(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="among the chunks"):
        catch_probability(*numbers)
