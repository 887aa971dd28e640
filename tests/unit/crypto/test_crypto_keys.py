"""X25519 keys and derivations: what is refused and what is bound."""

import itertools

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_crypto import labels
from fedmedlora_crypto.errors import LowOrderKeyError, MalformedKeyError, PeerError
from fedmedlora_crypto.keys import (
    FIELD_PRIME,
    LOW_ORDER_POINTS,
    AgreementKey,
    Binding,
    check_public_key,
    derive_key,
    pair_info,
    party_info,
)

SID, VIEW = b"s" * 32, b"v" * 32
BINDING = Binding(SID, VIEW, "suite")


def key_of(seed: int) -> AgreementKey:
    return AgreementKey(bytes([seed]) * 32, label=b"label", sid=SID)


def test_exchange_agrees() -> None:
    one, two = key_of(1), key_of(2)
    assert one.exchange(two.public) == two.exchange(one.public)


@pytest.mark.parametrize("point", sorted(LOW_ORDER_POINTS))
def test_low_order_key_refused(point: bytes) -> None:
    # R6.3.2
    with pytest.raises(LowOrderKeyError) as caught:
        check_public_key(point, party=7)
    assert caught.value.party == 7
    assert caught.value.left_out == "low_order_key"
    with pytest.raises(LowOrderKeyError):
        key_of(1).exchange(point)


def test_low_order_list_is_right() -> None:
    # The library refuses exactly such keys at the exchange (all-zero result), whatever the private key.
    for point in LOW_ORDER_POINTS:
        with pytest.raises(ValueError, match="shared key"):
            X25519PrivateKey.from_private_bytes(b"k" * 32).exchange(X25519PublicKey.from_public_bytes(point))


@pytest.mark.parametrize("excess", range(19))
def test_unreduced_coordinate_refused(excess: int) -> None:
    # R6.3.1: p .. 2**255 - 1 encode 0 .. 18 a second time
    with pytest.raises(MalformedKeyError) as caught:
        check_public_key((FIELD_PRIME + excess).to_bytes(32, "little"))
    assert caught.value.left_out == "malformed_key"


def test_top_bit_reencoding_of_a_good_key_refused() -> None:
    # R6.3.1: X25519 itself ignores the bit, so this is the same key in other bytes
    good = key_of(1).public
    copy = good[:31] + bytes([good[31] | 0x80])
    peer = X25519PrivateKey.from_private_bytes(b"k" * 32)
    assert peer.exchange(X25519PublicKey.from_public_bytes(good)) == peer.exchange(
        X25519PublicKey.from_public_bytes(copy)
    )
    with pytest.raises(MalformedKeyError):
        check_public_key(copy)


@given(st.binary(max_size=40))
def test_any_bytes_pass_or_raise_peer_error(data: bytes) -> None:
    try:
        check_public_key(data)
    except PeerError:
        return
    assert len(data) == 32
    key_of(1).exchange(data)


def test_private_key_is_bound_to_purpose_and_session() -> None:
    # R6.3.3
    seed = b"x" * 32
    made = {
        AgreementKey(seed, label=label, sid=sid).public
        for label in (labels.SHARE_KEY_SEED, labels.MASK_KEY_SEED)
        for sid in (SID, VIEW)
    }
    assert len(made) == 4
    assert X25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() not in made


def test_every_part_of_the_info_changes_the_key() -> None:
    # R6.3.4, R6.2.1
    def pair(**change: object) -> bytes:
        case: dict[str, object] = {
            "label": b"l",
            "sid": SID,
            "view": VIEW,
            "suite": "s",
            "a": (1, b"A"),
            "b": (2, b"B"),
        }
        case |= change
        binding = Binding(case["sid"], case["view"], case["suite"])  # type: ignore[arg-type]
        info = pair_info(case["label"], binding, case["a"], case["b"])  # type: ignore[arg-type]
        return derive_key(b"k" * 32, info)

    changes: list[dict[str, object]] = [
        {},
        {"label": b"m"},
        {"sid": VIEW},
        {"view": SID},
        {"suite": "t"},
        {"a": (3, b"A")},
        {"a": (1, b"C")},
        {"b": (2, b"C")},
        {"b": (4, b"B")},
        {"a": (1, b"B"), "b": (2, b"A")},
    ]
    assert len({pair(**change) for change in changes}) == len(changes)
    assert pair() == pair(a=(2, b"B"), b=(1, b"A"))


def test_party_info_differs_by_party() -> None:
    infos = [party_info(b"l", BINDING, 1), party_info(b"l", BINDING, 2), party_info(b"m", BINDING, 1)]
    assert all(one != two for one, two in itertools.combinations(infos, 2))


def test_labels_are_distinct_and_versioned() -> None:
    # R6.2.1
    values = [value for name, value in vars(labels).items() if name.isupper() and isinstance(value, bytes)]
    assert len(set(values)) == len(values) >= 8
    assert all(value.startswith(b"fedmedlora/v1/") for value in values)


def test_repr_is_silent() -> None:
    # R6.13.2
    assert repr(key_of(1)) == "AgreementKey(...)"
