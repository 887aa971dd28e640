"""Whole studies in one process: drop-outs at every step, aborts, and kills at every single write."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_audit.event_data import InSession, KeysBroadcast, UpdateSubmitted
from fedmedlora_audit.events import Object
from fedmedlora_audit.law import Session, waiting
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_core.adapter import Adapter
from fedmedlora_testkit.hospital import FlakyStore, Hospital
from fedmedlora_testkit.ward import Ward

ALL = ["site-a", "site-b", "site-c", "site-d"]
STEPS = ["train", "advertise", "share", "upload", "survivors", "unmask", "aggregate"]


@pytest.fixture(autouse=True)
def _unarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    """No kill planned, and no waiting for the disk: a killed process loses nothing that it wrote."""
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def counted(ward: Ward) -> list[list[str]]:
    """Survivors of each closed round, an empty list for an aborted one."""
    state = ward.ledger.state
    found = []
    for number in sorted(state.rounds):
        current = state.rounds[number]
        found.append(sorted(current.sessions[-1].u3) if current.outcome == "closed" else [])
    return found


def check_result(ward: Ward) -> None:
    """The released adapter is the plain weighted mean over exactly the counted hospitals."""
    released = Adapter.load(ward.folder.released)
    state = ward.ledger.state
    assert state.run_closed
    assert released.digest == state.base == state.released
    expected = ward.expected_vector(counted(ward))
    assert np.allclose(released.vector(), expected, atol=2e-6)


@pytest.mark.parametrize("mode", ["masks", "none"])
def test_a_study_without_faults_ends_with_the_weighted_mean(tmp_path: Path, mode: str) -> None:
    ward = Ward(tmp_path, secure_aggregation__mode=mode)
    ward.run()
    assert counted(ward) == [ALL, ALL]
    check_result(ward)
    facts = json.loads((ward.folder.released / "release.json").read_text())
    assert facts["rounds"] == 2
    assert (ward.folder.released / "charter.json").read_bytes() == ward.study.canonical_json()


def test_masks_and_none_give_bit_identical_adapters(tmp_path: Path) -> None:
    digests = set()
    for mode in ("masks", "none"):
        ward = Ward(tmp_path / mode, secure_aggregation__mode=mode)
        ward.run()
        digests.add(ward.ledger.state.base)
    assert len(digests) == 1


@pytest.mark.parametrize("step", STEPS)
def test_a_site_that_drops_out_at_a_step_does_not_stop_the_round(tmp_path: Path, step: str) -> None:
    ward = Ward(tmp_path)

    def reached(state: object) -> bool:
        now = waiting(ward.ledger.state)
        return now.round == 2 and now.step == step

    ward.run(reached)
    ward.drop("site-c")
    ward.run()
    survivors = counted(ward)[1]
    assert survivors == (
        ALL if step in ("survivors", "unmask", "aggregate") else ["site-a", "site-b", "site-d"]
    )
    check_result(ward)


def test_a_site_that_comes_back_takes_part_in_the_next_round(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=3)
    ward.run(lambda s: s.session is not None and s.session.step == "share" and s.round is not None)
    ward.drop("site-b")
    ward.run(lambda s: len(s.closed_rounds) == 1)
    ward.come_back("site-b")
    ward.run()
    assert counted(ward) == [["site-a", "site-c", "site-d"], ALL, ALL]
    check_result(ward)


def test_a_site_that_restarts_within_a_session_sits_it_out(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run(lambda s: s.session is not None and s.session.step == "upload" and bool(s.session.updates))
    ward.hospital("site-d").restart()
    ward.run()
    assert "attempt.erased" in ward.types()
    assert counted(ward) == [["site-a", "site-b", "site-c"]]
    check_result(ward)


def test_two_sites_that_restart_get_another_attempt_of_the_same_updates(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run(lambda s: s.session is not None and s.session.step == "upload")
    for site in ("site-c", "site-d"):
        ward.hospital(site).restart()
    ward.run()
    assert ward.types().count("session.opened") == 2
    assert counted(ward) == [ALL]
    check_result(ward)


def test_below_the_threshold_the_round_is_aborted_and_the_next_one_goes_on(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=2)
    ward.run(lambda s: s.session is not None and s.session.step == "share")
    ward.drop("site-c")
    ward.drop("site-d")
    ward.run(lambda s: s.rounds[1].outcome == "aborted")
    for site in ("site-c", "site-d"):
        ward.come_back(site)
    ward.run()
    assert counted(ward) == [[], ALL]
    assert ward.ledger.state.closed_rounds[0].round == 2
    check_result(ward)


def test_no_round_is_planned_while_too_few_sites_are_there(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.run(lambda s: len(s.signed) == 4)
    ward.drop("site-a")
    ward.drop("site-b")
    with pytest.raises(RuntimeError, match="everybody waits"):
        ward.run()
    assert "round.plan" not in ward.types()
    ward.come_back("site-a")
    ward.run()
    assert counted(ward) == [["site-a", "site-c", "site-d"]]


def test_a_site_that_refuses_its_shares_is_gone_after_the_steps_time(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    ward.hospital("site-a").refuses.add("share")
    before = ward.clock.seconds
    ward.run()
    assert ward.clock.seconds - before >= 300
    assert counted(ward) == [["site-b", "site-c", "site-d"]]
    failed = [e.event.data for e in ward.ledger.entries if e.event.type == "delivery.failed"]
    assert [f.model_dump() for f in failed] == [{"site": "site-a", "step": "share"}]


def test_evidence_is_shredded_or_kept_as_chosen(tmp_path: Path) -> None:
    for keep in (False, True):
        ward = Ward(tmp_path / str(keep), rounds=1, keep_evidence=keep)
        ward.run()
        session = next(iter(ward.ledger.state.sids.values()))
        held = [ward.blobs.size(digest) is not None for digest in session.u3.values()]
        assert held == [keep] * 4
        assert ("evidence.kept" if keep else "evidence.shredded") in ward.types()
        assert all(ward.blobs.size(digest) is not None for digest in session.u1.values())


def test_the_upload_of_a_site_that_dropped_out_does_not_stay(tmp_path: Path) -> None:
    # R3.2.4
    ward = Ward(tmp_path, rounds=1, keep_evidence=True)
    ward.run(lambda s: s.session is not None and s.session.step == "upload")
    late = ward.put(ward.hospital("site-d"), b"\x01" * ward.model.sizes()[0].ring)
    ward.drop("site-d")
    ward.run()
    assert ward.blobs.size(late) is None


def spoil(ward: Ward, site: str, step: str, change: Callable[[bytes], bytes]) -> None:
    """Let one hospital send something else than it should at a step."""
    honest = ward.payload

    def payload(hospital: Hospital, at: str, session: Session) -> bytes:
        content = honest(hospital, at, session)
        return change(content) if (hospital.site, at) == (site, step) else content

    ward.payload = payload  # type: ignore[method-assign, assignment]


def test_a_site_that_opens_a_wrong_share_is_passed_over(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    spoil(ward, "site-b", "unmask", lambda opened: opened[:-1] + bytes([opened[-1] ^ 1]))
    ward.run()
    assert counted(ward) == [ALL]
    check_result(ward)


def test_with_too_few_right_shares_the_round_is_refused(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    for site in ("site-b", "site-c"):
        spoil(ward, site, "unmask", lambda opened: opened[:-1] + bytes([opened[-1] ^ 1]))
    ward.run()
    assert counted(ward) == [[]]
    aborted = next(e.event for e in ward.ledger.entries if e.event.type == "round.aborted")
    assert aborted.reason == "refused"
    assert not ward.folder.released.exists()


def test_a_garbage_upload_is_noticed_in_the_sum(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    spoil(ward, "site-a", "upload", lambda upload: b"\x55" * len(upload))
    ward.run()
    assert counted(ward) == [[]]
    assert ward.ledger.state.base == ward.terms.initial_adapter


def test_keys_that_cannot_be_used_leave_their_site_out(tmp_path: Path) -> None:
    ward = Ward(tmp_path, rounds=1)
    spoil(ward, "site-c", "advertise", lambda keys: b"garbage")
    ward.run()
    assert counted(ward) == [["site-a", "site-b", "site-d"]]
    broadcast = next(e.event.data for e in ward.ledger.entries if e.event.type == "keys.broadcast")
    assert isinstance(broadcast, KeysBroadcast)
    assert [row.model_dump() for row in broadcast.left_out] == [{"id": "site-c", "reason": "malformed_key"}]


def test_consents_of_a_dead_attempt_do_not_block_the_next_one(tmp_path: Path) -> None:
    """G37: two consented, two lost their secrets; all four erase, then other survivors may be agreed on."""
    ward = Ward(tmp_path, rounds=1)
    ward.run(lambda s: s.session is not None and len(s.session.agreed) == 2)
    first = ward.ledger.state.session
    assert first is not None
    for site in ("site-c", "site-d"):
        ward.hospital(site).restart()
    ward.run(lambda s: s.session is not None and s.session.attempt == 2 and s.session.step == "upload")
    ward.drop("site-d")
    ward.run()
    assert sorted(first.erased) == ALL
    assert counted(ward) == [["site-a", "site-b", "site-c"]]
    check_result(ward)


def test_after_shares_were_opened_there_is_no_other_attempt(tmp_path: Path) -> None:
    # R5.3.3
    ward = Ward(tmp_path, rounds=2)
    ward.run(lambda s: s.session is not None and len(s.session.responses) == 2)
    for site in ("site-c", "site-d"):
        ward.hospital(site).restart()
    ward.run()
    assert counted(ward) == [[], ALL]
    types = ward.types()
    assert types.count("session.opened") == 2
    check_result(ward)


def test_a_site_that_names_anothers_payload_can_neither_read_nor_delete_it(tmp_path: Path) -> None:
    """Late events need no payload, so they can name any digest: the first role of a digest stands."""
    ward = Ward(tmp_path, rounds=2)
    ward.hospital("site-d").refuses.add("upload")
    ward.run(lambda s: s.session is not None and len(s.session.responses) == 3)
    session = ward.ledger.state.session
    assert session is not None
    hospital, upload = ward.hospital("site-d"), session.u3["site-a"]
    evidence = {*session.u3.values(), *session.responses.values()}
    assert not any(map(ward.payloads.is_public, evidence))
    ward.run(lambda s: s.session is not None and s.session.step == "aggregate")
    assert all(map(ward.payloads.is_public, {session.ring, *evidence})), "R3.2.3: once the sum is published"
    item = Object(role="masked-update", digest=session.ring, bytes=ward.model.sizes()[0].ring)
    late = UpdateSubmitted(sid=session.sid, view=session.view, h_u2=session.h_u2)
    ward.hand_in(hospital, ward.note(hospital, "update.submitted", late, session.round, objects=[item]))
    assert ward.payloads.is_public(session.ring)
    hospital.refuses.clear()
    ward.run(lambda s: s.session is not None and s.session.round == 2 and s.session.step == "advertise")
    second = ward.ledger.state.session
    assert second is not None
    thief = ward.hospital("site-b")
    keys = Object(role="keys", digest=upload, bytes=ward.model.sizes()[0].ring)
    assert ward.blobs.size(upload) is None, "shredded after its round"
    with pytest.raises(PeerRefusedError):
        note = ward.note(thief, "keys.advertised", InSession(sid=second.sid), 2, objects=[keys])
        ward.hand_in(thief, note)
    ward.run()
    assert ward.blobs.size(session.ring) == ward.model.sizes()[0].ring
    check_result(ward)
