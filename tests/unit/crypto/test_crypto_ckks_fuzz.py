"""Hostile bytes: every decoder of the CKKS suite gives one error, and the library is never handed a head."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedmedlora_crypto.ckks import PublicContext, SecretKey, SlotTerms, add_chunks, generate
from fedmedlora_crypto.ckks.keys import PUBLIC_MAGIC, SECRET_MAGIC
from fedmedlora_crypto.ckks.library import PUBLIC_KEY_BYTES, SECRET_KEY_BYTES
from fedmedlora_crypto.ckks.parameters import CIPHERTEXT_BYTES, MODULUS, SLOTS
from fedmedlora_crypto.ckks.stream import encrypt_chunk, read_chunk
from fedmedlora_crypto.errors import MalformedError

TERMS = SlotTerms(24, 3)


@cache
def pair() -> tuple[PublicContext, SecretKey]:
    return generate()


def altered(data: bytes, at: int, change: bytes) -> bytes:
    """The bytes with a piece overwritten somewhere."""
    at %= len(data)
    return (data[:at] + change + data[at + len(change) :])[: len(data)]


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, PUBLIC_KEY_BYTES), change=st.binary(max_size=64))
def test_no_bytes_make_a_context_decoder_raise_anything_else(data: bytes, at: int, change: bytes) -> None:
    for candidate in (data, PUBLIC_MAGIC + data, altered(pair()[0].encode(), at, change)):
        try:
            found = PublicContext.decode(candidate)
        except MalformedError:
            continue
        assert found.encode() == candidate, "what decodes has one encoding"


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), at=st.integers(0, SECRET_KEY_BYTES), change=st.binary(max_size=64))
def test_no_bytes_make_a_key_decoder_raise_anything_else(data: bytes, at: int, change: bytes) -> None:
    for candidate in (data, SECRET_MAGIC + data, altered(pair()[1].encode(), at, change)):
        try:
            found = SecretKey.decode(candidate)
        except MalformedError:
            continue
        assert found.encode() == candidate


@settings(max_examples=60, deadline=None)
@given(
    data=st.binary(max_size=300),
    at=st.integers(0, CIPHERTEXT_BYTES),
    change=st.binary(max_size=64),
    values=st.integers(1, SLOTS),
)
def test_no_bytes_make_the_chunk_reader_raise_anything_else(
    data: bytes, at: int, change: bytes, values: int
) -> None:
    for candidate in (data, altered(bytes(CIPHERTEXT_BYTES), at, change)):
        try:
            words = read_chunk(candidate, values=values, party=2)
        except MalformedError as error:
            assert error.party == 2
            continue
        assert int(words.max()) < MODULUS


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32), kind=st.sampled_from(["random", "zero", "most", "shifted", "sparse"]))
def test_no_coefficients_make_the_library_do_anything_but_decrypt(seed: int, kind: str) -> None:
    """Reduced coefficients of any value either open to integers of the ring or are refused as malformed."""
    context, secret = pair()
    random = np.random.default_rng(seed)
    count = CIPHERTEXT_BYTES // 8
    words = {
        "random": random.integers(0, MODULUS, count, dtype=np.uint64),
        "zero": np.zeros(count, dtype=np.uint64),
        "most": np.full(count, MODULUS - 1, dtype=np.uint64),
        "shifted": np.frombuffer(
            encrypt_chunk(context.cipher(TERMS), TERMS, np.ones(9, np.uint32)), dtype="<u8"
        ),
        "sparse": np.where(np.arange(count) == seed % count, np.uint64(seed + 1), np.uint64(0)),
    }[kind]
    found = add_chunks(TERMS, [(1, words.astype("<u8").tobytes())], values=SLOTS, threshold=1)
    try:
        opened = found.open(secret.cipher(context, TERMS))
    except MalformedError:
        assert kind != "shifted"
    else:
        assert int(opened.words.max()) < 2**24


@pytest.mark.parametrize("flip", [0, 7, 100_000])
def test_a_flipped_ciphertext_does_not_open_to_a_neighbouring_sum(flip: int) -> None:
    """One changed coefficient spreads over all slots: what opens is no integer, or far away."""
    context, secret = pair()
    true = bytearray(encrypt_chunk(context.cipher(TERMS), TERMS, np.ones(9, np.uint32)))
    true[flip // 8 * 8 + 6] ^= 1
    found = add_chunks(TERMS, [(1, bytes(true))], values=9, threshold=1)
    with pytest.raises(MalformedError):
        found.open(secret.cipher(context, TERMS))
