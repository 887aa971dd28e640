"""Sums of many chunks: what their check holds in memory, which chunks it takes, and who can change that."""

from __future__ import annotations

import asyncio
import os
import secrets
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
from fedmedlora_crypto.secagg.suites import MASKED_SUITE, PLAIN_SUITE
from fedmedlora_site.errors import StepRefusal, TransportError
from fedmedlora_site.keystore import Keystore
from fedmedlora_site.step import StepContext
from fedmedlora_site.sum_check import FETCHES, SumChecker
from fedmedlora_testkit.secagg import Ward, vectors_of
from fedmedlora_testkit.ward import Ward as Federation

CHUNKS = 12
KEYS = Keystore("site-1", b"", *(bytes([number]) * 32 for number in range(4)))


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

    async def get_blob(self, digest: str, *, total_bytes: int, resumed: bool = False) -> bytes:
        return (self.root / digest).read_bytes()

    async def get_chunk(self, digest: str, *, total_bytes: int, index: int) -> bytes:
        self.fetched.append((digest, index))
        with (self.root / digest).open("rb") as file:
            file.seek(index * CHUNK_BYTES)
            return file.read(CHUNK_BYTES)


def finished(
    disk: Disk, bits: int, wrong: int | None, *, n: int = 5, chunks: int = CHUNKS, suite: str = MASKED_SUITE
) -> tuple[Ward, Session]:
    """A session with a sum of many chunks, one of them wrong if so wanted."""
    ward = Ward(n, suite=suite)
    packing = Packing(bits, chunks * (CHUNK_BYTES // (bits // 8)) - 5)
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
        member_ids=tuple(f"site-{party}" for party in ward.parties),
        wire_bits=bits,
        graph=None,
    )
    held = SimpleNamespace(
        terms=terms, site="site-1", keys=KEYS, mirror=SimpleNamespace(object_bytes=disk.sizes)
    )
    context = SimpleNamespace(held=held, client=disk, report=lambda *_: None)
    return SumChecker(cast(StepContext, context))


def of_site_1(ward: Ward, session: Session, chunks: int = CHUNKS) -> tuple[int, ...]:
    key = KEYS.draw_key(session.sid, session.ring)
    return chunks_of(ward.terms, 1, bytes.fromhex(session.ring), chunks, key)


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


class Cutting(Disk):
    """A coordinator that lets the connection break whenever one chunk is asked for."""

    cut: int | None = None

    async def get_chunk(self, digest: str, *, total_bytes: int, index: int) -> bytes:
        if index == self.cut:
            raise TransportError("the connection broke")
        return await super().get_chunk(digest, total_bytes=total_bytes, index=index)


def passes(root: Path, tries: int = 20) -> bool:
    """Whether a site of a large study passes a wrong sum whose wrong chunk it cannot get, if it tries on."""
    disk = Cutting(root)
    for wrong in range(4):
        ward, session = finished(disk, 32, wrong, n=17, chunks=4, suite=PLAIN_SUITE)
        if wrong in of_site_1(ward, session, 4):
            break
    disk.cut = wrong
    check = checker(ward, disk, 32)
    for _ in range(tries):
        try:
            asyncio.run(check.check(session))
        except TransportError:
            continue
        return True
    return False


def test_breaking_the_connection_at_a_wrong_chunk_gains_nothing(tmp_path: Path) -> None:
    """R4.6.4: a repeated draw is the same, so the chunk is asked for again."""
    assert not passes(tmp_path)


def test_with_a_fresh_draw_each_time_it_would_be_accepted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Keystore, "draw_key", lambda *_: secrets.token_bytes(32))
    assert passes(tmp_path)


def test_a_broken_connection_goes_on_after_the_last_checked_chunk(tmp_path: Path) -> None:
    disk = Cutting(tmp_path)
    ward, session = finished(disk, 32, None)
    own = of_site_1(ward, session)
    check, disk.cut = checker(ward, disk, 32), own[-1]
    with pytest.raises(TransportError):
        asyncio.run(check.check(session))
    disk.cut = None
    disk.fetched.clear()
    asyncio.run(check.check(session))
    assert {index for _, index in disk.fetched} == {own[-1]}


def test_a_sum_on_the_sparse_graph_is_checked_with_what_the_log_committed_to(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """R6.15.6: the real coordinator's log and payloads, checked by each of its sites."""
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)
    federation = Federation(
        tmp_path,
        n=14,
        rounds=1,
        secure_aggregation__graph={"neighbours": 10, "share_threshold": 7, "window_survivors": 3},
        secure_aggregation__colluding_sites=2,
    )
    federation.hospital("site-d").refuses.add("upload")
    state = federation.run(lambda s: s.session is not None and s.session.step == "aggregate")
    session, disk = state.session, Disk(tmp_path)
    assert session is not None
    for digests in (session.u1, session.u2, session.u3, session.responses, {"": session.ring}):
        for digest in digests.values():
            assert disk.put(federation.blobs.read(digest)) == digest
    for site in session.u3:
        mirror = SimpleNamespace(object_bytes=disk.sizes, state=state)
        held = SimpleNamespace(terms=federation.terms, site=site, keys=KEYS, mirror=mirror)
        context = SimpleNamespace(held=held, client=disk, report=lambda *_: None)
        asyncio.run(SumChecker(cast(StepContext, context)).check(session))
    assert any(digest == session.ring for digest, _ in disk.fetched)
