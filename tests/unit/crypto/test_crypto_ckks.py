"""CKKS: sums of encrypted ring integers are exact, small, and opened only when they are sums."""

from __future__ import annotations

import os
import resource
import select
import subprocess
import sys
import time
from contextlib import suppress

import numpy as np
import pytest

from fedmedlora_crypto.ckks import (
    ChunkSum,
    PublicContext,
    SecretKey,
    SizePlan,
    SlotTerms,
    Workers,
    check_pair,
    chunk_count,
    chunk_values,
    generate,
    plan,
    upload_bytes,
)
from fedmedlora_crypto.ckks import library as library_module
from fedmedlora_crypto.ckks import workers as workers_module
from fedmedlora_crypto.ckks.keys import PUBLIC_MAGIC, SECRET_MAGIC
from fedmedlora_crypto.ckks.library import Cipher
from fedmedlora_crypto.ckks.parameters import (
    CHUNK_VALUES,
    CIPHERTEXT_BYTES,
    MODULUS,
    SLOTS,
)
from fedmedlora_crypto.ckks.stream import add_chunks, encrypt_chunk, open_sum, read_chunk
from fedmedlora_crypto.errors import MalformedError, ShortSurvivorsError, StateError, TermsError

Pair = tuple[PublicContext, SecretKey]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return generate()


def ring_vectors(parties: int, values: int, ring_bits: int, seed: int = 1) -> list[np.ndarray]:
    """Vectors whose signed sum fills the ring to the last integer, as encoded updates may."""
    bound = (2 ** (ring_bits - 1) - 1) // parties
    random = np.random.default_rng(seed)
    found = []
    for _ in range(parties):
        signed = random.integers(-bound, bound, values, endpoint=True)
        signed[0], signed[-1] = bound, -bound
        found.append((signed & (2**ring_bits - 1)).astype(np.uint32))
    return found


def summed(vectors: list[np.ndarray], ring_bits: int) -> np.ndarray:
    """The sum that masks would give."""
    total = np.stack(vectors).astype(np.uint64).sum(axis=0) & np.uint64(2**ring_bits - 1)
    return np.asarray(total, dtype=np.uint32)


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


# -- workers, sizes


def test_chunks_line_up_with_the_chunks_of_a_blob(pair: Pair) -> None:
    context, secret = pair
    terms = SlotTerms(24, 3)
    vectors = ring_vectors(3, CHUNK_VALUES + 5, 24)
    heard: list[tuple[int, int]] = []
    with Workers(terms, context, secret=secret, chunks=2) as workers:
        streams = [list(workers.encrypt(v, progress=lambda *done: heard.append(done))) for v in vectors]
        assert [len(chunk) for chunk in streams[0]] == [1 << 20, CIPHERTEXT_BYTES]
        assert sum(map(len, streams[0])) == upload_bytes(CHUNK_VALUES + 5)
        sums = [
            add_chunks(
                terms,
                [(i, s[k]) for i, s in enumerate(streams)],
                values=chunk_values(CHUNK_VALUES + 5, k),
                threshold=3,
            )
            for k in range(chunk_count(CHUNK_VALUES + 5))
        ]
        opened = np.concatenate([found.words for found in workers.open(sums)])
    assert np.array_equal(opened, summed(vectors, 24))
    assert heard[:2] == [(1, 2), (2, 2)]


@pytest.mark.slow
def test_several_processes_give_the_same_sum_as_one(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmedlora_crypto.ckks.workers.WORTH_PROCESSES", 1)
    context, secret = pair
    terms = SlotTerms(32, 3)
    vectors = ring_vectors(3, 5 * CHUNK_VALUES + 1, 32)
    with Workers(terms, context, secret=secret, chunks=6, cores=2) as workers:
        assert workers.count == 2
        streams = [list(workers.encrypt(vector)) for vector in vectors]
        sums = [
            add_chunks(
                terms,
                [(i, s[k]) for i, s in enumerate(streams)],
                values=chunk_values(5 * CHUNK_VALUES + 1, k),
                threshold=3,
            )
            for k in range(6)
        ]
        opened = np.concatenate([found.words for found in workers.open(sums)])
        short = add_chunks(terms, [(1, streams[0][0])], values=CHUNK_VALUES, threshold=3)
        with pytest.raises(ShortSurvivorsError):
            list(workers.open([short]))
    assert np.array_equal(opened, summed(vectors, 32))


def test_what_a_worker_process_does_is_what_this_process_does(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    context, secret = pair
    terms = SlotTerms(24, 3)
    monkeypatch.setattr(workers_module, "_worker", {})
    workers_module._begin(terms, context.encode(), None)
    sealed = workers_module._encrypt(np.full(3, 5, dtype=np.uint32))
    workers_module._begin(terms, context.encode(), secret.encode())
    assert list(workers_module._open(sealed, 3).words) == [5, 5, 5]


def test_a_worker_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[object] = []

    class Parent:
        def join(self) -> None:
            ended.append("parent")

    monkeypatch.setattr("fedmedlora_crypto.ckks.workers.multiprocessing.parent_process", Parent)
    monkeypatch.setattr("fedmedlora_crypto.ckks.workers.os._exit", ended.append)
    workers_module._end_with_parent()
    assert ended == ["parent", 1]


@pytest.mark.slow
def test_worker_processes_do_not_outlive_a_killed_site() -> None:
    """kill -9 leaves nobody behind who still has the key in memory."""
    code = """
import os, signal, sys, multiprocessing
from fedmedlora_crypto.ckks import SlotTerms, Workers, generate
import fedmedlora_crypto.ckks.workers as w
import numpy as np
if __name__ == "__main__":
    w.WORTH_PROCESSES = 1
    context, secret = generate()
    workers = Workers(SlotTerms(24, 3), context, secret=secret, chunks=2, cores=2)
    list(workers.encrypt(np.ones(5, dtype=np.uint32)))
    print(*[child.pid for child in multiprocessing.active_children()], flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    pids = [int(pid) for pid in done.stdout.split()]
    assert pids, done.stderr
    for pid in pids:
        with suppress(ProcessLookupError):  # it has ended already
            descriptor = os.pidfd_open(pid)
            assert select.select([descriptor], [], [], 20)[0], "it ends with its parent"
            os.close(descriptor)


@pytest.mark.slow
def test_memory_does_not_grow_with_the_upload(pair: Pair) -> None:
    """Encrypting three million values takes the chunks in flight beside the vector, not the 94 MB upload."""
    context, _ = pair
    terms = SlotTerms(24, 3)
    vector = np.zeros(3_000_000, dtype=np.uint32)
    with Workers(terms, context, chunks=1, cores=1) as workers:
        chunks = workers.encrypt(vector)
        next(chunks)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        total = sum(len(chunk) for chunk in chunks)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
    assert total > 90 * 2**20
    assert grown < 16 * 2**20


@pytest.mark.parametrize("values", [1_310_721, 11_300_000])
def test_an_upload_of_a_real_adapter_stays_within_eight_and_a_half_times_fp32(values: int) -> None:
    found = SizePlan(values, 8)
    assert found.expansion <= 8.5
    assert found.upload_bytes == -(-values // SLOTS) * CIPHERTEXT_BYTES
    assert found.holder_bytes == 8 * found.upload_bytes
    assert found.memory_bytes < found.upload_bytes, "memory does not grow with the upload"


def test_a_plan_is_measured_and_says_sizes_before_a_round() -> None:
    found = plan(1_310_721, 4, ring_bits=32, clock=time.perf_counter, cores=2)
    lines = "\n".join(found.lines())
    assert "321 ciphertexts" in lines and "times plain fp32" in lines and "to encrypt" in lines
    assert found.encrypt_seconds > 0 and found.decrypt_seconds > 0
    assert len(SizePlan(10, 3).lines()) == 3, "nothing measured, nothing claimed"
    with pytest.raises(TermsError):
        SizePlan(0, 3).expansion  # noqa: B018


# -- the library


def test_a_missing_library_is_named_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    library_module.library.cache_clear()
    monkeypatch.setitem(sys.modules, "tenseal", None)
    with pytest.raises(library_module.LibraryError, match=r"fedmedlora\[ckks\]"):
        generate()
    library_module.library.cache_clear()


def seal_object(mode: int, body: bytes) -> bytes:
    """An object with a right header."""
    return b"\x5e\xa1\x10\x04\x03" + bytes([mode, 0, 0]) + (16 + len(body)).to_bytes(8, "little") + body


ZSTD = b"\x28\xb5\x2f\xfd\xa0"


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x5e\xa1\x10\x04\x03" + bytes(11),
        seal_object(1, b""),
        seal_object(2, b"abcd"),
        seal_object(2, ZSTD + bytes(4) + b"\x03\0\0"),  # a compressed block
        seal_object(2, ZSTD + b"\x09\0\0\0\x01\0\0"),  # another size than it says
    ],
)
def test_objects_of_another_library_are_not_guessed_at(data: bytes) -> None:
    with pytest.raises(library_module.LibraryError):
        library_module._content(data)


@pytest.mark.parametrize("data", [b"\x0b", b"\x0a", b"\xff"])
def test_messages_of_another_library_are_not_guessed_at(data: bytes) -> None:
    with pytest.raises(library_module.LibraryError):
        library_module._fields(data)


def test_a_library_that_changed_its_forms_is_noticed(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    context, _ = pair
    cipher = context.cipher(SlotTerms(24, 3))
    with pytest.raises(library_module.LibraryError):
        library_module._inner([(2, 2, b"")], 2)
    with pytest.raises(library_module.LibraryError):
        library_module._key_of([(2, 2, library_module._join([(1, 2, library_module._seal(b"x"))]))], 2, 8)
    monkeypatch.setattr(cipher, "_head", b"other")
    with pytest.raises(library_module.LibraryError):
        cipher.encrypt(np.ones(1, dtype=np.int64))
    monkeypatch.setattr(library_module, "_content", lambda _: b"")
    with pytest.raises(library_module.LibraryError):
        Cipher._content(cipher, np.zeros(SLOTS))
