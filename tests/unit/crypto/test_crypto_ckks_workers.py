"""CKKS on several cores, the sizes of its uploads, and the library behind it."""

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
    PublicContext,
    SecretKey,
    SizePlan,
    SlotTerms,
    Workers,
    chunk_count,
    chunk_values,
    generate,
    plan,
    upload_bytes,
)
from fedmedlora_crypto.ckks import library as library_module
from fedmedlora_crypto.ckks import workers as workers_module
from fedmedlora_crypto.ckks.library import Cipher
from fedmedlora_crypto.ckks.parameters import (
    CHUNK_VALUES,
    CIPHERTEXT_BYTES,
    SLOTS,
)
from fedmedlora_crypto.ckks.stream import add_chunks
from fedmedlora_crypto.errors import ShortSurvivorsError, TermsError
from fedmedlora_testkit.ckks_vectors import ring_vectors, summed

Pair = tuple[PublicContext, SecretKey]


@pytest.fixture(scope="module")
def pair() -> Pair:
    return generate()


# -- workers, sizes


def test_chunks_line_up_with_the_chunks_of_a_blob(pair: Pair) -> None:
    # R6.16.2
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
