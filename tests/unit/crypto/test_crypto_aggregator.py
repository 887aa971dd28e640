"""The aggregator names whoever lies, goes on without a lying holder, and never publishes a wrong sum."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.errors import (
    CryptoError,
    DealtWronglyError,
    DuplicateKeyError,
    MalformedError,
    NotInRosterError,
    PeerError,
    ShareCommitmentError,
    ShortInboxError,
    ShortOpeningsError,
    ShortRosterError,
    ShortSurvivorsError,
    ViewError,
    WrongOpeningError,
    WrongSenderError,
    WrongSessionError,
)
from fedmedlora_crypto.secagg import Aggregator
from fedmedlora_crypto.secagg.messages import MASK_KEY, SELF_SEED
from fedmedlora_crypto.shamir import PRIME
from fedmedlora_testkit.secagg import SID, Ward, plain_sum, vectors_of

OPENED_SHARE = 36 + 32 + 2 + 2 * 5 + 1  # first share in an opened-shares payload of five dealers


def opened_ward(*, late: tuple[int, ...] = ()) -> Ward:
    """Five parties (T = 4), all steps done."""
    ward = Ward(5)
    ward.advertise()
    ward.share()
    ward.upload(late=late)
    ward.agree()
    ward.open()
    return ward


def flip(payload: bytes, at: int) -> bytes:
    return payload[:at] + bytes([payload[at] ^ 1]) + payload[at + 1 :]


@pytest.mark.parametrize("late", [(), (2,)])
def test_sum_comes_out_and_everybody_was_used(late: tuple[int, ...]) -> None:
    ward = opened_ward(late=late)
    total = ward.total()
    result = ward.unmask(total)
    assert np.array_equal(total, plain_sum(vectors_of(ward.survivors).values()))
    assert (result.used, result.refused) == (ward.survivors, {})


def test_rebuilt_aggregator_gives_the_same_sum() -> None:
    ward = opened_ward(late=(2,))
    once, again = ward.total(), ward.total()
    ward.unmask(once)
    Aggregator(ward.terms).unmask(again, ward.keys, ward.shares, ward.survivors, ward.opened, threads=2)
    assert np.array_equal(once, again)


@pytest.mark.parametrize("entry", range(5))
def test_wrong_returned_share_is_named_and_survived(entry: int) -> None:
    # R6.12.4
    ward = opened_ward()
    ward.opened[3] = flip(ward.opened[3], OPENED_SHARE + entry * 34 + 32)
    total = ward.total()
    result = ward.unmask(total)
    assert np.array_equal(total, plain_sum(vectors_of(range(1, 6)).values()))
    assert result.used == (1, 2, 4, 5)
    assert isinstance(result.refused[3], ShareCommitmentError)
    assert (result.refused[3].party, result.refused[3].reason) == (3, "bad_share")


def test_wrong_returned_shares_below_threshold_stop_with_names() -> None:
    # R6.12.4, R6.12.7
    ward = opened_ward(late=(2,))
    ward.opened[3] = flip(ward.opened[3], OPENED_SHARE)
    total = before = ward.total()
    with pytest.raises(ShortOpeningsError) as caught:
        ward.unmask(total)
    assert (caught.value.have, caught.value.need) == (3, 4)
    assert [note.split(":")[0] for note in caught.value.__notes__] == ["party 3"]
    assert np.array_equal(total, before)


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (lambda ward: ward.opened[4], WrongSenderError),
        (lambda ward: ward.opened[3][:-1], MalformedError),
        (lambda ward: ward.opened[3] + b"!", MalformedError),
        (lambda ward: b"", MalformedError),
        (lambda ward: flip(ward.opened[3], 5), WrongSessionError),
        (lambda ward: flip(ward.opened[3], 40), ViewError),
        (lambda ward: ward.opened[3][:80] + bytes([MASK_KEY]) + ward.opened[3][81:], WrongOpeningError),
        (
            lambda ward: ward.opened[3][:69] + b"\4" + ward.opened[3][70:78] + ward.opened[3][80:-34],
            WrongOpeningError,
        ),
    ],
)
def test_bad_opening_is_named_and_survived(bend: Callable[[Ward], bytes], error: type[PeerError]) -> None:
    ward = opened_ward()
    assert ward.opened[3][80] == SELF_SEED
    ward.opened[3] = bend(ward)
    total = ward.total()
    result = ward.unmask(total)
    assert type(result.refused[3]) is error
    assert result.refused[3].party == 3
    assert np.array_equal(total, plain_sum(vectors_of(range(1, 6)).values()))


def test_opening_of_a_dropped_party_is_not_used() -> None:
    ward = opened_ward(late=(2,))
    ward.opened[2] = ward.opened[1]
    total = ward.total()
    assert isinstance(ward.unmask(total).refused[2], NotInRosterError)
    assert np.array_equal(total, plain_sum(vectors_of((1, 3, 4, 5)).values()))


@settings(max_examples=60)
@given(data=st.data())
def test_any_opened_bytes_never_change_the_sum(data: st.DataObject) -> None:
    ward = WARD
    good = ward.opened[3]
    at = data.draw(st.integers(0, len(good)))
    bent = good[:at] + data.draw(st.binary(max_size=40)) + good[at + data.draw(st.integers(0, 40)) :]
    total = ward.total()
    result = ward.aggregator.unmask(total, ward.keys, ward.shares, ward.survivors, ward.opened | {3: bent})
    assert (3 in result.refused) == (bent != good)
    assert np.array_equal(total, plain_sum(vectors_of(range(1, 6)).values()))


WARD = opened_ward()


# dealers that announce one thing and share another


def bent_dealer(monkeypatch: pytest.MonkeyPatch, split: Callable[..., dict[int, bytes]], late: bool) -> Ward:
    """Let party 2 deal with another `split_secret`, consistently committed to, and drop out if late."""
    ward = Ward(5)
    ward.advertise()
    with monkeypatch.context() as patch:
        patch.setattr("fedmedlora_crypto.secagg.dealing.split_secret", split)
        second = ward.parties[2].share(ward.keys, ward.view)
    ward.shares = {i: ward.parties[i].share(ward.keys, ward.view) for i in (1, 3, 4, 5)}
    ward.shares = dict(sorted((ward.shares | {2: second}).items()))
    ward.upload(late=(2,) if late else ())
    ward.agree()
    ward.open()
    return ward


@pytest.mark.parametrize("late", [False, True])
def test_dealer_that_shares_another_seed_is_named(monkeypatch: pytest.MonkeyPatch, late: bool) -> None:
    # R6.12.5, for the self seed (survivor) and for the mask key (dropped out)
    share = (7).to_bytes(33, "big")
    ward = bent_dealer(monkeypatch, lambda *_, holders, **__: dict.fromkeys(holders, share), late)
    total = before = ward.total()
    with pytest.raises(DealtWronglyError, match="is not the") as caught:
        ward.unmask(total)
    assert caught.value.party == 2
    assert np.array_equal(total, before)


def test_dealer_whose_shares_rebuild_no_secret_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    # a constant polynomial of 257 bits
    share = (PRIME - 1).to_bytes(33, "big")
    ward = bent_dealer(monkeypatch, lambda *_, holders, **__: dict.fromkeys(holders, share), late=False)
    with pytest.raises(DealtWronglyError, match="rebuild") as caught:
        ward.unmask(ward.total())
    assert caught.value.party == 2


# stored payloads and sets


def test_check_shares() -> None:
    ward = WARD
    payload = ward.shares[3]
    ward.aggregator.check_shares(3, payload)
    ward.aggregator.check_shares(3, payload, holders=(1, 2, 3, 4, 5), view=ward.view)
    with pytest.raises(ViewError):
        ward.aggregator.check_shares(3, payload, holders=(1, 2, 3, 4))
    with pytest.raises(ViewError):
        ward.aggregator.check_shares(3, payload, view=bytes(32))
    with pytest.raises(WrongSenderError):
        ward.aggregator.check_shares(4, payload)
    with pytest.raises(MalformedError):
        ward.aggregator.check_shares(3, payload[:-1])


def without(payloads: dict[int, bytes], *parties: int) -> dict[int, bytes]:
    return {i: payload for i, payload in payloads.items() if i not in parties}


@pytest.mark.parametrize(
    ("keys", "shares", "survivors", "error"),
    [
        (without(WARD.keys, 5), WARD.shares, (1, 2, 3, 4), NotInRosterError),
        (WARD.keys, without(WARD.shares, 5), (1, 2, 3, 4, 5), NotInRosterError),
        (WARD.keys, WARD.shares, (1, 2, 3, 6), NotInRosterError),
        (WARD.keys, WARD.shares, (1, 2, 3), ShortSurvivorsError),
        (WARD.keys, WARD.shares, (1, 1, 2, 3), ShortSurvivorsError),
        (WARD.keys, without(WARD.shares, 4, 5), (1, 2, 3), ShortInboxError),
        (without(WARD.keys, 4, 5), without(WARD.shares, 4, 5), (1, 2, 3), ShortRosterError),
        (without(WARD.keys, 5), without(WARD.shares, 5), (1, 2, 3, 4), ViewError),
        (
            WARD.keys | {5: WARD.keys[4][:34] + b"\0\5" + WARD.keys[4][36:]},
            WARD.shares,
            (1, 2, 3, 4),
            DuplicateKeyError,
        ),
        (WARD.keys, WARD.shares | {5: b""}, (1, 2, 3, 4), MalformedError),
    ],
)
def test_stored_sets_that_do_not_fit_refused(
    keys: dict[int, bytes], shares: dict[int, bytes], survivors: tuple[int, ...], error: type[CryptoError]
) -> None:
    # R6.12.7: T holds for each of the three sets, at the aggregator too
    total = np.zeros(4, dtype=np.uint32)
    with pytest.raises(error):
        WARD.aggregator.unmask(total, keys, shares, survivors, WARD.opened)
    assert not total.any()


def test_shares_of_another_view_refused() -> None:
    other = Ward(5)
    other.advertise()
    other.view = bytes(32)
    other.share()
    with pytest.raises(ViewError) as caught:
        WARD.aggregator.unmask(
            WARD.total(), WARD.keys, WARD.shares | {3: other.shares[3]}, WARD.survivors, WARD.opened
        )
    assert caught.value.party == 3


def test_total_that_is_no_ring_vector_refused() -> None:
    with pytest.raises(ValueError, match="ring vector"):
        WARD.unmask(np.zeros(4, dtype=np.int64))


def test_payloads_of_another_session_refused() -> None:
    other = Ward(5, sid=SID[::-1])
    other.advertise()
    assert WARD.aggregator.admit(other.keys) == ((), dict.fromkeys(range(1, 6), "malformed_key"))
