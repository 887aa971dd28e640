"""The hybrid suite: both halves count, wraps are checked, and the X25519 term keeps the coordinator out."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto import labels
from fedmedlora_crypto.errors import (
    DuplicateKeyError,
    MalformedKeyError,
    PeerError,
    SealedBoxError,
)
from fedmedlora_crypto.hybrid import (
    HYBRID_KEY_BYTES,
    WRAP_BYTES,
    HybridKey,
    check_hybrid_key,
    wrap,
)
from fedmedlora_crypto.keys import AgreementKey, derive_key
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE, SUITES, masks
from fedmedlora_crypto.secagg.messages import (
    KeysMessage,
    SharesMessage,
    decode_keys,
    decode_opened,
    decode_shares,
)
from fedmedlora_crypto.secagg.reference import repeatable_source
from fedmedlora_crypto.secagg.roster import read_keys
from fedmedlora_crypto.shamir import combine_shares
from fedmedlora_crypto.xof import add_keystreams
from fedmedlora_testkit.adversary.secrets import BorrowedKey, forged_wraps
from fedmedlora_testkit.secagg import SID, Ward, plain_sum, vectors_of

SUITE = SUITES[HYBRID_SUITE]
SHARE_KEY, MASK_KEY = 36, 36 + HYBRID_KEY_BYTES


def key_of(seed: int) -> HybridKey:
    return HybridKey(bytes([seed]) * 32, label=b"x", kem_label=b"k", sid=SID)


def ward_at(step: str) -> Ward:
    ward = Ward(4, suite=HYBRID_SUITE)
    return ward.run_to(getattr(ward, step))


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]


def test_wrapped_secret_opens_for_its_key_and_purpose_only() -> None:
    # R6.14.1
    key = key_of(1)
    wrapped = wrap(b"s" * 32, key.public, b"info")
    assert len(wrapped) == WRAP_BYTES == SUITE.wrap_bytes
    assert len(key.public) == HYBRID_KEY_BYTES == SUITE.key_bytes
    assert key.unwrap(wrapped, b"info", party=2) == b"s" * 32
    assert key_of(1).unwrap(wrapped, b"info", party=2) == b"s" * 32  # the same seed gives the same key
    for other, info in ((key, b"other"), (key_of(2), b"info")):
        with pytest.raises(SealedBoxError) as caught:
            other.unwrap(wrapped, info, party=2)
        assert caught.value.party == 2


@settings(max_examples=40)
@given(at=st.integers(0, WRAP_BYTES - 1), cut=st.integers(0, 3))
def test_altered_wrap_refused(at: int, cut: int) -> None:
    key = key_of(1)
    wrapped = flip(wrap(b"s" * 32, key.public, b"info"), at)
    with pytest.raises(SealedBoxError):
        key.unwrap(wrapped[: len(wrapped) - cut], b"info", party=2)


def test_halves_are_made_under_their_own_labels() -> None:
    # R6.14.1
    one = key_of(1).public
    two = HybridKey(b"\1" * 32, label=b"x", kem_label=b"l", sid=SID).public
    three = HybridKey(b"\1" * 32, label=b"y", kem_label=b"k", sid=SID).public
    assert one[:32] == two[:32] != three[:32]
    assert one[32:] != two[32:]
    assert one[32:] == three[32:]


@pytest.mark.parametrize(
    "bad", [b"\xff" * HYBRID_KEY_BYTES, key_of(1).public[:-1], key_of(1).public + b"\0", b""]
)
def test_other_bytes_as_hybrid_key_refused(bad: bytes) -> None:
    # R6.14.2
    with pytest.raises(MalformedKeyError):
        check_hybrid_key(bad)


def test_kem_half_out_of_range_refused() -> None:
    # R6.14.2: a coefficient of 4095 is not reduced modulo 3329
    with pytest.raises(MalformedKeyError, match="ML-KEM") as caught:
        check_hybrid_key(key_of(1).public[:32] + b"\xff" * 1184, party=3)
    assert caught.value.party == 3


@pytest.mark.parametrize("half", [slice(0, 32), slice(32, HYBRID_KEY_BYTES)])
def test_copied_half_of_a_key_drops_the_later_party(half: slice) -> None:
    # R6.8.2
    ward = ward_at("advertise")
    key = bytearray(ward.keys[3][MASK_KEY : MASK_KEY + HYBRID_KEY_BYTES])
    key[half] = ward.keys[2][MASK_KEY : MASK_KEY + HYBRID_KEY_BYTES][half]
    bent = ward.keys[3][:MASK_KEY] + bytes(key) + ward.keys[3][MASK_KEY + HYBRID_KEY_BYTES :]
    assert ward.aggregator.admit(ward.keys | {3: bent}) == ((1, 2, 4), {3: "duplicate_key"})
    assert isinstance(read_keys(ward.terms, ward.keys | {3: bent})[1][3], DuplicateKeyError)


@pytest.mark.parametrize(("dealer", "holder"), [(1, 3), (3, 1)])
def test_altered_box_refused(dealer: int, holder: int) -> None:
    ward = ward_at("share")
    box = decode_shares(ward.shares[dealer], sid=SID, party=dealer, suite=SUITE).box(holder)
    for at in (0, WRAP_BYTES - 1, WRAP_BYTES, len(box) - 1):
        bent = ward.shares[dealer].replace(box, flip(box, at))
        with pytest.raises(SealedBoxError) as caught:
            ward.parties[holder].fix(ward.shares | {dealer: bent})
        assert caught.value.party == dealer
    ward.parties[holder].fix(ward.shares)


def test_altered_pair_wrap_is_refused_by_its_holder() -> None:
    # R6.14.4
    ward = ward_at("share")
    wrapped = decode_shares(ward.shares[1], sid=SID, party=1, suite=SUITE).wrap(3)
    bent = ward.shares | {1: ward.shares[1].replace(wrapped, flip(wrapped, 0))}
    with pytest.raises(SealedBoxError) as caught:
        ward.parties[3].fix(bent)
    assert caught.value.party == 1
    ward.parties[3].fix(ward.shares)


def test_altered_pair_wrap_for_a_dropped_party_is_named_by_the_aggregator() -> None:
    # R6.14.4
    ward = Ward(4, suite=HYBRID_SUITE)
    ward.advertise()
    ward.share()
    ward.upload(late=(3,))
    ward.agree()
    ward.open()
    wrapped = decode_shares(ward.shares[1], sid=SID, party=1, suite=SUITE).wrap(3)
    honest = dict(ward.shares)
    ward.shares[1] = ward.shares[1].replace(wrapped, flip(wrapped, 0))
    with pytest.raises(SealedBoxError) as caught:
        ward.unmask(ward.total())
    assert caught.value.party == 1
    ward.shares = honest
    total = ward.total()
    ward.unmask(total)
    assert np.array_equal(total, plain_sum(vectors_of((1, 2, 4)).values()))


@settings(max_examples=50)
@given(kind=st.sampled_from(["keys", "shares"]), data=st.data())
def test_mutated_payload_raises_only_peer_error(kind: str, data: st.DataObject) -> None:
    decode: Callable[..., KeysMessage | SharesMessage] = decode_keys if kind == "keys" else decode_shares
    good = GOOD[kind]
    at = data.draw(st.integers(0, len(good)))
    bent = good[:at] + data.draw(st.binary(max_size=8)) + good[at + data.draw(st.integers(0, 8)) :]
    try:
        message = decode(bent, sid=SID, party=2, suite=SUITE)
    except PeerError as error:
        assert error.party == 2
        return
    assert message.encode(SID) == bent


WARD = ward_at("share")
GOOD = {"keys": WARD.keys[2], "shares": WARD.shares[2]}


def test_payload_of_another_suite_refused() -> None:
    with pytest.raises(PeerError):
        decode_shares(GOOD["shares"], sid=SID, party=2)
    with pytest.raises(PeerError):
        decode_keys(GOOD["keys"], sid=SID, party=2)


# A coordinator that replaces the wraps for one party by its own knows every a_uv with smaller parties. The
# digests in the signed events stop that; if they did not, the X25519 term still would.


def test_forged_wraps_read_the_victim_without_the_x25519_term(monkeypatch: pytest.MonkeyPatch) -> None:
    # R6.14.3, with the term taken out of pair masks (boxes keep theirs)

    def derive_without_exchange(secret: bytes, info: bytes) -> bytes:
        return derive_key(secret[32:] if len(secret) == 64 else secret, info)

    monkeypatch.setattr(masks, "derive_key", derive_without_exchange)
    assert forged_wraps()


def test_forged_wraps_are_useless_with_the_x25519_term() -> None:
    # R6.14.3
    assert not forged_wraps()


def test_repr_is_silent() -> None:
    assert repr(key_of(1)) == "AgreementKey(...)"


# Years later X25519 falls: the attacker has recorded every payload, computes the X25519 secret of any two
# advertised keys, and was the coordinator, so it was given the survivors' self seeds. ML-KEM stands.


def recorded_session_reads_the_victim(suite: str) -> bool:
    """Strip party 2's recorded upload with nothing but X25519 secrets, payloads and the opened self seed."""
    ward = Ward(4, suite=suite)
    ward.run_to(ward.upload)
    layout, binding = SUITES[suite], ward.terms.binding(ward.view)
    keys = {i: decode_keys(ward.keys[i], sid=SID, party=i, suite=layout).mask_key for i in ward.keys}
    ward.agree()
    ward.open()
    shares = {
        holder: dict(zip(message.dealers, message.shares, strict=True))[2]
        for holder, payload in ward.opened.items()
        for message in [decode_opened(payload, sid=SID, party=holder)]
    }
    streams = [(masks.self_mask(binding, 2, combine_shares(shares)), -1)]
    for peer in (1, 3, 4):
        victim = BorrowedKey(_broken(ward, 2), keys[2])
        stream, sign = masks.pair_mask(binding, (2, victim), (peer, keys[peer]))  # a_uv stays unknown
        streams.append((stream, -sign))
    stripped = ward.masked[2].copy()
    add_keystreams(stripped, streams)
    return np.array_equal(stripped, vectors_of([2])[2])


def _broken(ward: Ward, party: int) -> AgreementKey:
    """The X25519 private key of a party, as whoever breaks X25519 finds it from the public one."""
    seed = repeatable_source(SID + bytes([party]))(32)  # the first that a party draws is its s
    return AgreementKey(seed, label=labels.MASK_KEY_SEED, sid=SID)


def test_recorded_session_is_read_once_x25519_is_broken_without_ml_kem() -> None:
    # R6.14.1, R6.14.3 taken out: the suite without ML-KEM
    assert recorded_session_reads_the_victim(MASKED_SUITE)


def test_recorded_session_stays_closed_once_x25519_is_broken_with_ml_kem() -> None:
    # R6.14.3
    assert not recorded_session_reads_the_victim(HYBRID_SUITE)
