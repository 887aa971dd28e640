"""What a check of a long sum holds in memory: a few chunks, whatever the length and the number of sites."""

from __future__ import annotations

import asyncio
import tracemalloc
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fedmedlora_audit.blob import blob_digest
from fedmedlora_audit.law import Session
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_core.packing import Packing
from fedmedlora_crypto.secagg.assignment import chunks_of
from fedmedlora_site.errors import StepRefusal
from fedmedlora_site.step import StepContext
from fedmedlora_site.sum_check import FETCHES, SumChecker
from fedmedlora_testkit.secagg import Ward, vectors_of

SITES, CHUNKS = 5, 12


class Disk:
    """Payloads by digest in files, so that only what the check reads counts."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.sizes: dict[str, int] = {}
        self.fetched: list[tuple[str, int]] = []

    def put(self, data: bytes) -> str:
        digest = blob_digest(data)
        (self.root / digest).write_bytes(data)
        self.sizes[digest] = len(data)
        return digest

    async def get_blob(self, digest: str, *, total_bytes: int) -> bytes:
        return (self.root / digest).read_bytes()

    async def get_chunk(self, digest: str, *, total_bytes: int, index: int) -> bytes:
        self.fetched.append((digest, index))
        with (self.root / digest).open("rb") as file:
            file.seek(index * CHUNK_BYTES)
            return file.read(CHUNK_BYTES)


def finished(disk: Disk, bits: int, wrong: int | None) -> tuple[Ward, Session]:
    """A session of five sites with a sum of twelve chunks, one of them wrong if so wanted."""
    ward, packing = Ward(SITES), Packing(bits, CHUNKS * (CHUNK_BYTES // (bits // 8)) - 5)
    ward.advertise()
    ward.share()
    ward.upload(vectors_of(ward.parties, packing.count))
    ward.agree()
    ward.open()
    total = ward.total()
    ward.unmask(total)
    if wrong is not None:
        total[packing.span(wrong)[0]] += np.uint32(1)

    def put(payloads: dict[int, bytes]) -> dict[str, str]:
        return {f"site-{party}": disk.put(data) for party, data in payloads.items()}

    def packed(vector: Any) -> bytes:
        return b"".join(packing.frames_of(vector))

    session = Session(ward.terms.sid.hex(), 1, 1, "update", ward.terms.suite, "0" * 64, (), 0)
    session.u1, session.u2, session.responses = put(ward.keys), put(ward.shares), put(ward.opened)
    session.u3 = put({party: packed(vector) for party, vector in ward.masked.items()})
    session.ring = disk.put(packed(total))
    return ward, session


def checker(ward: Ward, disk: Disk, bits: int) -> SumChecker:
    """The check of site-1, with the parts of a site that it looks at."""
    terms = SimpleNamespace(
        n=ward.terms.n,
        threshold=ward.terms.threshold,
        colluding_sites=ward.terms.colluding,
        member_ids=tuple(f"site-{party}" for party in range(1, SITES + 1)),
        wire_bits=bits,
    )
    held = SimpleNamespace(terms=terms, site="site-1", mirror=SimpleNamespace(object_bytes=disk.sizes))
    context = SimpleNamespace(held=held, client=disk, report=lambda *_: None)
    return SumChecker(cast(StepContext, context))


def of_site_1(ward: Ward, session: Session) -> tuple[int, ...]:
    return chunks_of(ward.terms, 1, bytes.fromhex(session.ring), CHUNKS, lambda _, count: [])


@pytest.mark.parametrize("bits", [24, 32])
def test_memory_stays_at_a_few_chunks_and_only_its_own_chunks_are_fetched(tmp_path: Path, bits: int) -> None:
    disk = Disk(tmp_path)
    ward, session = finished(disk, bits, None)
    ward.masked.clear()
    check = checker(ward, disk, bits)
    tracemalloc.start()
    try:
        asyncio.run(check.check(session))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    # Fetched chunks, the published one, the sum, and what expanding a mask and unpacking a chunk take.
    assert peak < (FETCHES + 6) * CHUNK_BYTES
    own = of_site_1(ward, session)
    assert 0 < len(own) < CHUNKS
    assert sorted(disk.fetched) == sorted((d, i) for d in [session.ring, *session.u3.values()] for i in own)


def test_a_wrong_chunk_among_many_is_found_when_it_is_this_sites(tmp_path: Path) -> None:
    disk = Disk(tmp_path)
    ward, session = finished(disk, 24, 7)
    if 7 not in of_site_1(ward, session):
        ward, session = finished(disk, 24, 8)
    wrong = 7 if 7 in of_site_1(ward, session) else 8
    with pytest.raises(StepRefusal, match=f"chunk {wrong} ") as caught:
        asyncio.run(checker(ward, disk, 24).check(session))
    assert caught.value.reason == "wrong_sum"
