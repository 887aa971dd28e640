"""Own events: signed once, the same bytes for ever."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from fedmedlora_audit.chain import EMPTY_HEAD, Author
from fedmedlora_audit.event_data import CharterSigned, StepRefused
from fedmedlora_audit.note import NoteSigner
from fedmedlora_site.errors import FolderError
from fedmedlora_site.outbox import Outbox, Signed

SIGNER = NoteSigner.from_seed("site-a", b"s" * 32)
AUTHOR = Author("site-a", "site", SIGNER, "test.example/log")
NOW = datetime(2026, 3, 1, 10, 0, 0, 123456, tzinfo=UTC)


def sign(outbox: Outbox) -> Signed:
    data = CharterSigned(charter="c" * 64)
    return outbox.sign(type="charter.signed", data=data, saw=EMPTY_HEAD, time=NOW)


def test_a_restart_finds_the_same_bytes_and_goes_on_with_the_chain(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, AUTHOR)
    first, second = sign(outbox), sign(outbox)
    again = Outbox(tmp_path, AUTHOR)
    assert [signed.note for signed in again.unlogged(0)] == [first.note, second.note]
    assert [signed.note for signed in again.unlogged(1)] == [second.note]
    assert again.leaf(1) == first.leaf
    assert again.leaf(3) is None
    third = again.sign(
        type="step.refused", data=StepRefused(step="plan", reason="policy"), saw=EMPTY_HEAD, time=NOW
    )
    assert (third.event.seq, third.event.prev) == (3, second.leaf.hex())
    assert again.last_seq == 3


def test_an_event_is_on_the_disk_before_it_can_be_sent(tmp_path: Path) -> None:
    # R5.3.1
    signed = sign(Outbox(tmp_path, AUTHOR))
    assert (tmp_path / "00000001.note").read_bytes() == signed.note


def test_times_are_whole_seconds(tmp_path: Path) -> None:
    assert sign(Outbox(tmp_path, AUTHOR)).event.time == "2026-03-01T10:00:00Z"


def test_a_missing_event_stops_the_site(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, AUTHOR)
    sign(outbox), sign(outbox)
    (tmp_path / "00000001.note").unlink()
    with pytest.raises(FolderError, match="does not follow"):
        Outbox(tmp_path, AUTHOR)


def test_a_changed_event_stops_the_site(tmp_path: Path) -> None:
    sign(Outbox(tmp_path, AUTHOR))
    path = tmp_path / "00000001.note"
    path.write_bytes(path.read_bytes().replace(b"c" * 64, b"d" * 64))
    with pytest.raises(FolderError):
        Outbox(tmp_path, AUTHOR)


def test_a_torn_write_leaves_no_event(tmp_path: Path) -> None:
    (tmp_path / ".00000001.note.tmp").write_bytes(b"half")
    assert Outbox(tmp_path, AUTHOR).last_seq == 0


def test_receipts_lie_beside_their_events(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path, AUTHOR)
    sign(outbox)
    assert outbox.receipt(1) is None
    outbox.file_receipt(1, b"receipt")
    assert Outbox(tmp_path, AUTHOR).receipt(1) == b"receipt"
