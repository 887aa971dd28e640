"""Shamir's secret sharing of 32-byte secrets over the prime 2**256 + 297 (PROTOCOL §6.6).

A secret is a number below 2**256, so every 32-byte string is one; a share is a number below the prime in
33 bytes. The x-coordinate of a share is the index of the party that holds it, never 0.

What is not here: checking that a share is the one that was dealt (`secagg.masks.share_commitment`), and
protection against timing: Python integers do not run in constant time.
"""

from collections.abc import Callable, Collection, Mapping
from functools import lru_cache
from math import prod

PRIME = 2**256 + 297
SECRET_BYTES = 32
SHARE_BYTES = 33
_LAZY_STEPS = (
    12  # multiplications by a small index between two reductions: fewer of them, numbers still small
)
_COEFFICIENT_BYTES = 48  # reduced modulo the prime this is within 2**-127 of uniform


class ShareValueError(ValueError):
    """Bytes are not a share, or shares do not rebuild a 32-byte secret."""


def split_secret(
    secret: bytes, *, threshold: int, holders: Collection[int], randomness: Callable[[int], bytes]
) -> dict[int, bytes]:
    """Split a secret so that any `threshold` shares rebuild it (R6.6.1).

    Args:
        secret: 32 bytes.
        threshold: Shares needed to rebuild; 2 <= threshold <= len(holders).
        holders: Distinct party indices >= 1.
        randomness: Gives that many uniform bytes.

    Returns:
        The 33-byte share of each holder.

    Raises:
        ValueError: A bound above is broken (the caller's mistake).

    Guarantees:
        Fewer than `threshold` shares are independent of `secret`.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes")
    if not 2 <= threshold <= len(set(holders)) == len(holders) or min(holders) < 1:
        raise ValueError("2 <= threshold <= number of distinct holders, each index at least 1")
    draws = [int.from_bytes(randomness(_COEFFICIENT_BYTES), "big") % PRIME for _ in range(threshold - 1)]
    coefficients = [*draws, int.from_bytes(secret, "big")]  # highest power first
    return {x: _evaluate(coefficients, x).to_bytes(SHARE_BYTES, "big") for x in holders}


def combine_shares(shares: Mapping[int, bytes]) -> bytes:
    """Rebuild the secret from exactly as many shares as were needed, or more (R6.6.2).

    Args:
        shares: 33-byte share of each holder. Fewer than the threshold give an unrelated secret; the caller
            checks the result against what the dealer announced.

    Raises:
        ShareValueError: A share is not below the prime, or the result is no 32-byte number.
    """
    holders = tuple(sorted(shares))
    values = [parse_share(shares[x]) for x in holders]
    total = sum(weight * value for weight, value in zip(_lagrange(holders), values, strict=True)) % PRIME
    if total >> (8 * SECRET_BYTES):
        raise ShareValueError("shares do not rebuild a 32-byte secret")
    return total.to_bytes(SECRET_BYTES, "big")


def parse_share(share: bytes) -> int:
    """Read a share.

    Raises:
        ShareValueError: Wrong size, or not below the prime.
    """
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise ShareValueError("not the encoding of a share")
    return value


def _evaluate(coefficients: list[int], x: int) -> int:
    total = 0
    for start in range(0, len(coefficients), _LAZY_STEPS):
        for coefficient in coefficients[start : start + _LAZY_STEPS]:
            total = total * x + coefficient
        total %= PRIME
    return total


@lru_cache(maxsize=64)
def _lagrange(holders: tuple[int, ...]) -> tuple[int, ...]:
    """Return the weights that evaluate the polynomial at 0; one set serves all secrets of a round."""
    # w_x = prod(others) / prod(others - x) = prod(all) / (x prod(others - x)), with one inversion for all x
    every = prod(holders) % PRIME
    divisors = [x * prod(other - x for other in holders if other != x) % PRIME for x in holders]
    before = [1]
    for divisor in divisors:
        before.append(before[-1] * divisor % PRIME)
    inverse = pow(before.pop(), -1, PRIME)
    weights = []
    for divisor, product in zip(reversed(divisors), reversed(before), strict=True):
        weights.append(every * inverse % PRIME * product % PRIME)
        inverse = inverse * divisor % PRIME
    return tuple(reversed(weights))
