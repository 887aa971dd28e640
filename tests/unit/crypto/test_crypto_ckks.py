"""CKKS: sums of encrypted ring integers are exact, small, and opened only when they are sums."""

from __future__ import annotations

import numpy as np
import pytest

from fedmedlora_crypto.ckks import (
    ChunkSum,
    PublicContext,
    SecretKey,
    SlotTerms,
    Workers,
    check_pair,
    generate,
)
from fedmedlora_crypto.ckks import library as library_module
from fedmedlora_crypto.ckks.keys import PUBLIC_MAGIC, SECRET_MAGIC
from fedmedlora_crypto.ckks.parameters import (
    CIPHERTEXT_BYTES,
    MODULUS,
    SLOTS,
)
from fedmedlora_crypto.ckks.stream import add_chunks, encrypt_chunk, open_sum, read_chunk
from fedmedlora_crypto.errors import MalformedError, ShortSurvivorsError, StateError, TermsError
from fedmedlora_testkit.ckks_vectors import ring_vectors, summed

Pair = tuple[PublicContext, SecretKey]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return generate()


# -- exact sums


@pytest.mark.parametrize("ring_bits", [16, 24, 32])
@pytest.mark.parametrize("parties", [3, 10])
def test_an_encrypted_sum_of_any_width_equals_the_ring_sum_bit_for_bit(
    pair: Pair, ring_bits: int, parties: int
) -> None:
    """R6.16.3: rounding takes the noise off; what is left is what masks give."""
    context, secret = pair
    terms = SlotTerms(ring_bits, parties)
    vectors = ring_vectors(parties, SLOTS + 37, ring_bits)
    cipher = context.cipher(terms)
    sealed = [(i, encrypt_chunk(cipher, terms, v)) for i, v in enumerate(vectors, start=1)]
    found = add_chunks(terms, sealed, values=SLOTS + 37, threshold=3).open(secret.cipher(context, terms))
    assert np.array_equal(found.words, summed(vectors, ring_bits))
    assert 0 < found.deviation <= terms.deviation_bound, "the bound holds, and there was noise to take off"


def test_without_rounding_the_noise_would_be_published(pair: Pair) -> None:
    context, secret = pair
    terms = SlotTerms(32, 3)
    cipher = context.cipher(terms)
    opened = secret.cipher(context, terms).decrypt(cipher.encrypt(np.arange(SLOTS, dtype=np.int64)))
    assert not np.array_equal(opened, np.arange(SLOTS)), "raw slots are not integers"
    assert np.array_equal(np.rint(opened), np.arange(SLOTS))


@pytest.mark.parametrize(("ring_bits", "n"), [(45, 3), (40, 10**6)])
def test_terms_whose_noise_could_reach_half_a_quantum_are_refused(ring_bits: int, n: int) -> None:
    with pytest.raises(TermsError, match="quanta"):
        SlotTerms(ring_bits, n)


@pytest.mark.parametrize(("ring_bits", "n"), [(1, 3), (53, 3), (24, 0)])
def test_terms_out_of_range_are_refused(ring_bits: int, n: int) -> None:
    with pytest.raises(TermsError):
        SlotTerms(ring_bits, n)


def test_without_the_bound_a_sum_would_come_out_wrong(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """A ring so wide that noise exceeds half a quantum: the sum looks like one and is another."""
    monkeypatch.setattr("fedmedlora_crypto.ckks.parameters.MOST_DEVIATION", float("inf"))
    monkeypatch.setattr("fedmedlora_crypto.ckks.stream.MOST_DEVIATION", float("inf"))
    context, secret = pair
    terms = SlotTerms(49, 3)
    values = np.full(SLOTS, 2**20, dtype=np.uint32)
    sealed = [(i, encrypt_chunk(context.cipher(terms), terms, values)) for i in range(3)]
    found = add_chunks(terms, sealed, values=SLOTS, threshold=3).open(secret.cipher(context, terms))
    assert not np.array_equal(found.words, 3 * values)


def test_adding_coefficients_is_what_the_library_itself_does(pair: Pair) -> None:
    context, _ = pair
    terms = SlotTerms(24, 3)
    cipher = context.cipher(terms)
    tenseal = library_module.library()
    left, right = (tenseal.ckks_vector(cipher._context, np.arange(SLOTS), scale=cipher._scale) for _ in "ab")

    def coefficients(vector: object) -> bytes:
        fields = library_module._fields(vector.serialize())  # type: ignore[attr-defined]
        return library_module._content(fields[1][2])[-CIPHERTEXT_BYTES:]

    total = add_chunks(terms, [(1, coefficients(left)), (2, coefficients(right))], values=SLOTS, threshold=2)
    assert total.coefficients == coefficients(left + right)


# -- what is opened


@pytest.mark.parametrize("parties", [0, 1, 2])
def test_a_sum_of_fewer_than_the_threshold_is_not_opened(pair: Pair, parties: int) -> None:
    """R6.16.6: one site's ciphertext called "the sum" stays closed."""
    context, secret = pair
    terms = SlotTerms(24, 3)
    vector = ring_vectors(3, 5, 24)[0]
    sealed = [(i, encrypt_chunk(context.cipher(terms), terms, vector)) for i in range(parties)]
    found = add_chunks(terms, sealed, values=5, threshold=3)
    with pytest.raises(ShortSurvivorsError):
        found.open(secret.cipher(context, terms))
    with Workers(terms, context, secret=secret, chunks=1) as workers, pytest.raises(ShortSurvivorsError):
        list(workers.open([found]))


def test_without_the_threshold_one_sites_update_would_be_read(pair: Pair) -> None:
    context, secret = pair
    terms = SlotTerms(24, 3)
    vector = ring_vectors(3, 5, 24)[0]
    alone = add_chunks(
        terms, [(1, encrypt_chunk(context.cipher(terms), terms, vector))], values=5, threshold=0
    )
    assert np.array_equal(alone.open(secret.cipher(context, terms)).words, vector)


def test_one_party_counts_once(pair: Pair) -> None:
    """Three copies of one upload under one name are not a sum of three."""
    context, _ = pair
    terms = SlotTerms(24, 3)
    data = encrypt_chunk(context.cipher(terms), terms, np.ones(5, dtype=np.uint32))
    found = ChunkSum(terms, values=5, threshold=3)
    found.add(1, data)
    with pytest.raises(MalformedError) as error:
        found.add(1, data)
    assert error.value.party == 1


def test_a_sum_that_is_no_sum_of_integers_is_refused(pair: Pair) -> None:
    context, secret = pair
    terms = SlotTerms(24, 3)
    random = np.random.default_rng(3).integers(0, MODULUS, CIPHERTEXT_BYTES // 8, dtype=np.uint64)
    sealed = [(i, encrypt_chunk(context.cipher(terms), terms, np.ones(5, np.uint32))) for i in (1, 2)]
    found = add_chunks(terms, [*sealed, (3, random.tobytes())], values=5, threshold=3)
    with pytest.raises(MalformedError):
        found.open(secret.cipher(context, terms))


def test_an_integer_beyond_the_ring_is_refused(pair: Pair) -> None:
    context, secret = pair
    terms = SlotTerms(24, 3)
    cipher = context.cipher(terms)
    beyond = cipher.encrypt(np.array([2**23 + 1], dtype=np.int64))
    with pytest.raises(MalformedError):
        open_sum(secret.cipher(context, terms), terms, beyond, values=1)
    with pytest.raises(TermsError):
        encrypt_chunk(cipher, terms, np.array([2**24], dtype=np.uint32))


def test_a_site_that_works_with_the_coordinator_can_read_another_one(pair: Pair) -> None:
    """A limit, not a guarantee (SECURITY.md, "What CKKS does not give"): ciphertexts can be multiplied.

    The colluder is handed the victim's ciphertexts by the coordinator and uploads a thousand times them. The
    lawful sum of three then is the victim's update, but for a thousandth part. Masks have no such multiple.
    """
    context, secret = pair
    terms = SlotTerms(32, 3)
    victim, other = (np.random.default_rng(s).integers(0, 1000, 50).astype(np.uint32) for s in (1, 2))
    cipher = context.cipher(terms)
    stolen = encrypt_chunk(cipher, terms, victim)
    words = np.frombuffer(stolen, dtype="<u8")
    multiple = np.array([int(word) * 1000 % MODULUS for word in words], dtype="<u8").tobytes()
    chunks = [(1, stolen), (2, encrypt_chunk(cipher, terms, other)), (3, multiple)]
    opened = add_chunks(terms, chunks, values=50, threshold=3).open(secret.cipher(context, terms))
    assert np.array_equal(opened.words // 1001, victim)


# -- bytes of others


@pytest.mark.parametrize("change", [-8, 8, CIPHERTEXT_BYTES])
def test_a_chunk_of_another_size_is_malformed(change: int) -> None:
    with pytest.raises(MalformedError) as error:
        read_chunk(bytes(CIPHERTEXT_BYTES + change), values=SLOTS, party=4)
    assert error.value.party == 4


def test_a_coefficient_that_is_not_reduced_is_malformed() -> None:
    words = np.zeros(CIPHERTEXT_BYTES // 8, dtype=np.uint64)
    words[77] = MODULUS
    with pytest.raises(MalformedError):
        read_chunk(words.tobytes(), values=1)
    words[77] = MODULUS - 1
    assert read_chunk(words.tobytes(), values=1)[77] == MODULUS - 1


def test_key_files_have_one_form(pair: Pair) -> None:
    context, secret = pair
    assert PublicContext.decode(context.encode()).digest == context.digest
    assert SecretKey.decode(secret.encode()).encode() == secret.encode()
    check_pair(context, SecretKey.decode(secret.encode()))


@pytest.mark.parametrize("defect", ["short", "long", "magic", "not reduced", "secret", "empty"])
def test_a_context_of_another_form_is_malformed(pair: Pair, defect: str) -> None:
    """R6.16.1: a public context is a public key and nothing else."""
    context, secret = pair
    good = context.encode()
    bad = {
        "short": good[:-1],
        "long": good + b"\0",
        "magic": b"X" + good[1:],
        "not reduced": good[: len(PUBLIC_MAGIC)] + b"\xff" * 8 + good[len(PUBLIC_MAGIC) + 8 :],
        "secret": secret.encode(),
        "empty": b"",
    }[defect]
    with pytest.raises(MalformedError):
        PublicContext.decode(bad)


@pytest.mark.parametrize("defect", ["short", "long", "magic", "not reduced", "public", "empty"])
def test_a_secret_key_of_another_form_is_malformed(pair: Pair, defect: str) -> None:
    context, secret = pair
    good = secret.encode()
    start = len(SECRET_MAGIC) + 32
    bad = {
        "short": good[:-1],
        "long": good + b"\0",
        "magic": b"X" + good[1:],
        "not reduced": good[:start] + b"\xff" * 8 + good[start + 8 :],
        "public": context.encode(),
        "empty": b"",
    }[defect]
    with pytest.raises(MalformedError):
        SecretKey.decode(bad)


def test_a_key_of_another_context_is_refused(pair: Pair) -> None:
    context, _ = pair
    _, other = generate()
    with pytest.raises(StateError):
        check_pair(context, other)
    forged = bytearray(other.encode())
    forged[len(SECRET_MAGIC) : len(SECRET_MAGIC) + 32] = bytes.fromhex(context.digest)
    with pytest.raises(MalformedError, match="does not open"):
        check_pair(context, SecretKey.decode(bytes(forged)))


def test_no_text_form_shows_a_key(pair: Pair) -> None:
    context, secret = pair
    assert repr(secret) == "SecretKey(…)"
    assert "coefficients" not in repr(context)
    assert repr(secret.cipher(context, SlotTerms(24, 3))) == "Cipher(…)"
    assert repr(Workers(SlotTerms(24, 3), context, secret=secret, chunks=1)) == "Workers(1)"
