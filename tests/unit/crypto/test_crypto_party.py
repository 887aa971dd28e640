"""A party refuses what a malicious coordinator or peer could send, each with its own error."""

from collections.abc import Callable

import numpy as np
import pytest

from fedmedlora_crypto.errors import (
    AlreadyAgreedError,
    AlreadyOpenedError,
    BothSeedsError,
    CryptoError,
    DuplicateIndexError,
    LateFlightError,
    MaskReusedError,
    NotIncludedError,
    NotInRosterError,
    ShortSurvivorsError,
    StateError,
)
from fedmedlora_crypto.secagg import Party
from fedmedlora_crypto.secagg.messages import MASK_KEY, SELF_SEED, OpenedMessage, decode_opened
from fedmedlora_crypto.secagg.party import Step
from fedmedlora_crypto.secagg.reference import repeatable_source
from fedmedlora_testkit.secagg import SID, Ward, vectors_of

MASK_KEY_AT = slice(68, 100)


def ward_at(step: str, n: int = 4) -> Ward:
    ward = Ward(n)
    return ward.run_to(getattr(ward, step))


def ready_to_fix(n: int = 4) -> Ward:
    return ward_at("share", n)


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
