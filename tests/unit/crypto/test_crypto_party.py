"""A party refuses what a malicious coordinator or peer could send, each with its own error."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.errors import (
    AlreadyAgreedError,
    AlreadyOpenedError,
    BothSeedsError,
    CryptoError,
    DuplicateIndexError,
    DuplicateKeyError,
    LateFlightError,
    LowOrderKeyError,
    MalformedError,
    MalformedKeyError,
    MaskReusedError,
    NotIncludedError,
    NotInRosterError,
    SealedBoxError,
    ShareCommitmentError,
    ShortInboxError,
    ShortRosterError,
    ShortSurvivorsError,
    StateError,
    ViewError,
    WrongSenderError,
)
from fedmedlora_crypto.secagg import Party
from fedmedlora_crypto.secagg.messages import MASK_KEY, SELF_SEED, OpenedMessage, decode_opened, decode_shares
from fedmedlora_crypto.secagg.party import Step
from fedmedlora_crypto.secagg.reference import reference_view, repeatable_source
from fedmedlora_crypto.shamir import PRIME
from fedmedlora_testkit.secagg import SID, Ward, terms_of, vectors_of

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


# mask


def test_second_mask_refused_and_changes_nothing() -> None:
    # R6.10.5
    ward = ward_at("upload")
    vector = np.zeros(64, dtype=np.uint32)
    for _ in range(2):
        with pytest.raises(MaskReusedError) as caught:
            ward.parties[1].mask(vector)
        assert caught.value.reason == "spent"
    assert not vector.any()
    ward.agree()
    with pytest.raises(MaskReusedError):
        ward.parties[1].mask(vector)
    ward.open()
    with pytest.raises(MaskReusedError):
        ward.parties[1].mask(vector)


def test_vector_that_cannot_be_masked_spends_nothing() -> None:
    ward = ready_to_fix()
    ward.parties[1].fix(ward.shares)
    with pytest.raises(ValueError, match="ring vector"):
        ward.parties[1].mask(np.zeros(4, dtype=np.float32))
    ward.parties[1].mask(np.zeros(4, dtype=np.uint32))


def test_seeds_are_gone_once_the_inbox_is_fixed_and_masks_once_used() -> None:
    # R6.10.7, R6.13.1
    ward = ready_to_fix()
    party = ward.parties[1]
    party.fix(ward.shares)
    assert "_own" not in vars(party)
    assert vars(party)["_streams"]
    party.mask(np.zeros(4, dtype=np.uint32))
    assert vars(party)["_streams"] == []


def test_masks_are_with_exactly_the_agreed_inbox() -> None:
    # R6.10.6: 4 dealt no shares, so nobody's vector carries a mask with it and T openings are enough
    ward = Ward(4)
    ward.advertise()
    ward.share(senders=(1, 2, 3))
    ward.upload()
    ward.agree()
    ward.open()
    total = ward.total()
    ward.unmask(total)
    assert np.array_equal(total, sum(vectors_of((1, 2, 3)).values(), np.zeros(64, dtype=np.uint32)))


# agree


def test_second_agreement_refused() -> None:
    # R6.11.1
    ward = ward_at("agree")
    for survivors in ((1, 2, 3, 4), (1, 2, 3)):
        with pytest.raises(AlreadyAgreedError) as caught:
            ward.parties[1].agree(survivors)
        assert caught.value.reason == "spent"


@pytest.mark.parametrize(
    ("survivors", "error", "reason"),
    [
        ((2, 3, 4), NotIncludedError, "not_included"),
        ((1, 2), ShortSurvivorsError, "short_survivors"),
        ((1, 2, 3, 5), NotInRosterError, "not_in_roster"),
        ((1, 2, 2, 3), DuplicateIndexError, "duplicate"),
        ((), NotIncludedError, "not_included"),
    ],
)
def test_bad_survivor_set_refused(survivors: tuple[int, ...], error: type[CryptoError], reason: str) -> None:
    # R6.11.2, R6.11.3
    ward = ward_at("upload")
    with pytest.raises(error) as caught:
        ward.parties[1].agree(survivors)
    assert caught.value.reason == reason
    ward.parties[1].agree((1, 2, 3))


# open


def test_other_survivor_set_at_opening_refused() -> None:
    # R6.12.2: 4 would be opened by its self seed here and by its mask key there
    ward = ward_at("agree")
    with pytest.raises(BothSeedsError) as caught:
        ward.parties[1].open((1, 2, 3), (1, 2, 3))
    assert caught.value.reason == "both_seeds"


def test_second_opening_refused() -> None:
    # R6.12.1
    ward = ward_at("open")
    with pytest.raises(AlreadyOpenedError) as caught:
        ward.parties[1].open((1, 2, 3, 4), (1, 2, 3, 4))
    assert caught.value.reason == "both_seeds"


@pytest.mark.parametrize(
    ("signers", "error"),
    [
        ((1, 2), ShortSurvivorsError),
        ((1, 2, 2), DuplicateIndexError),
        ((1, 2, 4), NotInRosterError),
        ((1, 2, 3, 9), NotInRosterError),
    ],
)
def test_too_few_or_wrong_signers_refused(signers: tuple[int, ...], error: type[CryptoError]) -> None:
    # R6.12.6
    ward = ready_to_fix()
    ward.upload(late=(4,))
    ward.agree()
    with pytest.raises(error):
        ward.parties[1].open((1, 2, 3), signers)
    ward.parties[1].open((1, 2, 3), (1, 2, 3))


def test_opening_holds_one_kind_of_each_and_the_other_is_erased_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    # R6.12.3
    ward = ready_to_fix()
    ward.upload(late=(4,))
    ward.agree()
    held = vars(ward.parties[1])["_held"]
    assert {dealer: set(kinds) for dealer, kinds in held.items()} == {key: {1, 2} for key in (1, 2, 3, 4)}
    seen: list[dict[int, set[int]]] = []

    def encode(*_: object) -> bytes:
        seen.append({dealer: set(kinds) for dealer, kinds in held.items()})
        return b""

    monkeypatch.setattr(OpenedMessage, "encode", encode)
    ward.parties[1].open((1, 2, 3), (1, 2, 3))
    assert seen == [{1: {SELF_SEED}, 2: {SELF_SEED}, 3: {SELF_SEED}, 4: {MASK_KEY}}]
    monkeypatch.undo()
    message = decode_opened(ward.parties[2].open((1, 2, 3), (1, 2, 3)), sid=SID, party=2)
    assert message.dealers == (1, 2, 3, 4)
    assert message.kinds == (SELF_SEED, SELF_SEED, SELF_SEED, MASK_KEY)
    assert vars(ward.parties[2])["_held"] == {}


# order


def flights(ward: Ward, party: Party) -> dict[Step, Callable[[], object]]:
    """Every call, under the step it leads to."""
    return {
        Step.ADVERTISED: party.advertise,
        Step.SHARED: lambda: party.share(ward.keys, ward.view),
        Step.FIXED: lambda: party.fix(ward.shares),
        Step.MASKED: lambda: party.mask(np.zeros(4, dtype=np.uint32)),
        Step.AGREED: lambda: party.agree((1, 2, 3, 4)),
        Step.OPENED: lambda: party.open((1, 2, 3, 4), (1, 2, 3, 4)),
    }


def test_every_call_out_of_order_is_refused() -> None:
    # R6.8.3 and the order of the steps: each once, in order, late flights by their own error
    ward = ready_to_fix()
    party = Party(ward.terms, 1, randomness=repeatable_source(SID + b"\1"))
    calls = flights(ward, party)
    for done in (Step.NEW, *calls):
        if done in calls:
            calls[done]()
        assert party.step == done
        for step, call in calls.items():
            if step != done + 1:
                with pytest.raises(StateError) as caught:
                    call()
                assert isinstance(caught.value, LateFlightError) <= (step <= done)
                assert isinstance(caught.value, StateError)
                assert party.step == done


@pytest.mark.parametrize("step", ["advertise", "share", "upload", "agree", "open"])
def test_erased_party_answers_nothing(step: str) -> None:
    # R6.13.1
    ward = ward_at(step)
    party = ward.parties[1]
    party.erase()
    party.erase()
    assert party.step is Step.ERASED
    assert "_own" not in vars(party)
    assert not vars(party)["_held"]
    assert not vars(party)["_streams"]
    for call in flights(ward, party).values():
        with pytest.raises(LateFlightError) as caught:
            call()
        assert caught.value.reason == "late"


def test_late_upload_of_a_dropped_party_is_useless() -> None:
    # its pair masks can be taken off, its self mask never: the vector stays uniform
    ward = ready_to_fix()
    ward.upload(late=(4,))
    ward.agree()
    ward.open()
    late = np.zeros(2**14, dtype=np.uint32)
    ward.parties[4].mask(late)
    kinds = {decode_opened(payload, sid=SID, party=i).kinds[3] for i, payload in ward.opened.items()}
    assert kinds == {MASK_KEY}
    counts = np.bincount(np.frombuffer(late.tobytes(), dtype=np.uint8), minlength=256)
    assert ((counts - 256) ** 2 / 256).sum() < 255 + 8 * 22.6
    with pytest.raises(CryptoError):
        ward.parties[4].agree((1, 2, 3))


def test_repr_shows_index_and_step_only() -> None:
    # R6.13.2
    ward = ready_to_fix()
    assert repr(ward.parties[1]) == "Party(index=1, step=SHARED)"
    own = vars(ward.parties[1])["_own"]
    seeds = [value for value in vars(own).values() if isinstance(value, bytes)]
    shown = " ".join(repr(value) for value in (own, own.share_key, own.mask_key))
    assert shown == "Dealer(...) AgreementKey(...) AgreementKey(...)"
    assert len(seeds) == 2
