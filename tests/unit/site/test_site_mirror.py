"""The mirror believes nothing: heads, roots, signatures, the law, its own events."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fedmedlora_audit import event_data as of
from fedmedlora_audit import law
from fedmedlora_audit.checkpoint import Checkpoint, sign_checkpoint
from fedmedlora_audit.merkle import leaf_hash, tree_root
from fedmedlora_audit.note import NoteSigner
from fedmedlora_site import mirror as mirror_module
from fedmedlora_site.errors import FolderError, ForkError
from fedmedlora_site.mirror import Mirror
from fedmedlora_testkit.audit_log import ORIGIN, StudyLog, seed_of

OWN = "site-a"


def own_leaves(log: StudyLog) -> Callable[[int], bytes | None]:
    """What the site's outbox would hold: exactly its events of this log."""
    mine = {entry.event.seq: entry.leaf for entry in log.entries if entry.event.actor.id == OWN}
    return mine.get


def notes_of(log: StudyLog, start: int = 0, end: int | None = None) -> list[bytes]:
    return [entry.note for entry in log.entries[start:end]]


def head_of(notes: list[bytes], *, signer: NoteSigner | None = None, size: int | None = None) -> bytes:
    """A head over these notes, signed by the log unless another signer is given."""
    root = tree_root(leaf_hash(note) for note in notes)
    checkpoint = Checkpoint(ORIGIN, len(notes) if size is None else size, root)
    return sign_checkpoint(checkpoint, signer or NoteSigner.from_seed(ORIGIN, seed_of("log")))


@pytest.fixture(scope="module")
def log() -> StudyLog:
    return StudyLog().play()


def filled(root: Path, log: StudyLog, size: int) -> Mirror:
    mirror = Mirror(root, log.terms, OWN)
    notes = notes_of(log, 0, size)
    mirror.extend(0, notes, head_of(notes), own_leaves(log))
    return mirror


def test_a_lawful_log_is_taken_in_batches_and_survives_a_restart(tmp_path: Path, log: StudyLog) -> None:
    mirror = Mirror(tmp_path, log.terms, OWN)
    for start in range(0, len(log.entries), 7):
        end = min(start + 7, len(log.entries))
        mirror.extend(start, notes_of(log, start, end), head_of(notes_of(log, 0, end)), own_leaves(log))
    assert mirror.state.run_closed
    again = Mirror(tmp_path, log.terms, OWN)
    assert (again.size, again.root) == (len(log.entries), log.tree.root())
    assert again.state.released == log.state.released
    assert again.saw.size == again.size
    assert again.own_seq == max(e.event.seq for e in log.entries if e.event.actor.id == OWN)


def test_an_empty_batch_changes_nothing(tmp_path: Path, log: StudyLog) -> None:
    mirror = filled(tmp_path, log, 20)
    assert mirror.extend(20, [], head_of(notes_of(log, 0, 20)), own_leaves(log)) == []
    assert mirror.size == 20


def test_a_head_by_another_key_is_refused(tmp_path: Path, log: StudyLog) -> None:
    mirror = filled(tmp_path, log, 20)
    notes = notes_of(log, 0, 25)
    forged = head_of(notes, signer=NoteSigner.generate(ORIGIN))
    with pytest.raises(ForkError) as found:
        mirror.extend(20, notes[20:], forged, own_leaves(log))
    assert found.value.reason == "log_forked"


def test_a_head_over_other_entries_is_refused(tmp_path: Path, log: StudyLog) -> None:
    mirror = filled(tmp_path, log, 20)
    notes = notes_of(log, 0, 25)
    with pytest.raises(ForkError, match="does not cover"):
        mirror.extend(20, notes[20:], head_of([*notes[:24], b"another\n"]), own_leaves(log))


def test_a_rewritten_past_is_refused(tmp_path: Path, log: StudyLog) -> None:
    """A consistent head over another history: the entries sent are right, those before are not."""
    mirror = filled(tmp_path, log, 20)
    notes = notes_of(log, 0, 25)
    other = [b"another first entry\n", *notes[1:]]
    with pytest.raises(ForkError, match="does not cover"):
        mirror.extend(20, notes[20:], head_of(other), own_leaves(log))


def test_a_shorter_log_is_refused(tmp_path: Path, log: StudyLog) -> None:
    mirror = filled(tmp_path, log, 20)
    with pytest.raises(ForkError):
        mirror.extend(20, [], head_of(notes_of(log, 0, 19)), own_leaves(log))


def test_entries_from_another_place_are_refused(tmp_path: Path, log: StudyLog) -> None:
    mirror = filled(tmp_path, log, 20)
    with pytest.raises(ForkError) as found:
        mirror.extend(21, notes_of(log, 21, 25), head_of(notes_of(log, 0, 25)), own_leaves(log))
    assert found.value.reason == "wrong_order"


def test_a_forged_site_event_is_refused(tmp_path: Path) -> None:
    """The coordinator signs in the name of a site, with a key of its own."""
    log = StudyLog().set_up()
    size = len(log.entries)
    log.plan()
    forger = log.authors["site-b"]
    fake = type(forger)("site-b", "site", NoteSigner.generate("site-b"), ORIGIN)
    plan = log.state.rounds[1].plan.leaf.hex()
    note = log.draft(
        "site-b", "plan.accepted", of.Base(base=log.state.base), round=1, refs=[plan], author=fake
    )
    notes = [*notes_of(log), note]
    mirror = filled(tmp_path, log, size)
    with pytest.raises(ForkError) as found:
        mirror.extend(size, notes[size:], head_of(notes), own_leaves(log))
    assert found.value.reason == "wrong_key"
    assert Mirror(tmp_path, log.terms, OWN).size == size  # nothing of the batch counts


def unlawful_log() -> tuple[StudyLog, int]:
    """A coordinator that plans round 1 from another adapter than the charter's."""
    log = StudyLog().set_up()
    size = len(log.entries)
    log.force("coordinator", "round.plan", of.Base(base="f" * 64), round=1)
    return log, size


def test_an_unlawful_event_is_refused_and_kept_as_evidence(tmp_path: Path) -> None:
    log, size = unlawful_log()
    mirror = filled(tmp_path, log, size)
    with pytest.raises(ForkError, match="A2"):
        mirror.extend(size, notes_of(log, size), log.checkpoint(), own_leaves(log))
    evidence = (tmp_path / "evidence" / f"batch-{size}").read_bytes()
    assert log.checkpoint() in evidence
    assert log.entries[-1].note in evidence
    assert (mirror.size, mirror.saw.size) == (size, size)
    with pytest.raises(ForkError, match="earlier violation"):
        mirror.extend(size, [], head_of(notes_of(log, 0, size)), own_leaves(log))
    assert Mirror(tmp_path, log.terms, OWN).size == size


def test_without_the_law_the_unlawful_event_would_be_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, size = unlawful_log()
    mirror = filled(tmp_path, log, size)
    monkeypatch.setattr(mirror_module, "apply", law.fold)
    mirror.extend(size, notes_of(log, size), log.checkpoint(), own_leaves(log))
    assert mirror.state.rounds[1].plan.event.data == of.Base(base="f" * 64)


def test_an_own_event_that_was_not_signed_here_is_refused(tmp_path: Path, log: StudyLog) -> None:
    mirror = Mirror(tmp_path, log.terms, OWN)
    notes = notes_of(log)
    with pytest.raises(ForkError, match="not by this folder"):
        mirror.extend(0, notes, head_of(notes), lambda _: None)


def test_entries_without_their_head_are_fetched_again(tmp_path: Path, log: StudyLog) -> None:
    """A crash between the entries' sync and the head's."""
    filled(tmp_path, log, 20)
    entries = tmp_path / "entries"
    more = b"".join(len(n).to_bytes(4, "big") + n for n in notes_of(log, 20, 23))
    entries.write_bytes(entries.read_bytes() + more[:-5])
    again = Mirror(tmp_path, log.terms, OWN)
    assert again.size == 20
    notes = notes_of(log, 0, 30)
    again.extend(20, notes[20:], head_of(notes), own_leaves(log))
    assert Mirror(tmp_path, log.terms, OWN).size == 30


def test_reading_beside_a_running_agent_repairs_nothing(tmp_path: Path, log: StudyLog) -> None:
    filled(tmp_path, log, 20)
    entries = tmp_path / "entries"
    entries.write_bytes(entries.read_bytes() + b"\0\0\0")
    before = entries.read_bytes()
    assert Mirror(tmp_path, log.terms, OWN, repair=False).size == 20
    assert entries.read_bytes() == before


def test_lost_entries_stop_the_site(tmp_path: Path, log: StudyLog) -> None:
    filled(tmp_path, log, 20)
    entries = tmp_path / "entries"
    entries.write_bytes(entries.read_bytes()[:-1])
    with pytest.raises(FolderError, match="missing or changed"):
        Mirror(tmp_path, log.terms, OWN)


def test_a_changed_entry_stops_the_site(tmp_path: Path, log: StudyLog) -> None:
    filled(tmp_path, log, 20)
    entries = tmp_path / "entries"
    blob = bytearray(entries.read_bytes())
    blob[200] ^= 1
    entries.write_bytes(blob)
    with pytest.raises(FolderError):
        Mirror(tmp_path, log.terms, OWN)


def test_sizes_of_payloads_are_learnt_from_signed_events(tmp_path: Path, log: StudyLog) -> None:
    mirror = filled(tmp_path, log, len(log.entries))
    named = [item for entry in log.entries for item in entry.event.objects]
    assert named
    assert all(mirror.object_bytes[item.digest] == item.bytes for item in named)


def poisoned(first: bool) -> tuple[StudyLog, str]:
    """A log in which site-d's late shares name the upload of another, with a size of 1."""
    log = StudyLog().set_up().to_step("upload", {"share": ["site-d"]})
    named = log.blob("site-a", "masked-update")["objects"][0]
    if not first:
        log.upload("site-a")
    lie = named.model_copy(update={"role": "shares", "bytes": 1})
    data = of.SharesSent(sid=log.session.sid, view=log.session.view)
    log.say("site-d", "shares.sent", data, round=1, objects=[lie])
    if first:
        log.upload("site-a")
    return log, named.digest


@pytest.mark.parametrize("first", [True, False])
def test_a_late_answer_says_nothing_of_payloads(tmp_path: Path, first: bool) -> None:
    # R3.2.2
    log, digest = poisoned(first)
    assert filled(tmp_path, log, len(log.entries)).object_bytes[digest] == 1000
    assert Mirror(tmp_path, log.terms, OWN).object_bytes[digest] == 1000


def test_without_the_look_at_the_step_a_late_answer_would_be_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, digest = poisoned(first=True)
    monkeypatch.setattr("fedmedlora_site.mirror.is_late", lambda *_: False)
    assert filled(tmp_path, log, len(log.entries)).object_bytes[digest] == 1
