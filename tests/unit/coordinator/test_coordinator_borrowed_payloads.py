"""A member that names a payload which is not its own: refused, and worth nothing in a log that has it.

Most tests take the refusal of R3.2.7 away first: a log that was written before there was one is folded too.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedmedlora_audit.event_data import Data, UnmaskResponse, UpdateSubmitted
from fedmedlora_audit.events import Object
from fedmedlora_audit.evidence import EvidenceIndex
from fedmedlora_audit.law import Session, State
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.evidence_export import export_evidence
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_protos.wire import Reason
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward

SITES = 7  # one drops out, one opens nothing usable, and T = 5 are left
DROPPED, THIEF = "site-d", "site-b"
VOTE = {"every_rounds": 1}


@pytest.fixture(autouse=True)
def _no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def unrefused(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a digest be named twice."""
    monkeypatch.setattr(Payloads, "_recurs", lambda self, role: True)


def run_to(ward: Ward, step: str, purpose: str = "update") -> Session:
    """Go on until a session of a kind is at a step."""

    def there(state: State) -> bool:
        session = state.session
        return session is not None and (session.purpose, session.step) == (purpose, step)

    ward.run(there)
    session = ward.ledger.state.session
    assert session is not None
    return session


def submitted(session: Session) -> UpdateSubmitted:
    return UpdateSubmitted(sid=session.sid, view=session.view, h_u2=session.h_u2)


def response(session: Session) -> UnmaskResponse:
    assert session.request is not None
    asked = session.request
    return UnmaskResponse(sid=session.sid, self_of=asked.self_of, pair_of=asked.pair_of)


def name(ward: Ward, site: str, kind: str, data: Data, role: str, digest: str) -> None:
    """Have a site hand in an event that names a payload, whosever it is."""
    session = ward.ledger.state.session
    assert session is not None
    fields = {"role": role, "digest": digest, "bytes": ward.blobs.size(digest) or 1}
    item = Object.model_validate(fields)
    hospital = ward.hospital(site)
    ward.hand_in(hospital, ward.note(hospital, kind, data, session.round, objects=[item]))


def late_upload(ward: Ward, purpose: str = "update") -> str:
    """Play until the upload of a site that was declared dropped has come after all; returns its digest."""
    run_to(ward, "upload", purpose)
    dropped = ward.hospital(DROPPED)
    dropped.refuses.add("upload")
    session = ward.ledger.state.session
    assert session is not None
    payload = ward.payload(dropped, "upload", session)
    session = run_to(ward, "survivors", purpose)
    assert DROPPED not in session.u3
    ward.submit(
        dropped, "update.submitted", submitted(session), session.round, payload=payload, role="masked-update"
    )
    ward.hospital(THIEF).refuses.add("unmask")
    run_to(ward, "unmask", purpose)
    return next(
        entry.event.object_digest
        for entry in reversed(ward.ledger.entries)
        if entry.event.type == "update.submitted" and entry.event.actor.id == DROPPED
    )


def steal(ward: Ward, digest: str) -> None:
    """Name a payload as the thief's opened shares, in time."""
    session = ward.ledger.state.session
    assert session is not None
    name(ward, THIEF, "unmask.response", response(session), "opened-shares", digest)


def test_a_payload_that_was_named_before_is_refused_in_another_event(tmp_path: Path) -> None:
    """R3.2.7: a dropped site's upload, the sender's own shares, an upload of another round."""
    ward = Ward(tmp_path, n=SITES, rounds=2, keep_evidence=True)
    dropped = late_upload(ward)
    first = ward.ledger.state.session
    assert first is not None
    for digest in (dropped, first.shares[THIEF], first.u3["site-a"]):
        with pytest.raises(PeerRefusedError) as caught:
            steal(ward, digest)
        assert caught.value.reason is Reason.BAD_PAYLOAD
    for hospital in ward.hospitals:
        hospital.refuses.clear()
    ward.run(lambda state: len(state.rounds) == 2)
    ward.hospital(THIEF).refuses.add("upload")
    second = run_to(ward, "upload")
    assert ward.blobs.size(first.u3["site-a"]) is not None, "kept as evidence"
    with pytest.raises(PeerRefusedError) as caught:
        name(ward, THIEF, "update.submitted", submitted(second), "masked-update", first.u3["site-a"])
    assert caught.value.reason is Reason.BAD_PAYLOAD
    ward.hospital(THIEF).refuses.clear()
    ward.run()
    assert [found.outcome for found in ward.ledger.state.rounds.values()] == ["closed", "closed"]


def test_the_same_event_again_is_answered_as_before(tmp_path: Path) -> None:
    """Its payload is named by itself, and by nothing else."""
    ward = Ward(tmp_path, rounds=1)
    session = run_to(ward, "upload")
    hospital = ward.hospital("site-a")
    payload = ward.payload(hospital, "upload", session)
    item = {"role": "masked-update", "digest": ward.put(hospital, payload), "bytes": len(payload)}
    objects = [Object.model_validate(item)]
    note = ward.note(hospital, "update.submitted", submitted(session), 1, objects=objects)
    assert ward.hand_in(hospital, note) == ward.hand_in(hospital, note)


@pytest.mark.parametrize("keep", [True, False])
def test_a_dropped_sites_upload_is_not_shown_or_kept_as_anothers_opened_shares(
    tmp_path: Path, unrefused: None, keep: bool
) -> None:
    """R3.2.3, R3.2.4: what was named as an upload first is no opened shares."""
    ward = Ward(tmp_path, n=SITES, rounds=1, keep_evidence=keep)
    stolen = late_upload(ward)
    steal(ward, stolen)
    session = run_to(ward, "aggregate")
    assert session.responses[THIEF] == stolen
    assert not ward.payloads.is_public(stolen)
    honest = set(session.responses.values()) - {stolen}
    assert all(map(ward.payloads.is_public, honest | set(session.u3.values())))
    ward.start()  # a restart folds the log again, to the same
    assert not ward.payloads.may_fetch("site-g", stolen)
    ward.run()
    assert ward.ledger.state.rounds[1].outcome == "closed"
    assert ward.blobs.size(stolen) is None
    assert all((ward.blobs.size(digest) is not None) is keep for digest in honest)


def test_a_dropped_voters_vote_is_not_shown_as_anothers_opened_shares(
    tmp_path: Path, unrefused: None
) -> None:
    """R4.7.5: of the survivors only, though both events are of the same session."""
    ward = Ward(tmp_path, n=SITES, rounds=1, secure_aggregation__vote=VOTE)
    stolen = late_upload(ward, "score")
    steal(ward, stolen)
    session = run_to(ward, "count", "score")
    assert session.responses[THIEF] == stolen
    assert not ward.payloads.is_public(stolen)
    shown = (set(session.responses.values()) - {stolen}) | set(session.u3.values())
    assert all(map(ward.payloads.is_public, shown))


def test_a_response_after_the_count_shows_nothing(tmp_path: Path) -> None:
    """R4.7.5: nobody has checked the payload of a late answer, and no count was made with it."""
    ward = Ward(tmp_path, n=SITES, rounds=1, secure_aggregation__vote=VOTE)
    run_to(ward, "unmask", "score")
    ward.hospital(THIEF).refuses.add("unmask")
    session = run_to(ward, "count", "score")
    unnamed = ward.put(ward.hospital("site-a"), b"on its way, and named by nobody yet")
    name(ward, THIEF, "unmask.response", response(session), "opened-shares", unnamed)
    assert session.responses[THIEF] == unnamed
    assert not ward.payloads.is_public(unnamed)


def test_two_rows_that_name_one_payload_do_not_stop_the_export(tmp_path: Path, unrefused: None) -> None:
    ward = Ward(tmp_path, n=SITES, rounds=1, keep_evidence=True)
    ward.hospital(THIEF).refuses.add("unmask")
    session = run_to(ward, "unmask")
    steal(ward, session.shares[THIEF])
    ward.run()
    made = export_evidence(ward.folder.root, 1, tmp_path / "out")
    rows = EvidenceIndex.from_json((made / "evidence.json").read_bytes()).files
    twice = [row.role for row in rows if row.digest == session.shares[THIEF]]
    assert twice == ["opened-shares", "shares"]
    assert {path.name for path in (made / "blobs").glob("*") if not path.suffix} == {
        row.digest for row in rows
    }


def test_equal_updates_without_masks_are_taken_and_exported(tmp_path: Path) -> None:
    """Honest sites send the same bytes there, in one round and in the next."""
    ward = Ward(tmp_path, rounds=2, keep_evidence=True, secure_aggregation__mode="none")
    first, second = ward.hospital("site-a"), ward.hospital("site-b")
    update = first.update
    for hospital in (first, second):
        hospital.update = lambda study, round_number: update(study, 1)  # type: ignore[method-assign]
    ward.run()
    state = ward.ledger.state
    assert [found.outcome for found in state.rounds.values()] == ["closed", "closed"]
    named = [session.u3[site] for session in state.sids.values() for site in ("site-a", "site-b")]
    assert len(named) == 4
    assert len(set(named)) == 1
    assert (export_evidence(ward.folder.root, 1, tmp_path / "out") / "blobs" / named[0]).is_file()
