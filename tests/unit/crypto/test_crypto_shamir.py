"""Secret sharing: any T shares rebuild, fewer say nothing, bad bytes are refused."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_crypto.secagg.reference import repeatable_source
from fedmedlora_crypto.shamir import (
    PRIME,
    ShareValueError,
    combine_shares,
    parse_share,
    split_secret,
)


def is_probable_prime(number: int) -> bool:
    """Miller-Rabin with the first forty primes as bases."""
    bases = [p for p in range(2, 180) if all(p % d for d in range(2, p))][:40]
    odd, twos = number - 1, 0
    while odd % 2 == 0:
        odd, twos = odd // 2, twos + 1
    for base in bases:
        x = pow(base, odd, number)
        if x in (1, number - 1):
            continue
        if not any((x := x * x % number) == number - 1 for _ in range(twos - 1)):
            return False
    return True


def test_modulus_is_prime() -> None:
    assert is_probable_prime(PRIME)
    assert PRIME > 2**256


@given(secret=st.binary(min_size=32, max_size=32), data=st.data())
def test_any_threshold_of_shares_rebuilds(secret: bytes, data: st.DataObject) -> None:
    # R6.6.1, R6.6.2
    n = data.draw(st.integers(2, 12))
    threshold = data.draw(st.integers(2, n))
    holders = data.draw(st.lists(st.integers(1, 1024), min_size=n, max_size=n, unique=True))
    shares = split_secret(secret, threshold=threshold, holders=holders, randomness=repeatable_source(secret))
    chosen = data.draw(st.permutations(holders))[: data.draw(st.integers(threshold, n))]
    assert combine_shares({x: shares[x] for x in chosen}) == secret


@pytest.mark.parametrize("secret", [bytes(32), b"\xff" * 32])
def test_extreme_secrets_rebuild_from_every_subset(secret: bytes) -> None:
    shares = split_secret(secret, threshold=3, holders=range(1, 6), randomness=repeatable_source(b"r"))
    for chosen in itertools.combinations(shares, 3):
        assert combine_shares({x: shares[x] for x in chosen}) == secret


def test_fewer_shares_fit_every_secret() -> None:
    # R6.6.1: for any other secret there is a share that completes T - 1 real ones, so they say nothing.
    shares = split_secret(b"s" * 32, threshold=3, holders=(1, 2, 3), randomness=repeatable_source(b"r"))
    for wanted in (bytes(32), b"\xff" * 32):
        # Solve f(0) = wanted through (1, y1), (2, y2): f(3) = f(0) - 3 f(1) + 3 f(2) for degree two.
        y1, y2 = parse_share(shares[1]), parse_share(shares[2])
        y3 = (int.from_bytes(wanted, "big") - 3 * y1 + 3 * y2) % PRIME
        forged = {1: shares[1], 2: shares[2], 3: y3.to_bytes(33, "big")}
        assert combine_shares(forged) == wanted


def test_wrong_share_gives_another_secret_or_none() -> None:
    shares = split_secret(b"s" * 32, threshold=2, holders=(1, 2), randomness=repeatable_source(b"r"))
    bad = ((parse_share(shares[1]) + 1) % PRIME).to_bytes(33, "big")
    assert combine_shares({1: bad, 2: shares[2]}) != b"s" * 32


def test_result_above_a_secret_refused() -> None:
    # one share alone interpolates to itself: a value of 257 bits is no secret
    with pytest.raises(ShareValueError, match="rebuild"):
        combine_shares({1: (PRIME - 1).to_bytes(33, "big")})


@pytest.mark.parametrize("share", [b"", bytes(32), bytes(34), PRIME.to_bytes(33, "big"), b"\xff" * 33])
def test_bytes_that_are_no_share_refused(share: bytes) -> None:
    # R6.6.4
    with pytest.raises(ShareValueError, match="encoding"):
        parse_share(share)


@pytest.mark.parametrize(
    ("threshold", "holders"), [(1, (1, 2)), (3, (1, 2)), (2, (0, 1)), (2, (1, 1)), (0, ()), (2, (-1, 2))]
)
def test_split_out_of_range_refused(threshold: int, holders: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="threshold"):
        split_secret(bytes(32), threshold=threshold, holders=holders, randomness=bytes)


def test_split_of_another_size_refused() -> None:
    with pytest.raises(ValueError, match="32 bytes"):
        split_secret(bytes(31), threshold=2, holders=(1, 2), randomness=bytes)
