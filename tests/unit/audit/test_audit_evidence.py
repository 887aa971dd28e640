"""Evidence folders: one spelling of the index, payloads by digest, and what check A3 says with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedmedlora_audit import event_data as of
from fedmedlora_audit.blob import blob_digest, blob_leaves
from fedmedlora_audit.errors import BundleError
from fedmedlora_audit.events import Entry
from fedmedlora_audit.evidence import (
    EvidenceBlob,
    EvidenceIndex,
    EvidenceRow,
    SumJudge,
    SumsJudged,
    evidence_folders,
    rows_of,
    sizes_of,
)
from fedmedlora_audit.finding import Finding
from fedmedlora_audit.law import State
from fedmedlora_audit.merkle import CHUNK_BYTES
from fedmedlora_audit.verify import verify_bundle
from fedmedlora_testkit.audit_forger import Forger
from fedmedlora_testkit.audit_log import StudyLog

PLAYED = StudyLog().play(1)


def index_of(log: StudyLog) -> EvidenceIndex:
    session = next(iter(log.state.sids.values()))
    rows = rows_of(session, sizes_of(log.state, log.entries))
    return EvidenceIndex(
        origin=log.terms.origin, charter=log.terms.digest, round=1, sid=session.sid, files=rows
    )


def test_the_index_lists_every_payload_behind_a_sum_and_reads_back() -> None:
    index = index_of(PLAYED)
    roles = [row.role for row in index.files]
    assert {role: roles.count(role) for role in roles} == {
        "keys": 4, "shares": 4, "masked-update": 4, "opened-shares": 4, "ring-sum": 1,
    }  # fmt: skip
    assert EvidenceIndex.from_json(index.to_json()) == index


def test_shares_opened_after_the_sum_are_no_evidence() -> None:
    """R3.2.3: a late response needs no payload, so it could name anybody's."""
    log = StudyLog().set_up().to_step("unmask")
    for site in ("site-a", "site-b", "site-c"):
        log.respond(site)
    log.coordinate()
    log.respond("site-d")
    session = log.session
    assert "site-d" in session.responses
    opened = [
        row.id for row in rows_of(session, sizes_of(log.state, log.entries)) if row.role == "opened-shares"
    ]
    assert opened == ["site-a", "site-b", "site-c"]


@given(st.binary(max_size=200) | st.sampled_from([b"{}", b"null", b'{"schema":1}', b"[" * 50_000]))
def test_any_other_bytes_are_no_index(data: bytes) -> None:
    with pytest.raises(BundleError):
        EvidenceIndex.from_json(data)


@given(st.integers(0, 10_000), st.integers(0, 7))
def test_one_changed_bit_is_no_index_or_another_one(place: int, bit: int) -> None:
    index = index_of(PLAYED)
    data = bytearray(index.to_json())
    data[place % len(data)] ^= 1 << bit
    try:
        assert EvidenceIndex.from_json(bytes(data)) != index
    except BundleError as error:
        assert error.file == "evidence.json"


def test_a_spelling_that_is_not_canonical_is_refused() -> None:
    with pytest.raises(BundleError, match="canonical"):
        EvidenceIndex.from_json(index_of(PLAYED).to_json().replace(b",", b", "))


def stored(folder: Path, content: bytes) -> EvidenceRow:
    row = EvidenceRow(role="masked-update", id="site-a", digest=blob_digest(content), bytes=len(content))
    (folder / "blobs").mkdir()
    (folder / "blobs" / row.digest).write_bytes(content)
    (folder / "blobs" / f"{row.digest}.leaves").write_bytes(b"".join(blob_leaves(content)))
    return row


def test_chunks_are_read_alone_and_checked(tmp_path: Path) -> None:
    content = bytes(range(256)) * 4096 + b"tail"
    row = stored(tmp_path, content)
    blob = EvidenceBlob(tmp_path, row)
    assert (blob.chunks, blob.chunk(1), blob.read()) == (2, b"tail", content)
    path = tmp_path / "blobs" / row.digest
    path.write_bytes(content[:-1] + b"!")
    damaged = EvidenceBlob(tmp_path, row)
    assert damaged.chunk(0) == content[:CHUNK_BYTES]
    with pytest.raises(BundleError, match="chunk 1 is damaged") as caught:
        damaged.chunk(1)
    assert str(caught.value.file).endswith(row.digest)


@pytest.mark.parametrize("damage", [b"", bytes(32), bytes(31)])
def test_leaf_hashes_of_something_else_are_refused(tmp_path: Path, damage: bytes) -> None:
    row = stored(tmp_path, b"payload")
    (tmp_path / "blobs" / f"{row.digest}.leaves").write_bytes(damage)
    with pytest.raises(BundleError):
        EvidenceBlob(tmp_path, row)


def test_a_folder_of_rounds_and_a_rounds_folder_are_both_taken(tmp_path: Path) -> None:
    for name in ("round-00002", "round-00001"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "evidence.json").write_bytes(b"")
    (tmp_path / "note").write_text("for the reviewer")
    assert [f.name for f in evidence_folders(tmp_path)] == ["round-00001", "round-00002"]
    assert list(evidence_folders(tmp_path / "round-00001")) == [tmp_path / "round-00001"]
    with pytest.raises(BundleError):
        list(evidence_folders(tmp_path / "none"))


def judge(findings: tuple[Finding, ...], sums: int, unproven: int) -> SumJudge:
    def found(state: State, entries: Sequence[Entry]) -> SumsJudged:
        assert len(entries) == state.size
        return SumsJudged(findings, sums, unproven, f"{sums} sums were recomputed.")

    return found


@pytest.mark.parametrize(
    ("demanded", "sums", "unproven", "result", "verdict"),
    [
        (False, 0, 2, "not judged", "pass"),
        (False, 1, 1, "pass", "pass"),
        (True, 1, 1, "not judged", "incomplete"),
        (True, 2, 0, "pass", "pass"),
    ],
)
def test_a_charter_that_demands_the_check_needs_every_sum_proven(
    tmp_path: Path, demanded: bool, sums: int, unproven: int, result: str, verdict: str
) -> None:
    """R4.6.11: and nothing recomputed is never a pass."""
    log = (StudyLog(audit={"evidence": True}) if demanded else StudyLog()).play(2)
    made = Forger(log)
    bundle = made.seal(tmp_path / "bundle")
    found = verify_bundle(bundle, made.trust, sums=judge((), sums, unproven))
    assert (found.checks["A3"].result, found.verdict) == (result, verdict)
    assert found.checks["A3"].sentence == f"{sums} sums were recomputed."


def test_a_wrong_sum_fails_the_check_and_names_the_event(tmp_path: Path) -> None:
    made = Forger(StudyLog().play(1))
    wrong = (Finding("A3", "chunk 3 of the published sum is wrong", index=7),)
    found = verify_bundle(made.seal(tmp_path / "bundle"), made.trust, sums=judge(wrong, 1, 0))
    assert (found.verdict, found.checks["A3"].result, found.checks["A3"].first) == ("fail", "fail", 7)


def test_a_late_answer_gives_no_payload_a_size() -> None:
    """R3.2.2: else a member could make the coordinator's honest evidence look false."""
    log = StudyLog().set_up().to_step("upload", {"share": ["site-d"]})
    coming = log.blob("site-a", "masked-update")["objects"][0]
    lie = coming.model_copy(update={"role": "shares", "bytes": 1})
    data = of.SharesSent(sid=log.session.sid, view=log.session.view)
    log.say("site-d", "shares.sent", data, round=1, objects=[lie])
    log.upload("site-a")
    assert log.session.late
    assert sizes_of(log.state, log.entries)[coming.digest] == coming.bytes
    log.session.late.clear()  # what would be believed without
    assert sizes_of(log.state, log.entries)[coming.digest] == 1
