"""A private study at the coordinator: what the law refuses of its budget is refused live, with the reason."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fedmedlora_audit.event_data import DpSpent
from fedmedlora_coordinator.errors import PeerRefusedError
from fedmedlora_protos.wire import Reason
from fedmedlora_testkit.audit_charges import charge_of
from fedmedlora_testkit.hospital import FlakyStore
from fedmedlora_testkit.ward import Ward


@pytest.fixture(autouse=True)
def _fast(monkeypatch: pytest.MonkeyPatch) -> None:
    FlakyStore.arm(None)
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.fixture
def ward(tmp_path: Path) -> Ward:
    return Ward(tmp_path, rounds=2, private=True)


def test_a_private_study_comes_to_its_end_and_every_upload_is_charged(ward: Ward) -> None:
    # R4.13.7
    state = ward.run()
    assert state.released is not None
    assert ward.types().count("dp.spent") == ward.types().count("update.submitted") == 2 * 4
    twice = {spending.milli for spending in state.spent.values()}
    assert len(twice) == 1 and twice.pop() > charge_of(state, "nobody").epsilon_milli


def test_an_upload_without_a_charge_is_refused_live_and_says_why(ward: Ward) -> None:
    # R4.13.7
    unpaid = ward.hospitals[0]
    unpaid.charges = False
    ward.run(lambda s: s.session is not None and s.session.step == "upload")
    size, session = ward.ledger.size, ward.ledger.state.session
    assert session is not None and unpaid.site in session.u2
    with pytest.raises(PeerRefusedError) as caught:
        ward.act(unpaid)
    assert (caught.value.reason, caught.value.check) == (Reason.LAW_REFUSED, "D5")
    assert str(caught.value).endswith(f"{unpaid.site} uploads without a charge (dp.spent) in round 1")
    assert ward.ledger.size == size == ward.store.size()
    ward.drop(unpaid.site)
    ward.run(lambda s: len(s.closed_rounds) == 1)
    assert set(session.u3) == {hospital.site for hospital in ward.hospitals[1:]}


@pytest.mark.parametrize(
    ("lie", "check"),
    [
        ({"epsilon_milli": 1}, "D1"),
        ({"delta": "2e-5"}, "D2"),
        ({"steps": 51}, "D2"),
        ({"noise_milli": 999}, "D4"),
        ({"noise_milli": 400}, "D4"),
    ],
)
def test_a_charge_that_lies_is_refused_live(ward: Ward, lie: dict[str, object], check: str) -> None:
    hospital = ward.hospitals[0]
    ward.run(lambda s: s.round is not None and hospital.site in s.round.accepted)
    size = ward.ledger.size
    data: DpSpent = charge_of(ward.ledger.state, hospital.site, **lie)
    with pytest.raises(PeerRefusedError) as caught:
        ward.submit(hospital, "dp.spent", data, 1)
    assert (caught.value.reason, caught.value.check) == (Reason.LAW_REFUSED, check)
    assert ward.ledger.size == size


def test_a_charge_in_a_study_without_a_budget_is_refused_live(ward: Ward, tmp_path: Path) -> None:
    plain = Ward(tmp_path / "plain", rounds=1)
    hospital = plain.hospitals[0]
    plain.run(lambda s: s.round is not None and hospital.site in s.round.accepted)
    with pytest.raises(PeerRefusedError) as caught:
        plain.submit(hospital, "dp.spent", charge_of(ward.ledger.state, hospital.site), 1)
    assert caught.value.check == "K1"


def test_charges_are_the_same_after_a_restart(ward: Ward) -> None:
    ward.run(lambda s: len(s.closed_rounds) == 1)
    spent = ward.ledger.state.spent
    assert len(spent) == 4
    ward.store.close()
    ward.start()
    assert ward.ledger.state.spent == spent
    assert ward.run().released is not None
