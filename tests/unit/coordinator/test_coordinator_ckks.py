"""CKKS at the coordinator: it holds no key, adds nothing, and loses no study when the key holder is away."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_coordinator.payloads import Payloads
from fedmedlora_core.adapter import Adapter
from fedmedlora_testkit.ckks import key_pair
from fedmedlora_testkit.ckks_ward import CkksWard
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward

ALL = ["site-a", "site-b", "site-c", "site-d"]
STEPS = ["advertise", "share", "upload", "survivors", "unmask", "aggregate"]


@pytest.fixture(autouse=True)
def _unarmed(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


def outcomes(ward: Ward) -> list[str]:
    return [str(current.outcome) for _, current in sorted(ward.ledger.state.rounds.items())]


def counted(ward: Ward) -> list[list[str]]:
    rounds = [current for _, current in sorted(ward.ledger.state.rounds.items())]
    return [sorted(r.sessions[-1].u3) if r.outcome == "closed" else [] for r in rounds]


def rings(ward: Ward) -> list[str]:
    return [closed.ring for closed in ward.ledger.state.closed_rounds]


def ring_sum(ward: Ward, value: int = 1) -> bytes:
    """An invented sum in its published form."""
    packing = ward.study.packing()
    return b"".join(packing.frames_of(np.full(packing.count, value, dtype=np.uint32)))


@pytest.mark.parametrize("custody", ["holder", "shared"])
def test_encrypted_and_masked_studies_give_the_same_sums_bit_for_bit(tmp_path: Path, custody: str) -> None:
    """R6.16.3: the digests of the published ring sums are equal, round for round."""
    encrypted, masked = CkksWard(tmp_path / "ckks", custody=custody), Ward(tmp_path / "masks")
    encrypted.run()
    masked.run()
    assert counted(encrypted) == [ALL, ALL]
    assert rings(encrypted) == rings(masked)
    assert Adapter.load(encrypted.folder.released).digest == Adapter.load(masked.folder.released).digest


@pytest.mark.parametrize("step", STEPS)
def test_a_site_that_holds_no_key_may_drop_out_at_any_step(tmp_path: Path, step: str) -> None:
    ward = CkksWard(tmp_path)
    ward.hospital("site-b").refuses.add(step)
    ward.run(lambda state: bool(state.closed_rounds))
    uploaded = STEPS.index(step) > STEPS.index("upload")
    assert counted(ward)[0] == (ALL if uploaded else ["site-a", "site-c", "site-d"])


@pytest.mark.parametrize("step", STEPS[:-1])
def test_a_key_holder_that_drops_out_costs_the_round_and_not_the_study(tmp_path: Path, step: str) -> None:
    """R6.16.8: without the holder the round aborts, is logged, and reveals nothing; the next one runs."""
    ward = CkksWard(tmp_path, rounds=3)
    holder = ward.hospital("site-a")
    holder.refuses.add(step)
    ward.run(lambda state: bool(state.rounds) and state.rounds[1].outcome is not None)
    assert outcomes(ward) == ["aborted"]
    assert ward.types()[-1] == "round.aborted"
    holder.refuses.clear()
    ward.run()
    assert outcomes(ward)[1] == "closed"
    assert counted(ward)[1] == ALL


def test_no_round_is_planned_while_the_key_holder_is_away(tmp_path: Path) -> None:
    ward = CkksWard(tmp_path, rounds=1)
    ward.run(lambda state: state.run_opened)
    ward.drop("site-a")
    with pytest.raises(RuntimeError, match="waits for ever"):
        ward.run()
    ward.come_back("site-a")
    ward.run()
    assert outcomes(ward) == ["closed"]


def test_a_shared_key_needs_the_same_sum_from_the_threshold(tmp_path: Path) -> None:
    """Two of four holders sign other sums: no sum has T signatures, and none is published."""
    ward = CkksWard(tmp_path, custody="shared", rounds=1)
    other = ring_sum(ward)
    ward.lies = {"site-a": other, "site-b": ring_sum(ward, 2)}
    ward.run()
    assert outcomes(ward) == ["aborted"]
    assert rings(ward) == []


def test_one_lying_holder_of_a_shared_key_changes_nothing(tmp_path: Path) -> None:
    ward, masked = CkksWard(tmp_path / "c", custody="shared", rounds=1), Ward(tmp_path / "m", rounds=1)
    other = ring_sum(ward)
    ward.lies = {"site-a": other}
    ward.run()
    masked.run()
    assert rings(ward) == rings(masked)


# -- who may fetch what


def test_who_holds_the_key_fetches_the_survivors_uploads_and_nobody_else_does(tmp_path: Path) -> None:
    """R6.16.6."""
    ward = CkksWard(tmp_path, keep_evidence=True)
    ward.hospital("site-d").refuses.add("survivors")
    ward.run(lambda state: state.session is not None and len(state.session.updates) == 4)
    session = ward.ledger.state.session
    assert session is not None
    uploads = list(session.updates.values())
    assert not any(ward.payloads.may_fetch("site-a", digest) for digest in uploads), "not before U3 is fixed"
    ward.run(lambda state: bool(state.sids[session.sid].u3))
    assert all(ward.payloads.may_fetch("site-a", digest) for digest in session.u3.values())
    for site in ALL[1:]:
        assert not any(ward.payloads.may_fetch(site, digest) for digest in uploads)
    ward.run(lambda state: bool(state.closed_rounds))
    opened = [digest for site, digest in session.responses.items() if site != "site-a"]
    assert not any(ward.payloads.may_fetch("site-a", digest) for digest in opened)
    assert ward.payloads.may_fetch("site-b", session.ring)


def test_without_the_rule_every_member_would_fetch_every_upload(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Payloads, "may_fetch", lambda self, site, digest: digest in self._roles)
    ward = CkksWard(tmp_path, keep_evidence=True)
    ward.run(lambda state: bool(state.closed_rounds))
    session = next(iter(ward.ledger.state.sids.values()))
    assert all(ward.payloads.may_fetch("site-b", digest) for digest in session.u3.values())


def test_masked_uploads_stay_closed_to_all_members(tmp_path: Path) -> None:
    ward = Ward(tmp_path, keep_evidence=True)
    state = ward.run(lambda state: state.session is not None and state.session.step == "unmask")
    session = state.session
    assert session is not None
    assert not any(ward.payloads.may_fetch(site, d) for site in ALL for d in session.u3.values())


def test_an_upload_of_another_size_is_refused(tmp_path: Path) -> None:
    """R6.16.4: a plain vector where ciphertexts are due, or half a stream, is no payload of this study."""
    ward = CkksWard(tmp_path)
    ward.run(lambda state: state.session is not None and bool(state.session.u2))
    hospital, session = ward.hospital("site-b"), ward.ledger.state.session
    assert session is not None
    true = ward.payload(hospital, "upload", session)
    for bad in (true[:-8], true + bytes(8), bytes(ward.model.sizes()[0].ring)):
        ward.payload = lambda *_, bad=bad: bad  # type: ignore[method-assign]
        with pytest.raises(PeerRefusedError, match="bad_payload"):
            ward._act_in(hospital, "upload", session)


# -- what the coordinator does without


@pytest.mark.parametrize("package", ["fedmedlora_coordinator", "fedmedlora_audit"])
def test_coordinator_and_reviewer_never_import_the_library(package: str) -> None:
    names = {
        "fedmedlora_coordinator": ["aggregate", "conductor", "payloads", "model", "runtime", "service"],
        "fedmedlora_audit": ["verify", "law"],
    }[package]
    code = "import importlib, sys\nsys.modules['tenseal'] = None\n"
    code += "".join(f"importlib.import_module('{package}.{name}')\n" for name in names)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_coordinator_runs_a_ckks_study_without_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hospitals' library is there; whatever the conductor does must not ask for it."""
    key_pair()
    ward = CkksWard(tmp_path, rounds=1)
    move = ward.conductor.move

    async def without_the_library() -> object:
        with pytest.MonkeyPatch.context() as blocked:
            blocked.setattr("fedmedlora_crypto.ckks.library.library", lambda: 1 / 0)
            return await move()

    monkeypatch.setattr(ward.conductor, "move", without_the_library)
    ward.run()
    assert outcomes(ward) == ["closed"]
