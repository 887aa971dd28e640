"""The ledger: replays what was acknowledged and nothing else; refuses a past that was changed or cut."""

from __future__ import annotations

import os
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit.event_data import CharterSigned, SharesSent, StepRefused, UpdateSubmitted
from fedmedlora_audit.events import COORDINATOR_ID, Object, open_event
from fedmedlora_coordinator.errors import PeerRefusedError, RoundError, StateError, StoreError
from fedmedlora_coordinator.model import RoundSizes, sum_uploads
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_coordinator.steps import model_released, run_opened
from fedmedlora_core.packing import FRAME_BYTES, Packing
from fedmedlora_protos.wire import Reason
from fedmedlora_testkit.hospital import FlakyStore, Hospital
from fedmedlora_testkit.ward import Ward


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path, rounds=1)


def refused(ward: Ward, hospital: Hospital, note: bytes, reason: Reason, check: str | None = None) -> None:
    size = ward.ledger.size
    with pytest.raises(PeerRefusedError) as caught:
        ward.hand_in(hospital, note)
    assert (caught.value.reason, caught.value.check) == (reason, check)
    assert ward.ledger.size == size == ward.store.size()


def restart(ward: Ward) -> None:
    ward.store.close()
    ward.start()


def raw(ward: Ward, *statements: str) -> None:
    """Change the database behind the coordinator's back."""
    ward.store.close()
    with sqlite3.connect(ward.folder.store) as connection:
        for trigger in ("entries_no_update", "entries_no_delete", "heads_no_update", "heads_no_delete"):
            connection.execute(f"DROP TRIGGER {trigger}")
        for statement in statements:
            connection.execute(statement)
    connection.close()


def test_the_log_begins_with_genesis_and_members(ward: Ward) -> None:
    assert ward.types() == ["log.genesis", *["site.enrolled"] * 4]
    restart(ward)
    assert ward.ledger.size == 5


def test_a_receipt_stands_directly_after_its_event(ward: Ward) -> None:
    # R5.1.2
    ward.run(lambda s: len(s.signed) == 2)
    types = [e.event.type for e in ward.ledger.entries]
    assert types[5:] == ["charter.signed", "receipt", "charter.signed", "receipt"]
    receipt = ward.ledger.entries[6].event
    assert receipt.refs == (ward.ledger.entries[5].leaf.hex(),)


def test_the_same_event_again_gets_the_same_receipt_also_after_a_restart(ward: Ward) -> None:
    # R3.1.3
    hospital = ward.hospitals[0]
    note = ward.note(hospital, "charter.signed", CharterSigned(charter=ward.terms.digest), None)
    first = ward.hand_in(hospital, note)
    assert ward.hand_in(hospital, note) == first
    restart(ward)
    assert ward.hand_in(hospital, note) == first
    assert ward.ledger.size == 7
    refused(ward, ward.hospitals[1], note, Reason.WRONG_ACTOR)


def test_two_events_with_one_number_are_refused(ward: Ward) -> None:
    hospital = ward.hospitals[0]
    first = ward.note(hospital, "charter.signed", CharterSigned(charter=ward.terms.digest), None)
    ward.clock.seconds += 5
    second = ward.note(hospital, "charter.signed", CharterSigned(charter=ward.terms.digest), None)
    ward.hand_in(hospital, first)
    refused(ward, hospital, second, Reason.LAW_REFUSED, "E5")


def test_another_sites_key_signs_nothing_here(ward: Ward) -> None:
    hospital, thief = ward.hospitals[:2]
    hospital.signer = type(hospital.signer).from_seed(hospital.site, bytes([thief.number]) * 32)
    note = ward.note(hospital, "charter.signed", CharterSigned(charter=ward.terms.digest), None)
    refused(ward, hospital, note, Reason.BAD_SIGNATURE, "E2")


def test_the_coordinators_own_words_are_under_the_law_too(ward: Ward) -> None:
    for draft in (run_opened(ward.ledger.state), model_released(ward.ledger.state)):
        with pytest.raises(StateError):
            ward.ledger.write(draft.type, draft.data)
    assert ward.ledger.size == 5


def test_an_event_whose_payload_is_missing_or_wrong_is_refused(ward: Ward) -> None:
    # R3.2.2
    ward.run(lambda s: s.session is not None and s.session.step == "upload")
    session = ward.ledger.state.session
    assert session is not None
    hospital = ward.hospitals[0]
    data = UpdateSubmitted(sid=session.sid, view=session.view, h_u2=session.h_u2)

    def note_for(digest: str, size: int) -> bytes:
        item = Object(role="masked-update", digest=digest, bytes=size)
        return ward.note(hospital, "update.submitted", data, session.round, objects=[item])

    whole = ward.model.sizes()[0].ring
    refused(ward, hospital, note_for("ab" * 32, whole), Reason.BLOB_MISSING)
    short = ward.put(hospital, b"x" * (whole - 4))
    refused(ward, hospital, note_for(short, whole), Reason.BLOB_MISSING)
    refused(ward, hospital, note_for(short, whole - 4), Reason.BAD_PAYLOAD)


def test_an_upload_whose_padding_is_not_zero_is_refused_as_its_chunk_arrives(ward: Ward) -> None:
    """R4.5.2; taken in, it would cost everybody the round at its sum."""
    packing = Packing(24, FRAME_BYTES // 3 + 2)
    sizes = RoundSizes(packing.total_bytes, packing.total_bytes, packing.padding_offsets)
    payloads = Payloads(ward.terms, ward.blobs, [sizes])
    upload = bytearray(packing.total_bytes)
    payloads.check_chunk(len(upload), 0, bytes(upload[:FRAME_BYTES]))
    upload[packing.padding_offsets[0]] = 1
    with pytest.raises(PeerRefusedError) as caught:
        payloads.check_chunk(len(upload), 0, bytes(upload[:FRAME_BYTES]))
    assert caught.value.reason is Reason.BAD_PAYLOAD
    payloads.check_chunk(len(upload), 1, b"\1" * 6)  # the last frame has no padding
    digest = ward.put(ward.hospitals[0], bytes(upload))  # as if the check were not made
    with pytest.raises(RoundError, match="padding"):
        sum_uploads(np.zeros(packing.count, dtype=np.uint32), packing, [digest], ward.blobs.checked)


def test_shares_that_do_not_decode_are_refused(ward: Ward) -> None:
    ward.run(lambda s: s.session is not None and s.session.step == "share")
    session = ward.ledger.state.session
    assert session is not None
    with pytest.raises(PeerRefusedError) as caught:
        ward.submit(
            ward.hospitals[0],
            "shares.sent",
            SharesSent(sid=session.sid, view=session.view),
            session.round,
            payload=b"no shares",
            role="shares",
        )
    assert caught.value.reason is Reason.BAD_PAYLOAD


def test_a_late_upload_is_logged_without_effect_and_without_its_payload(ward: Ward) -> None:
    ward.hospital("site-d").refuses.add("upload")
    ward.run(lambda s: s.session is not None and s.session.step == "survivors")
    session = ward.ledger.state.session
    assert session is not None
    assert sorted(session.u3) == ["site-a", "site-b", "site-c"]
    data = UpdateSubmitted(sid=session.sid, view=session.view, h_u2=session.h_u2)
    hospital = ward.hospital("site-d")
    item = Object(role="masked-update", digest="ab" * 32, bytes=ward.model.sizes()[0].ring)
    size = ward.ledger.size
    note = ward.note(hospital, "update.submitted", data, session.round, objects=[item])
    ward.hand_in(hospital, note)
    assert ward.ledger.size == size + 2, "the event and its receipt"
    assert "site-d" not in session.updates
    assert sorted(session.u3) == ["site-a", "site-b", "site-c"]


def test_a_store_restored_from_an_older_backup_is_refused(ward: Ward) -> None:
    ward.store.close()
    backup = ward.folder.root / "backup.sqlite"
    shutil.copy(ward.folder.store, backup)
    ward.start()
    ward.run(lambda s: len(s.signed) == 1)
    ward.store.close()
    shutil.copy(backup, ward.folder.store)
    with pytest.raises(StoreError, match="rolled back"):
        ward.start()


def test_without_the_head_file_a_roll_back_would_go_unseen(ward: Ward) -> None:
    """The protection off: with the head file restored from the backup as well, the older log is taken."""
    ward.store.close()
    backup, head = ward.folder.root / "backup.sqlite", ward.folder.head.read_bytes()
    shutil.copy(ward.folder.store, backup)
    ward.start()
    ward.run(lambda s: len(s.signed) == 1)
    ward.store.close()
    shutil.copy(backup, ward.folder.store)
    ward.folder.head.write_bytes(head)
    ward.start()
    assert ward.ledger.size == 5


def test_a_missing_or_foreign_head_file_is_refused(ward: Ward) -> None:
    head = ward.folder.head.read_bytes()
    ward.folder.head.unlink()
    with pytest.raises(StoreError, match="head file is missing"):
        restart(ward)
    ward.folder.head.write_bytes(head.replace(b"ward", b"yard"))
    with pytest.raises(StoreError, match="damaged or of another log"):
        restart(ward)


@pytest.mark.parametrize(
    ("statement", "sentence"),
    [
        ("UPDATE entries SET note = CAST(note || x'20' AS BLOB) WHERE entry_index = 2", "damaged"),
        ("DELETE FROM entries WHERE entry_index = 4", "rolled back"),
        ("DELETE FROM entries WHERE entry_index = 2", "damaged"),
        ("DELETE FROM heads", "does not cover"),
        ("UPDATE heads SET note = x'00' WHERE size = 5", "damaged or of another log"),
    ],
)
def test_a_store_changed_by_hand_is_refused(ward: Ward, statement: str, sentence: str) -> None:
    raw(ward, statement)
    with pytest.raises(StoreError, match=sentence):
        ward.start()


def test_a_batch_is_cut_at_its_limits(ward: Ward, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedmedlora_coordinator.ledger.BATCH_NOTES", 2)
    assert [len(ward.ledger.batch(at).notes) for at in (0, 2, 4, 5)] == [2, 2, 1, 0]
    monkeypatch.setattr("fedmedlora_coordinator.ledger.BATCH_BYTES", 10)
    assert len(ward.ledger.batch(0).notes) == 1
    assert ward.ledger.batch(3).checkpoint == ward.ledger.checkpoint(4)


def test_an_answer_that_comes_after_the_end_of_the_run_moves_the_end_no_further(ward: Ward) -> None:
    """Who has read the end leaves: nobody waits for it to read what came later."""
    ward.start()
    opened = ward.run(lambda state: state.session is not None).session
    assert opened is not None
    assert ward.ledger.end_size() == ward.ledger.size
    assert ward.run().run_closed
    end = ward.ledger.end_size()
    late = StepRefused(step="aggregate", reason="wrong_sum", sid=opened.sid)
    ward.submit(ward.hospital("site-b"), "step.refused", late, 1)
    assert ward.ledger.size > end == ward.ledger.end_size()
    assert ward.ledger.entries[end - 1].event.type == "run.closed"


def test_a_refusal_is_taken_once_and_the_same_note_again_is_answered_from_the_log(ward: Ward) -> None:
    """R5.2.5: one member could grow the log for ever; R3.1.3: an honest retry is no repetition."""
    ward.start()
    opened = ward.run(lambda state: state.session is not None and state.session.step == "share").session
    assert opened is not None
    hospital = ward.hospital("site-d")
    data = StepRefused(step="share", reason="policy", sid=opened.sid)
    note = ward.note(hospital, "step.refused", data, 1)
    answer, size = ward.hand_in(hospital, note), ward.ledger.size
    assert ward.hand_in(hospital, note) == answer
    other = StepRefused(step="share", reason="wrong_digest", sid=opened.sid)
    for again, check in [(data, "R3"), (other, "R3"), (data.model_copy(update={"sid": "9" * 64}), "G36")]:
        with pytest.raises(PeerRefusedError) as caught:
            ward.submit(hospital, "step.refused", again, 1)
        assert (caught.value.reason, caught.value.check) == (Reason.LAW_REFUSED, check)
    assert ward.ledger.size == size
    assert answer is not None
    assert open_event(answer[0], ward.ledger.state.book.events[COORDINATOR_ID]).saw.size == answer[1]
