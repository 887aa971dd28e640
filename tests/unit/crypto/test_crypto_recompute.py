"""A published sum checked by those who did not add it up: any altered value, any range, any suite."""

from __future__ import annotations

import secrets

import numpy as np
import pytest

from fedmedlora_crypto.errors import ShortOpeningsError, WrongSumError
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE, PLAIN_SUITE
from fedmedlora_crypto.secagg.assignment import catch_probability
from fedmedlora_crypto.secagg.recompute import SumCheck
from fedmedlora_crypto.xof import Vector
from fedmedlora_testkit.secagg import Ward, vectors_of

WORDS = 8  # of a chunk here; any cut will do
CHUNKS = 20


class Published:
    """A finished session, its true sum, and its check."""

    def __init__(self, suite: str = MASKED_SUITE, *, n: int = 4, dropped: tuple[int, ...] = ()) -> None:
        self.ward = Ward(n, suite=suite)
        self.ward.advertise()
        self.ward.share()
        vectors = vectors_of(self.ward.parties, CHUNKS * WORDS)
        self.ward.upload(vectors, late=dropped)
        self.ward.agree()
        self.ward.open()
        self.total = self.ward.total()
        self.ward.unmask(self.total)
        self.check = self.opened()

    def opened(self, **changes: object) -> SumCheck:
        ward = self.ward
        fields = {"keys": ward.keys, "shares": ward.shares, "opened": ward.opened, **changes}
        return SumCheck(ward.terms, survivors=ward.survivors, **fields)  # type: ignore[arg-type]

    def judge(self, chunk: int, total: Vector, check: SumCheck | None = None) -> None:
        """Check one chunk of a sum."""
        at = slice(chunk * WORDS, (chunk + 1) * WORDS)
        uploads = [upload[at] for upload in self.ward.masked.values()]
        (check or self.check).check(chunk, total[at], uploads, start=at.start)

    def catches(self, total: Vector, chunks: list[int]) -> bool:
        """Whether a check of these chunks finds a wrong value."""
        try:
            for chunk in chunks:
                self.judge(chunk, total)
        except WrongSumError:
            return True
        return False


@pytest.fixture(scope="module")
def published() -> Published:
    return Published()


@pytest.mark.parametrize("suite", [MASKED_SUITE, HYBRID_SUITE, PLAIN_SUITE])
@pytest.mark.parametrize("dropped", [(), (2,)])
def test_every_chunk_of_the_true_sum_passes(suite: str, dropped: tuple[int, ...]) -> None:
    made = Published(suite, dropped=dropped)
    assert not made.catches(made.total, list(range(CHUNKS)))
    assert made.check.unmasking.used == made.ward.survivors


@pytest.mark.parametrize("suite", [MASKED_SUITE, PLAIN_SUITE])
def test_one_altered_value_anywhere_is_caught_and_named(suite: str) -> None:
    """R4.6.1, at every place: the full check always catches it."""
    made = Published(suite, dropped=(3,))
    for value in range(len(made.total)):
        altered = made.total.copy()
        altered[value] += 1
        with pytest.raises(WrongSumError) as caught:
            for chunk in range(CHUNKS):
                made.judge(chunk, altered)
        assert (caught.value.chunk, caught.value.value) == (value // WORDS, value)


def test_without_the_comparison_an_altered_sum_would_pass(
    published: Published, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedmedlora_crypto.secagg.recompute.ChunkSum.compare", lambda *_: None)
    assert not published.catches(published.total + np.uint32(1), list(range(CHUNKS)))


def test_an_upload_left_out_or_counted_twice_is_caught(published: Published) -> None:
    uploads = [upload[:WORDS] for upload in published.ward.masked.values()]
    for wrong in (uploads[1:], [*uploads, uploads[0]]):
        with pytest.raises(WrongSumError):
            published.check.check(0, published.total[:WORDS], wrong, start=0)


def test_any_range_can_be_checked_alone_wherever_it_begins(published: Published) -> None:
    """Packed frames hold a number of words that is no whole number of cipher blocks."""
    for start, count in ((1, 3), (7, 30), (159, 1), (0, 160), (5, 0)):
        uploads = [upload[start : start + count] for upload in published.ward.masked.values()]
        published.check.check(0, published.total[start : start + count], uploads, start=start)


@pytest.mark.parametrize("bits", [16, 24])
def test_a_narrow_ring_is_compared_in_its_own_width(published: Published, bits: int) -> None:
    mask = np.uint32(2**bits - 1)
    narrow = published.opened(ring_bits=bits)
    uploads = [upload & mask for upload in published.ward.masked.values()]
    total = published.total & mask
    narrow.check(0, total, uploads, start=0)
    total[5] = (total[5] + np.uint32(1)) & mask
    with pytest.raises(WrongSumError, match="value 5"):
        narrow.check(0, total, uploads, start=0)


def test_chunks_of_another_length_are_wrong_sums(published: Published) -> None:
    partial = published.check.chunk(3, start=24, count=WORDS)
    with pytest.raises(WrongSumError):
        partial.add(published.total[:5])
    with pytest.raises(WrongSumError, match="chunk 3"):
        partial.compare(published.total[:5])


def test_too_few_opened_shares_rebuild_no_masks(published: Published) -> None:
    few = dict(list(published.ward.opened.items())[:2])
    with pytest.raises(ShortOpeningsError):
        published.opened(opened=few)


def test_a_lying_holder_is_passed_over_as_by_the_coordinator(published: Published) -> None:
    opened = dict(published.ward.opened)
    opened[1] = opened[1][:-1] + bytes([opened[1][-1] ^ 1])
    check = published.opened(opened=opened)
    assert list(check.unmasking.refused) == [1]
    published.judge(0, published.total, check)


def test_another_ring_and_the_masks_do_not_show(published: Published) -> None:
    with pytest.raises(ValueError, match="16, 24 or 32"):
        published.opened(ring_bits=20)
    assert repr(published.check) == "SumCheck(...)"


@pytest.mark.parametrize(("altered", "checked"), [(1, 2), (1, 10), (3, 4), (5, 1)])
def test_spot_checks_catch_with_the_stated_probability(
    published: Published, altered: int, checked: int
) -> None:
    """R4.6.5 on the real check: 600 coordinators, each altering other chunks, each checked at random."""
    draw = secrets.SystemRandom().sample
    trials, caught = 600, 0
    for _ in range(trials):
        total = published.total.copy()
        for chunk in draw(range(CHUNKS), altered):
            total[chunk * WORDS + 3] ^= np.uint32(1 << 7)
        caught += published.catches(total, draw(range(CHUNKS), checked))
    expected = catch_probability(CHUNKS, altered, checked)
    # Six standard deviations: fails once in 10**9 runs.
    assert abs(caught / trials - expected) <= 6 * (expected * (1 - expected) / trials) ** 0.5
