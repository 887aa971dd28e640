"""Terms that would not protect are refused, and the rule that fixes U1."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_crypto.errors import (
    DuplicateKeyError,
    LowOrderKeyError,
    MalformedKeyError,
    TermsError,
)
from fedmedlora_crypto.keys import LOW_ORDER_POINTS
from fedmedlora_crypto.secagg import Party, SessionTerms, quorum
from fedmedlora_crypto.secagg.roster import read_keys
from fedmedlora_testkit.secagg import SID, Ward, terms_of

SHARE_KEY, MASK_KEY = slice(36, 68), slice(68, 100)


@pytest.mark.parametrize(
    ("n", "c", "threshold", "sid", "suite"),
    [
        (2, 0, 2, SID, "x25519-aes256ctr/2"),  # a sum of two
        (2000, 0, 1001, SID, "x25519-aes256ctr/2"),
        (4, 1, 2, SID, "x25519-aes256ctr/2"),  # threshold below T
        (4, 1, 4, SID, "x25519-aes256ctr/2"),  # threshold above T
        (3, 2, 3, SID, "x25519-aes256ctr/2"),  # T - c = 1
        (4, 3, 4, SID, "x25519-aes256ctr/2"),
        (3, -1, 2, SID, "x25519-aes256ctr/2"),
        (3, 3, 4, SID, "x25519-aes256ctr/2"),
        (4, 1, 3, SID[:31], "x25519-aes256ctr/2"),
        (4, 1, 3, SID, "x25519-aes128ctr/1"),
    ],
)
def test_unsafe_terms_refused(n: int, c: int, threshold: int, sid: bytes, suite: str) -> None:
    # R6.7.2
    with pytest.raises(TermsError):
        SessionTerms(sid, n, threshold, c, suite)


@given(st.integers(3, 1024), st.data())
def test_two_quorums_share_an_honest_party(n: int, data: st.DataObject) -> None:
    # R6.7.2
    c = data.draw(st.integers(0, n - 1))
    assert 2 * quorum(n, c) - n > c


@pytest.mark.parametrize(
    ("n", "expected"), [(3, 3), (4, 3), (5, 4), (10, 7), (50, 34), (100, 67), (1000, 667)]
)
def test_default_thresholds(n: int, expected: int) -> None:
    assert terms_of(n).threshold == expected


@pytest.mark.parametrize("index", [0, 5, -1])
def test_party_outside_the_charter_refused(index: int) -> None:
    with pytest.raises(TermsError):
        Party(terms_of(4), index)


@pytest.fixture(scope="module")
def ward() -> Ward:
    made = Ward(4)
    made.advertise()
    return made


def with_key(payload: bytes, place: slice, key: bytes) -> bytes:
    return payload[: place.start] + key + payload[place.stop :]


def test_everybody_well_is_admitted(ward: Ward) -> None:
    # R6.8.1
    assert ward.aggregator.admit(ward.keys) == ((1, 2, 3, 4), {})


@pytest.mark.parametrize("place", [SHARE_KEY, MASK_KEY])
@pytest.mark.parametrize("point", sorted(LOW_ORDER_POINTS)[:2])
def test_low_order_key_drops_that_party_only(ward: Ward, place: slice, point: bytes) -> None:
    # R6.8.1
    keys = ward.keys | {3: with_key(ward.keys[3], place, point)}
    assert ward.aggregator.admit(keys) == ((1, 2, 4), {3: "low_order_key"})
    assert isinstance(read_keys(ward.terms, keys)[1][3], LowOrderKeyError)


def test_reencoded_key_drops_that_party_only(ward: Ward) -> None:
    copied = bytearray(ward.keys[2][MASK_KEY])
    copied[31] |= 0x80
    keys = ward.keys | {3: with_key(ward.keys[3], MASK_KEY, bytes(copied))}
    assert ward.aggregator.admit(keys) == ((1, 2, 4), {3: "malformed_key"})
    assert isinstance(read_keys(ward.terms, keys)[1][3], MalformedKeyError)


@pytest.mark.parametrize("source", [SHARE_KEY, MASK_KEY])
@pytest.mark.parametrize("place", [SHARE_KEY, MASK_KEY])
def test_copied_key_drops_the_later_party_only(ward: Ward, source: slice, place: slice) -> None:
    # R6.8.2
    keys = ward.keys | {3: with_key(ward.keys[3], place, ward.keys[2][source])}
    assert ward.aggregator.admit(keys) == ((1, 2, 4), {3: "duplicate_key"})
    # whatever the order in which the payloads arrived
    assert ward.aggregator.admit(dict(reversed(keys.items()))) == ((1, 2, 4), {3: "duplicate_key"})


def test_one_key_for_both_purposes_refused(ward: Ward) -> None:
    # R6.8.2
    keys = ward.keys | {1: with_key(ward.keys[1], MASK_KEY, ward.keys[1][SHARE_KEY])}
    assert ward.aggregator.admit(keys) == ((2, 3, 4), {1: "duplicate_key"})
    assert isinstance(read_keys(ward.terms, keys)[1][1], DuplicateKeyError)


def test_key_of_a_refused_party_does_not_spoil_the_next(ward: Ward) -> None:
    # 1 is malformed but carries 2's key: 2 must not pay for it
    bad = with_key(ward.keys[1], MASK_KEY, ward.keys[2][MASK_KEY]) + b"!"
    assert ward.aggregator.admit(ward.keys | {1: bad}) == ((2, 3, 4), {1: "malformed_key"})


@given(st.binary(max_size=140))
def test_any_bytes_are_admitted_or_left_out(data: bytes) -> None:
    ward = Ward(4)
    ward.advertise()
    u1, left_out = ward.aggregator.admit(ward.keys | {3: data, 9: data})
    assert {1, 2, 4} <= set(u1)
    assert set(u1) | set(left_out) == {1, 2, 3, 4, 9}
    assert left_out[9] == "malformed_key"
