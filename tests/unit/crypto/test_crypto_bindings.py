"""Every part of every binding counts alone: change one, and the bytes are others."""

from collections.abc import Callable

import pytest

from fedmedlora_crypto.encoding import encode_index
from fedmedlora_crypto.errors import SealedBoxError
from fedmedlora_crypto.keys import Binding, pair_info, party_info
from fedmedlora_crypto.secagg import HYBRID_SUITE, MASKED_SUITE, SUITES, boxes, masks
from fedmedlora_crypto.secagg.messages import SharesMessage

A, B = b"a" * 32, b"b" * 32
HYBRID = SUITES[HYBRID_SUITE]


def varied(make: Callable[..., object], first: dict[str, object], other: dict[str, object]) -> None:
    """Changing any one argument changes the result."""
    start = make(**first)
    for name, value in other.items():
        assert make(**(first | {name: value})) != start, name


def bound(sid: bytes, view: bytes, suite: str) -> Binding:
    return Binding(sid, view, suite)


FIRST: dict[str, object] = {"sid": A, "view": A, "suite": MASKED_SUITE}
OTHER: dict[str, object] = {"sid": B, "view": B, "suite": HYBRID_SUITE}


def test_party_info() -> None:
    # R6.3.4
    def make(sid: bytes, view: bytes, suite: str, label: bytes, party: int) -> bytes:
        return party_info(label, bound(sid, view, suite), party)

    varied(make, FIRST | {"label": A, "party": 1}, OTHER | {"label": B, "party": 2})


def test_pair_info() -> None:
    # R6.3.4
    def make(
        sid: bytes,
        view: bytes,
        suite: str,
        label: bytes,
        low: int,
        low_key: bytes,
        high: int,
        key: bytes,
    ) -> bytes:
        return pair_info(label, bound(sid, view, suite), (low, low_key), (high, key))

    first = {"label": A, "low": 2, "low_key": A, "high": 4, "key": B}
    varied(make, FIRST | first, OTHER | {"label": B, "low": 1, "low_key": B, "high": 5, "key": A})


def test_box_context() -> None:
    # R6.5.2
    def make(sid: bytes, view: bytes, suite: str, dealer: int, holder: int) -> bytes:
        return boxes.share_box_context(bound(sid, view, suite), dealer=dealer, holder=holder)

    other = OTHER | {"dealer": 3, "holder": 4}
    varied(make, FIRST | {"dealer": 1, "holder": 2}, {k: v for k, v in other.items() if k != "suite"})


@pytest.mark.parametrize("suite", [MASKED_SUITE, HYBRID_SUITE])
def test_box_key_differs_by_direction_and_wrapped_secret(suite: str) -> None:
    # R6.5.1, R6.14.3
    binding = bound(A, A, suite)
    one, two = (masks.share_agreement_key(SUITES[suite], seed, sid=A) for seed in (A, B))
    keys = {
        boxes.share_box_key(binding, (1, one), (2, two.public), dealer=dealer, secret=secret)
        for dealer in (1, 2)
        for secret in (b"", A, B)
    }
    assert len(keys) == 6
    other_side = boxes.share_box_key(binding, (2, two), (1, one.public), dealer=1, secret=A)
    assert other_side in keys


def test_hybrid_pair_secret_and_its_wrap() -> None:
    # R6.14.3: bound to session, view, suite and both indices; opens for nobody else and nowhere else
    key = masks.mask_agreement_key(HYBRID, B, sid=A)

    def secret(sid: bytes, view: bytes, party: int, peer: int) -> bytes:
        wrapped = masks.wrap_pair_secret(bound(sid, view, HYBRID_SUITE), A, party, (peer, key.public))
        message = SharesMessage(party, view, (party, peer), b"", (), (wrapped,))
        return masks.pair_secret(bound(sid, view, HYBRID_SUITE), (peer, key), B, message)

    varied(
        secret,
        {"sid": A, "view": A, "party": 1, "peer": 3},
        {"sid": B, "view": B, "party": 2, "peer": 4},
    )


@pytest.mark.parametrize(
    ("sid", "view", "low", "high"), [(B, A, 1, 3), (A, B, 1, 3), (A, A, 2, 3), (A, A, 1, 4)]
)
def test_hybrid_wrap_opens_under_its_own_binding_only(sid: bytes, view: bytes, low: int, high: int) -> None:
    # R6.14.3
    key = masks.mask_agreement_key(HYBRID, B, sid=A)
    wrapped = masks.wrap_pair_secret(bound(A, A, HYBRID_SUITE), A, 1, (3, key.public))
    message = SharesMessage(low, view, (low, high), b"", (), (wrapped,))
    with pytest.raises(SealedBoxError):
        masks.pair_secret(bound(sid, view, HYBRID_SUITE), (high, key), B, message)


def test_index_in_a_binding_cannot_run_into_the_next_field() -> None:
    # R6.1.1
    assert party_info(A, bound(A, A, "s"), 0x0102) != party_info(A, bound(A, A, "s\1"), 2)
    assert len(encode_index(1)) == len(encode_index(1024))
