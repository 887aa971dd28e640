"""The lists of keys and of shares: a party refuses each that could betray it, with an error of its own."""

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.errors import (
    CryptoError,
    DuplicateKeyError,
    LowOrderKeyError,
    MalformedError,
    MalformedKeyError,
    NotIncludedError,
    NotInRosterError,
    SealedBoxError,
    ShareCommitmentError,
    ShortInboxError,
    ShortRosterError,
    ViewError,
    WrongSenderError,
)
from fedmedlora_crypto.secagg import Party
from fedmedlora_crypto.secagg.messages import MASK_KEY, SELF_SEED, decode_shares
from fedmedlora_crypto.secagg.reference import reference_view, repeatable_source
from fedmedlora_crypto.shamir import PRIME
from fedmedlora_testkit.secagg import SID, Ward, terms_of

MASK_KEY_AT = slice(68, 100)


def ward_at(step: str, n: int = 4) -> Ward:
    ward = Ward(n)
    return ward.run_to(getattr(ward, step))


def ready_to_fix(n: int = 4) -> Ward:
    return ward_at("share", n)


# share: the list of keys


def test_own_keys_missing_or_altered_refused() -> None:
    # R6.9.1
    ward = ward_at("advertise")
    without = {i: p for i, p in ward.keys.items() if i != 1}
    with pytest.raises(NotIncludedError):
        ward.parties[1].share(without, ward.view)
    with pytest.raises(NotIncludedError):
        ward.parties[1].share(ward.keys | {1: ward.keys[1][:-1] + b"\0"}, ward.view)
    ward.parties[1].share(ward.keys, ward.view)  # a refused message changes nothing


def test_short_roster_refused() -> None:
    # R6.9.3, R6.7.1: the list itself can never lower the threshold
    ward = ward_at("advertise")
    with pytest.raises(ShortRosterError) as caught:
        ward.parties[1].share({i: ward.keys[i] for i in (1, 2)}, ward.view)
    assert (caught.value.have, caught.value.need, caught.value.reason) == (2, 3, "short_roster")


def test_view_of_another_size_refused() -> None:
    ward = ward_at("advertise")
    with pytest.raises(ViewError):
        ward.parties[1].share(ward.keys, ward.view[:31])


@pytest.mark.parametrize(
    ("bend", "error"),
    [
        (lambda keys: keys[3][:68] + bytes(32) + keys[3][100:], LowOrderKeyError),
        (lambda keys: keys[3][:68] + keys[2][68:100] + keys[3][100:], DuplicateKeyError),
        (lambda keys: keys[3][:99] + bytes([keys[3][99] | 0x80]) + keys[3][100:], MalformedKeyError),
        (lambda keys: keys[3] + b"!", MalformedKeyError),
        (lambda keys: keys[2], MalformedKeyError),
        (lambda keys: b"", MalformedKeyError),
    ],
)
def test_key_that_should_have_been_left_out_refused(
    bend: Callable[[dict[int, bytes]], bytes], error: type[CryptoError]
) -> None:
    # R6.9.2
    ward = ward_at("advertise")
    with pytest.raises(error) as caught:
        ward.parties[1].share(ward.keys | {3: bend(ward.keys)}, ward.view)
    assert getattr(caught.value, "party", None) == 3
    assert caught.value.reason == "wrong_key"


def test_key_of_a_stranger_refused() -> None:
    ward = ward_at("advertise")
    stranger = Party(terms_of(9), 5, randomness=repeatable_source(b"x")).advertise()
    with pytest.raises(MalformedKeyError) as caught:
        ward.parties[1].share(ward.keys | {5: stranger}, ward.view)
    assert caught.value.party == 5


# fix: the inbox


def test_own_shares_missing_or_altered_refused() -> None:
    # R6.10.1
    ward = ready_to_fix()
    with pytest.raises(NotIncludedError):
        ward.parties[1].fix({i: p for i, p in ward.shares.items() if i != 1})
    with pytest.raises(NotIncludedError):
        ward.parties[1].fix(ward.shares | {1: ward.shares[1][:-1] + b"\0"})
    ward.parties[1].fix(ward.shares)


def test_short_inbox_refused() -> None:
    # R6.10.2
    ward = ready_to_fix()
    with pytest.raises(ShortInboxError) as caught:
        ward.parties[1].fix({i: ward.shares[i] for i in (1, 4)})
    assert (caught.value.have, caught.value.need, caught.value.reason) == (2, 3, "short_inbox")


def test_view_split_refused() -> None:
    # R6.10.3: half of the sites were shown another list of keys
    ward = ward_at("advertise")
    other = {i: ward.keys[i] for i in (1, 2, 3)}
    views = {
        i: (other, reference_view(SID, other)) if i in (1, 2) else (ward.keys, ward.view) for i in ward.keys
    }
    shares = {i: ward.parties[i].share(*views[i]) for i in ward.parties}
    with pytest.raises(ViewError) as caught:
        ward.parties[1].fix({i: shares[i] for i in (1, 2, 3)})
    assert (caught.value.party, caught.value.reason) == (3, "wrong_digest")


def test_view_split_hidden_by_a_forged_field_still_refused() -> None:
    # R6.3.4, R6.5.2: the box was sealed under the other view, whatever the payload says
    ward = ward_at("advertise")
    shares = {i: ward.parties[i].share(ward.keys, ward.view if i != 3 else bytes(32)) for i in ward.parties}
    shares[3] = shares[3].replace(bytes(32), ward.view, 1)
    with pytest.raises(SealedBoxError) as caught:
        ward.parties[1].fix(shares)
    assert caught.value.party == 3


def test_shares_dealt_to_other_holders_refused() -> None:
    ward = ward_at("advertise")
    fewer = {i: ward.keys[i] for i in (1, 2, 3)}
    shares = {i: ward.parties[i].share(ward.keys if i != 3 else fewer, ward.view) for i in ward.parties}
    with pytest.raises(ViewError):
        ward.parties[1].fix(shares)


def test_tampered_ciphertext_refused() -> None:
    ward = ready_to_fix()
    message = decode_shares(ward.shares[3], sid=SID, party=3)
    box = message.box(1)
    tampered = ward.shares[3].replace(box, box[:-1] + bytes([box[-1] ^ 1]))
    with pytest.raises(SealedBoxError) as caught:
        ward.parties[1].fix(ward.shares | {3: tampered})
    assert (caught.value.party, caught.value.reason) == (3, "bad_share")
    ward.parties[2].fix(ward.shares | {3: tampered})  # its own box is good
    ward.parties[1].fix(ward.shares)


def test_swapped_senders_refused() -> None:
    ward = ready_to_fix()
    with pytest.raises(WrongSenderError) as caught:
        ward.parties[1].fix(ward.shares | {2: ward.shares[3], 3: ward.shares[2]})
    assert caught.value.party == 2


def test_swapped_senders_with_forged_headers_refused() -> None:
    # R6.5.1: one key per direction
    ward = ready_to_fix()
    forged = ward.shares[3][:34] + b"\0\2" + ward.shares[3][36:]
    with pytest.raises(SealedBoxError) as caught:
        ward.parties[1].fix(ward.shares | {2: forged})
    assert caught.value.party == 2


def test_box_reflected_to_its_sender_refused() -> None:
    # R6.5.1: 1's own box for 3, sent back as 3's box for 1
    ward = ready_to_fix()
    own = decode_shares(ward.shares[1], sid=SID, party=1).box(3)
    theirs = decode_shares(ward.shares[3], sid=SID, party=3).box(1)
    with pytest.raises(SealedBoxError):
        ward.parties[1].fix(ward.shares | {3: ward.shares[3].replace(theirs, own)})


@pytest.mark.parametrize("kind", [SELF_SEED, MASK_KEY])
def test_share_that_does_not_fit_its_commitment_refused(kind: int) -> None:
    # R6.10.4
    ward = ready_to_fix()
    commitment = decode_shares(ward.shares[3], sid=SID, party=3).commitment(1, kind)
    with pytest.raises(ShareCommitmentError) as caught:
        ward.parties[1].fix(ward.shares | {3: ward.shares[3].replace(commitment, bytes(32))})
    assert caught.value.party == 3


def test_share_above_the_prime_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    # R6.6.4: a dealer that commits to bytes that are no share
    ward = ward_at("advertise")
    bad = PRIME.to_bytes(33, "big")
    with monkeypatch.context() as patch:
        patch.setattr(
            "fedmedlora_crypto.secagg.dealing.split_secret",
            lambda *_, holders, **__: dict.fromkeys(holders, bad),
        )
        third = ward.parties[3].share(ward.keys, ward.view)
    shares = {i: ward.parties[i].share(ward.keys, ward.view) for i in (1, 2, 4)} | {3: third}
    with pytest.raises(MalformedError, match="prime") as caught:
        ward.parties[1].fix(shares)
    assert caught.value.party == 3


def test_dealer_without_keys_refused() -> None:
    ward = ready_to_fix()
    with pytest.raises(NotInRosterError) as caught:
        ward.parties[1].fix(ward.shares | {9: ward.shares[3]})
    assert (caught.value.party, caught.value.reason) == (9, "not_in_roster")


@settings(max_examples=60)
@given(data=st.data())
def test_any_inbox_bytes_raise_only_crypto_error(data: st.DataObject) -> None:
    ward = ready_to_fix()
    good = ward.shares[3]
    at = data.draw(st.integers(0, len(good)))
    bent = good[:at] + data.draw(st.binary(max_size=40)) + good[at + data.draw(st.integers(0, 40)) :]
    try:
        ward.parties[1].fix(ward.shares | {3: bent})
    except CryptoError as error:
        assert getattr(error, "party", None) == 3
        ward.parties[1].fix(ward.shares)
